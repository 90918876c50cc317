// Protobuf's times and durations as the page's numbers, which are milliseconds.
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

export function milliseconds(duration: Duration): number {
  return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/** Since 1970. */
export function instant(timestamp: Timestamp | undefined): number {
  return timestamp === undefined ? Number.NaN : Number(timestamp.seconds) * 1000 + timestamp.nanos / 1e6;
}

// The server's clock less this machine's. Ages of what the server dated would else be wrong by as much as the clocks differ.
let skew = 0;

/** Takes note of the server's clock, as a message had it. */
export function noteServerClock(now: Timestamp | undefined): void {
  if (now !== undefined) skew = instant(now) - Date.now();
}

/** What the server's clock says about now. */
export const serverNow = (): number => Date.now() + skew;
