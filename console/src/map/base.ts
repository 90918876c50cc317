// The map without what moves on it: a plain grid, other tiles if the deployment has some, the trails, and a scale bar.
import L from "leaflet";
import { settings } from "../settings.js";
import { colour, prefersStill, theme } from "../theme.js";
import { Trails } from "./trails.js";

export const SAN_FRANCISCO: L.LatLngTuple = [37.7749, -122.4194];

/** Longer than Leaflet's own animation of a zoom takes. */
const ZOOM_MS = 300;

export interface BaseMap {
  readonly map: L.Map;
  remove(): void;
}

export function baseMap(element: HTMLElement, options: L.MapOptions = {}): BaseMap {
  const isStill = prefersStill.matches;
  const map = L.map(element, {
    minZoom: 3,
    maxZoom: 18,
    zoomControl: false,
    attributionControl: false,
    zoomAnimation: !isStill,
    fadeAnimation: !isStill,
    inertia: !isStill,
    worldCopyJump: true,
    ...options,
  });
  L.control.scale({ position: "bottomleft", maxWidth: 120 }).addTo(map);

  grid().addTo(map);
  // The grid is for where there is nothing else.
  const trails = new Trails(colour("--trail"), (isInked) => element.classList.toggle("has-ground", isInked));
  trails.addTo(map);
  const stopTheme = theme.listen(() => trails.setInk(colour("--trail")));

  let isRemoved = false;
  void settings().then(({ tiles, attribution }) => {
    if (tiles === "" || isRemoved) return;
    L.tileLayer(tiles, { className: "tiles", zIndex: 0 }).addTo(map);
    if (attribution !== "") L.control.attribution({ prefix: false }).addAttribution(asText(attribution)).addTo(map);
  });

  const resized = new ResizeObserver(() => map.invalidateSize({ pan: false }));
  resized.observe(element);
  return {
    map,
    remove: () => {
      isRemoved = true;
      resized.disconnect();
      stopTheme();
      // A zoom that is under way looks at the map's elements once more when it ends, and would find none.
      map.stop();
      setTimeout(() => map.remove(), ZOOM_MS);
    },
  };
}

class Grid extends L.GridLayer {
  protected override createTile(): HTMLElement {
    return document.createElement("div");
  }
}

const grid = (): L.GridLayer => new Grid({ className: "grid", keepBuffer: 1 });

/** Leaflet puts an attribution into the page as HTML. */
function asText(text: string): string {
  const element = document.createElement("span");
  element.textContent = text;
  return element.innerHTML;
}
