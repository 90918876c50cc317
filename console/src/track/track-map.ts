// The tracking page's map: pickup, drop-off, and the driver's dot between its fixes.
import { coordinates } from "../coordinates.js";
import L from "leaflet";
import { baseMap } from "../map/base.js";
import { toLatLng, toWorld } from "../map/mercator.js";
import { moveTo, positionAt, standing, type Motion } from "../map/motion.js";
import { places } from "../map/places.js";
import { TrackingStatus, type WatchSharedResponse } from "../gen/waybill/tracking/v1/tracking_pb.js";
import { prefersStill } from "../theme.js";

export interface TrackMap {
  show(shared: WatchSharedResponse): void;
  remove(): void;
}

export function trackMap(element: HTMLElement): TrackMap {
  const { map, remove } = baseMap(element);
  L.control.zoom({ position: "bottomright" }).addTo(map);
  const icon = L.divIcon({ className: "driver", iconSize: [22, 22] });
  const marker = L.marker([0, 0], { icon, keyboard: false, interactive: false, alt: "Your driver" });
  let motion: Motion | null = null;
  let frame = 0;
  let hasPlaces = false;
  let hasView = false;
  /** Whether someone looks at a part of the map that they chose. */
  let isChosen = false;
  let bounds: L.LatLngBounds | null = null;
  map.on("dragstart", () => {
    isChosen = true;
  });
  element.addEventListener("wheel", () => {
    isChosen = true;
  }, { passive: true });

  const draw = () => {
    frame = 0;
    if (motion === null) return;
    const now = performance.now();
    const { x, y } = positionAt(motion, now);
    marker.setLatLng(toLatLng(x, y));
    if (now < motion.endsAt) frame = requestAnimationFrame(draw);
  };

  const look = (at: L.LatLngTuple | null) => {
    if (isChosen || bounds === null) return;
    const wanted = L.latLngBounds(bounds.getSouthWest(), bounds.getNorthEast());
    if (at !== null) wanted.extend(at);
    // Only when something has left the view: a map that moves at each fix is hard to look at.
    if (hasView && map.getBounds().contains(wanted)) return;
    // The sentence lies on the map's upper edge.
    map.fitBounds(wanted, { paddingTopLeft: [40, 120], paddingBottomRight: [40, 40], maxZoom: 16, animate: hasView });
    hasView = true;
  };
  return {
    show: ({ pickup, dropOff, driver, status }) => {
      if (!hasPlaces && pickup !== undefined) {
        bounds = places(map, pickup, dropOff);
        hasPlaces = true;
      }
      const position = driver?.position;
      const isUnseen = position === undefined && status === TrackingStatus.DRIVER_ASSIGNED;
      marker.getElement()?.classList.toggle("unseen", isUnseen);
      // Who drives on without being seen is last seen where it was; who does not come any more is not shown.
      if (isUnseen) return;
      if (position === undefined) {
        marker.remove();
        motion = null;
        return look(null);
      }
      const place = coordinates(position);
      const to = toWorld(...place);
      const now = performance.now();
      if (motion === null) {
        motion = standing(to, now);
        marker.setLatLng(place).addTo(map);
      } else {
        moveTo(motion, to, now, prefersStill.matches);
      }
      if (frame === 0) frame = requestAnimationFrame(draw);
      look(place);
    },
    remove: () => {
      cancelAnimationFrame(frame);
      remove();
    },
  };
}
