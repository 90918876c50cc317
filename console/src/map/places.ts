// The marks of where an order begins and where it ends. They are elements of the style sheet: no pictures are loaded.
import L from "leaflet";
import { coordinates } from "../coordinates.js";
import type { LatLng } from "../gen/waybill/location/v1/lat_lng_pb.js";

/** Puts the marks on the map. Returns what has to be seen. */
export function places(map: L.Map, pickup: LatLng, dropOff: LatLng | undefined): L.LatLngBounds {
  const bounds = L.latLngBounds([mark(map, pickup, "pickup", "Pickup")]);
  if (dropOff !== undefined) bounds.extend(mark(map, dropOff, "drop-off", "Drop-off"));
  return bounds;
}

function mark(map: L.Map, at: LatLng, name: string, title: string): L.LatLngTuple {
  const place = coordinates(at);
  const icon = L.divIcon({ className: `place place-${name}`, iconSize: [18, 18] });
  L.marker(place, { icon, pane: "overlayPane", keyboard: false, interactive: false, alt: title })
    .bindTooltip(title, { permanent: true, direction: "bottom", offset: [0, 8], className: "place-name" })
    .addTo(map);
  return place;
}
