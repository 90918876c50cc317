// The last ten minutes of the server's counts, and the rates that two of them make.
//
// They are kept as long as the page is loaded, so that one may look at the map meanwhile. A server that was restarted counts
// anew, and its first sample makes no rate.
import type { ShowHealthResponse } from "../gen/waybill/admin/v1/admin_pb.js";
import { AdminService } from "../gen/waybill/admin/v1/admin_pb.js";
import { FleetService } from "../gen/waybill/fleet/v1/fleet_pb.js";
import { LocationService } from "../gen/waybill/location/v1/location_pb.js";
import { OrderService } from "../gen/waybill/order/v1/order_pb.js";
import { TrackingService } from "../gen/waybill/tracking/v1/tracking_pb.js";
import { instant, milliseconds } from "../time.js";
import { quantile, sum } from "./quantile.js";

export const KEPT_MS = 10 * 60_000;

export interface Sample {
  /** By the server's clock, in seconds since 1970, as the charts want it. */
  readonly at: number;
  readonly calls: number;
  readonly errors: number;
  readonly fixes: number;
  /** In milliseconds. NaN: no call ended in the time. */
  readonly p50: number;
  readonly p99: number;
  readonly lag: number;
}

export interface MethodRate {
  readonly method: string;
  readonly isStream: boolean;
  readonly calls: number;
  readonly errors: number;
  readonly inFlight: number;
  readonly p50: number;
  readonly p99: number;
}

const STREAMS = new Set(
  [AdminService, FleetService, LocationService, OrderService, TrackingService].flatMap((service) =>
    service.methods.filter(({ methodKind }) => methodKind !== "unary").map(({ name }) => `${service.typeName}/${name}`),
  ),
);

let last: ShowHealthResponse | null = null;
let kept: Sample[] = [];

/** What the page shows after one more answer. */
export function take(health: ShowHealthResponse): { samples: readonly Sample[]; methods: readonly MethodRate[] } {
  const before = last;
  last = health;
  const at = instant(health.now);
  const isSame = before !== null && instant(before.startedAt) === instant(health.startedAt);
  const seconds = before === null ? 0 : (at - instant(before.now)) / 1000;
  const isRate = isSame && seconds > 0.2;
  const methods = methodRates(health, isRate ? before : null, seconds);
  if (isRate) {
    const latency = unaryCounts(health, before);
    const bounds = health.latencyBounds.map(milliseconds);
    kept.push({
      at: at / 1000,
      calls: sum(methods.map(({ calls }) => calls)),
      errors: sum(methods.map(({ errors }) => errors)),
      fixes: Number(health.fixesStored - before.fixesStored) / seconds,
      p50: quantile(latency, bounds, 0.5),
      p99: quantile(latency, bounds, 0.99),
      lag: Number(health.historyLagEntries),
    });
    kept = kept.filter((sample) => sample.at * 1000 > at - KEPT_MS);
  } else if (before !== null && !isSame) {
    kept = [];
  }
  return { samples: kept.slice(), methods };
}

function methodRates(health: ShowHealthResponse, before: ShowHealthResponse | null, seconds: number): MethodRate[] {
  const bounds = health.latencyBounds.map(milliseconds);
  return health.methods.map((method) => {
    const old = before?.methods.find((other) => other.method === method.method);
    const rate = (now: bigint, then: bigint) => (before === null ? 0 : Number(now - then) / seconds);
    const counts = differences(method.latencyCounts, old?.latencyCounts ?? []);
    return {
      method: method.method,
      isStream: STREAMS.has(method.method),
      calls: rate(method.calls, old?.calls ?? 0n),
      errors: rate(method.errors, old?.errors ?? 0n),
      inFlight: Number(method.inFlight),
      p50: before === null ? Number.NaN : quantile(counts, bounds, 0.5),
      p99: before === null ? Number.NaN : quantile(counts, bounds, 0.99),
    };
  });
}

/** How many unary calls ended in each bucket since then. A stream's life is no latency. */
function unaryCounts(health: ShowHealthResponse, before: ShowHealthResponse): number[] {
  const total: number[] = health.latencyBounds.map(() => 0).concat(0);
  for (const method of health.methods) {
    if (STREAMS.has(method.method)) continue;
    const old = before.methods.find((other) => other.method === method.method);
    differences(method.latencyCounts, old?.latencyCounts ?? []).forEach((count, bucket) => {
      total[bucket] = (total[bucket] ?? 0) + count;
    });
  }
  return total;
}

const differences = (now: readonly bigint[], then: readonly bigint[]): number[] =>
  now.map((count, bucket) => Number(count - (then[bucket] ?? 0n)));
