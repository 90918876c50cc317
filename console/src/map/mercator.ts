// The map's projection, as numbers from 0 to 1: what a frame then does for a dot is one multiplication and one subtraction.

export interface World {
  readonly x: number;
  readonly y: number;
}

const LAT_MAX = 85.0511287798;

export function toWorld(lat: number, lng: number): World {
  const held = Math.max(-LAT_MAX, Math.min(LAT_MAX, lat));
  const sin = Math.sin((held * Math.PI) / 180);
  return { x: lng / 360 + 0.5, y: 0.5 - Math.log((1 + sin) / (1 - sin)) / (4 * Math.PI) };
}

export function toLatLng(x: number, y: number): [number, number] {
  const n = Math.PI * (1 - 2 * y);
  return [(Math.atan(Math.sinh(n)) * 180) / Math.PI, (x - 0.5) * 360];
}

/** The metres between two near points. */
export function metres(a: World, b: World): number {
  const [lat] = toLatLng(a.x, a.y);
  return Math.hypot(a.x - b.x, a.y - b.y) * 40_075_017 * Math.cos((lat * Math.PI) / 180);
}
