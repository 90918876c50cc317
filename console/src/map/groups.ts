// Where an area has more drivers than the server sends one by one, it counts them in cells. They are put together into groups
// that are large enough on the screen to be read.
import { coordinates } from "../coordinates.js";
import type { Cell } from "../gen/waybill/fleet/v1/fleet_pb.js";
import { toWorld, type World } from "./mercator.js";

export interface Counted extends World {
  /** In hundredths of a degree, from the south pole and the date line. */
  readonly row: number;
  readonly column: number;
  readonly drivers: number;
  readonly free: number;
}

export interface Group extends World {
  readonly drivers: number;
  readonly free: number;
}

/** The cells of a map, by their place. */
export class Cells {
  readonly #cells = new Map<string, Counted>();

  get size(): number {
    return this.#cells.size;
  }

  apply(cells: readonly Cell[]): void {
    for (const { centre, drivers, free } of cells) {
      if (centre === undefined) continue;
      const [latitude, longitude] = coordinates(centre);
      const row = Math.floor((latitude + 90) * 100);
      const column = Math.floor((longitude + 180) * 100);
      const key = `${row} ${column}`;
      if (drivers === 0) this.#cells.delete(key);
      else this.#cells.set(key, { ...toWorld(latitude, longitude), row, column, drivers, free });
    }
  }

  clear(): void {
    this.#cells.clear();
  }

  total(): { drivers: number; free: number } {
    let drivers = 0;
    let free = 0;
    for (const cell of this.#cells.values()) {
      drivers += cell.drivers;
      free += cell.free;
    }
    return { drivers, free };
  }

  /** Groups of `side` times `side` cells, each in the middle of its drivers. */
  groups(side: number): Group[] {
    const sums = new Map<string, { x: number; y: number; drivers: number; free: number }>();
    for (const { row, column, x, y, drivers, free } of this.#cells.values()) {
      const key = `${Math.floor(row / side)} ${Math.floor(column / side)}`;
      const sum = sums.get(key) ?? { x: 0, y: 0, drivers: 0, free: 0 };
      sum.x += x * drivers;
      sum.y += y * drivers;
      sum.drivers += drivers;
      sum.free += free;
      sums.set(key, sum);
    }
    return [...sums.values()].map(({ x, y, drivers, free }) => ({ x: x / drivers, y: y / drivers, drivers, free }));
  }
}

/** How many cells wide a group is, so that it is as wide on the screen as its circle may be. */
export function sideFor(zoom: number): number {
  const cellPx = (256 * 2 ** zoom) / 36_000;
  return 2 ** Math.max(0, Math.ceil(Math.log2(56 / cellPx)));
}
