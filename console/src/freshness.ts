// How old is what the page shows. Whoever receives news says so here; the banner reads it.
import { Cell } from "./cell.js";

/** Heartbeats come every 10 s, so what is silent for longer is broken. */
export const SILENCE_MS = 12_000;

export class Freshness {
  /** When the last news came, by this machine's clock, which goes on while it sleeps. NaN: none came yet. */
  readonly newsAt = new Cell(Number.NaN);
  /** When this page began to wait. */
  waitsSince = Date.now();
  /** Why there is no news, as a sentence. Empty if all is well. */
  readonly problem = new Cell("");

  news(): void {
    this.newsAt.value = Date.now();
    this.problem.value = "";
  }

  /** For how long there has been no news, as far as some were to be expected. */
  silentFor(now: number): number {
    const newsAt = this.newsAt.value;
    return now - Math.max(Number.isNaN(newsAt) ? 0 : newsAt, this.waitsSince);
  }

  /** The page was hidden, where nothing is received on purpose: waiting begins now. */
  resume(): void {
    this.waitsSince = Date.now();
  }
}
