// How long to wait before the next try. The waits grow and are jittered: after a restart of the server, its pages would
// else all come back at the same moment.

const FIRST_MS = 500;
const LONGEST_MS = 10_000;

/** @param failures how many tries in a row failed, from 1
 *  @param atLeast  what the server asked for (RetryInfo), in milliseconds */
export function backoff(failures: number, atLeast: number, random: () => number = Math.random): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 10));
  return Math.max(atLeast, ceiling / 2) + (random() * ceiling) / 2;
}
