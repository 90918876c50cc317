// Quantiles of a histogram.

/** The quantile of a histogram, taken as even within a bucket. What is beyond the last bound counts as that bound. */
export function quantile(counts: readonly number[], bounds: readonly number[], q: number): number {
  const total = sum(counts);
  if (total <= 0) return Number.NaN;
  let below = 0;
  for (const [bucket, count] of counts.entries()) {
    if (below + count >= q * total) {
      const low = bounds[bucket - 1] ?? 0;
      const high = bounds[bucket] ?? bounds.at(-1) ?? 0;
      return low + ((q * total - below) / count) * Math.max(0, high - low);
    }
    below += count;
  }
  return bounds.at(-1) ?? Number.NaN;
}

export const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
