// The drivers that the page knows of, kept as the messages of WatchDrivers say.
import { coordinates } from "../coordinates.js";
import type { Driver, WatchDriversResponse } from "../gen/waybill/fleet/v1/fleet_pb.js";
import { milliseconds, noteServerClock } from "../time.js";
import { prefersStill } from "../theme.js";
import { Cells } from "./groups.js";
import { toWorld } from "./mercator.js";
import { moveTo, standing, type Motion } from "./motion.js";

/** A fix that is older is no place to send anyone to. */
export const STALE_MS = 15_000;

export const KINDS = ["off", "stale", "free", "serving"] as const;
export type Kind = (typeof KINDS)[number];

export interface Dot {
  readonly id: string;
  readonly motion: Motion;
  orderId: string;
  isOffDuty: boolean;
  /** When the fix was made, by this machine's clock. */
  fixedAt: number;
}

export function kindOf(dot: Dot, now: number): Kind {
  if (now - dot.fixedAt > STALE_MS) return "stale";
  if (dot.isOffDuty) return "off";
  return dot.orderId === "" ? "free" : "serving";
}

export type Counts = Readonly<Record<Kind, number>>;

/** What a crowd's counts say: who is free, and who is not for one of the other reasons. */
export interface Crowd {
  readonly drivers: number;
  readonly free: number;
}

export class Fleet {
  readonly dots = new Map<string, Dot>();
  /** How many drivers there are where, instead of the dots, where there are too many. */
  readonly cells = new Cells();
  /** Until when something moves, by `performance.now()`. */
  movesUntil = 0;
  /** Whether the first messages came, and say which drivers there are. */
  isKnown = false;
  /** The ids that came since a reset, until all have. What is on screen stays there meanwhile. */
  #since: Set<string> | null = null;

  /** A stream begins: what the one before began to say is not said to its end. */
  begin(): void {
    this.#since = null;
  }

  apply(message: WatchDriversResponse): void {
    noteServerClock(message.now);
    const now = performance.now();
    if (message.reset) {
      this.#since = new Set();
      this.cells.clear();
    }
    this.cells.apply(message.cells);
    for (const driver of message.drivers) {
      this.#see(driver, now);
      this.#since?.add(driver.driverId);
    }
    for (const id of message.gone) this.dots.delete(id);
    if (message.more || this.#since === null) return;
    for (const id of this.dots.keys()) if (!this.#since.has(id)) this.dots.delete(id);
    this.#since = null;
    this.isKnown = true;
  }

  clear(): void {
    this.dots.clear();
    this.cells.clear();
    this.#since = null;
    this.isKnown = false;
  }

  counts(now = Date.now()): Counts {
    const counts = { off: 0, stale: 0, free: 0, serving: 0 };
    for (const dot of this.dots.values()) counts[kindOf(dot, now)] += 1;
    return counts;
  }

  /** The counts of a crowd. `null`: the drivers are there one by one. */
  crowd(): Crowd | null {
    return this.cells.size === 0 ? null : this.cells.total();
  }

  #see(driver: Driver, now: number): void {
    if (driver.position === undefined) return;
    const at = toWorld(...coordinates(driver.position));
    const fixedAt = Date.now() - (driver.age === undefined ? 0 : milliseconds(driver.age));
    const known = this.dots.get(driver.driverId);
    if (known === undefined) {
      this.dots.set(driver.driverId, {
        id: driver.driverId,
        motion: standing(at, now),
        orderId: driver.activeOrderId,
        isOffDuty: driver.offDuty,
        fixedAt,
      });
      return;
    }
    known.orderId = driver.activeOrderId;
    known.isOffDuty = driver.offDuty;
    known.fixedAt = fixedAt;
    moveTo(known.motion, at, now, prefersStill.matches);
    this.movesUntil = Math.max(this.movesUntil, known.motion.endsAt);
  }
}
