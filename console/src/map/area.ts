// Which area to watch for a view of the map: somewhat more than is seen, so that a small move needs no new watch, and at most
// what the server allows.

export interface Box {
  readonly south: number;
  readonly west: number;
  readonly north: number;
  readonly east: number;
}

/** A box may be two degrees high and wide. A little less, for the rounding on the way. */
const SIDE_MAX = 1.999;
/** How much is watched beyond each edge, as a part of the view. */
const MARGIN = 0.25;
/** A box that is this many times as wide as the view brings much that is not seen. */
const TOO_WIDE = 4;

export function areaFor(view: Box): Box {
  const [south, north] = side(view.south, view.north, -90, 90);
  const [west, east] = side(view.west, view.east, -Infinity, Infinity);
  return { south, north, west, east };
}

/** Whether the area that is watched still serves the view. */
export function serves(area: Box, view: Box): boolean {
  const wanted = areaFor(view);
  // What the server's limit cuts off of the view needs no new watch, as long as the middle stays.
  const holds = (low: number, high: number, seenLow: number, seenHigh: number, wantedLow: number, wantedHigh: number) =>
    wantedHigh - wantedLow >= SIDE_MAX - 1e-9 && seenHigh - seenLow > SIDE_MAX
      ? Math.abs(low + high - wantedLow - wantedHigh) < 0.2
      : low <= seenLow && high >= seenHigh;
  return (
    holds(area.south, area.north, view.south, view.north, wanted.south, wanted.north) &&
    holds(area.west, area.east, view.west, view.east, wanted.west, wanted.east) &&
    area.east - area.west <= TOO_WIDE * Math.max(view.east - view.west, 0.005)
  );
}

/** Whether a part of the view cannot be watched. */
export function isCut(view: Box): boolean {
  return view.north - view.south > SIDE_MAX || view.east - view.west > SIDE_MAX;
}

/** A longitude from -180 to 180. Maps go on beyond that when they are dragged around the world. */
export function wrapped(lng: number): number {
  return ((((lng + 180) % 360) + 360) % 360) - 180;
}

function side(low: number, high: number, min: number, max: number): [number, number] {
  const seen = high - low;
  const middle = (low + high) / 2;
  const half = Math.min(SIDE_MAX, seen * (1 + 2 * MARGIN)) / 2;
  return [Math.max(min, middle - half), Math.min(max, middle + half)];
}
