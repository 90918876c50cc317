// How the server is that answers: what it found of its dependencies, and what it did in the last ten minutes.
import { Code } from "@connectrpc/connect";
import { useState } from "preact/hooks";
import { age, duration, short, whole } from "../format.js";
import { Freshness } from "../freshness.js";
import type { ShowHealthResponse } from "../gen/waybill/admin/v1/admin_pb.js";
import { StaleBanner } from "../parts/banner.js";
import { RefusalNote } from "../parts/refusal.js";
import { usePoll } from "../poll.js";
import { adminService, READ_MS } from "../rpc.js";
import { instant, noteServerClock } from "../time.js";
import { Chart } from "./chart.js";
import { take, type MethodRate, type Sample } from "./samples.js";

const EVERY_MS = 2_000;

export function HealthPage() {
  const [freshness] = useState(() => new Freshness());
  const { answer, refusal } = usePoll(
    freshness,
    EVERY_MS,
    [],
    async (signal) => {
      const health = await adminService.showHealth({}, { signal, timeoutMs: READ_MS });
      noteServerClock(health.now);
      return { health, ...take(health) };
    },
    (why) => [Code.PermissionDenied, Code.Unauthenticated, Code.Unimplemented].includes(why.code),
  );
  return (
    <div class="sheet">
      <StaleBanner sources={[freshness]} />
      <h1 class="sr">Health</h1>
      {refusal !== null && <RefusalNote refusal={refusal} />}
      {answer === null && refusal === null && <p class="loading">Loading…</p>}
      {answer !== null && (
        <>
          <Standing health={answer.health} />
          <Charts samples={answer.samples} />
          <Methods methods={answer.methods} />
        </>
      )}
    </div>
  );
}

const STATUS_KIND: Readonly<Record<string, string>> = { ready: "good", "not ready": "bad", draining: "wait" };

function Standing({ health }: { health: ShowHealthResponse }) {
  const up = instant(health.now) - instant(health.startedAt);
  // That of a dependency that is checked is in the tile of its check.
  const own = health.breakers.filter(({ dependency }) => health.checks.every(({ name }) => name !== dependency));
  return (
    <section class="standings" aria-label="Standing">
      <div class="tile tile-wide">
        <p class={`status status-${STATUS_KIND[health.status] ?? "wait"} status-large`} data-status={health.status}>
          <span class="shape" aria-hidden="true" />
          {health.status.charAt(0).toUpperCase() + health.status.slice(1)}
        </p>
        <p class="dim">
          version {health.version}, up for {age(up)}
        </p>
      </div>
      {health.checks.map((check) => (
        <div key={check.name} class="tile">
          <p class={`status status-${check.isOk ? "good" : "bad"}`}>
            <span class="shape" aria-hidden="true" />
            {check.name}
          </p>
          <p class="dim">{check.message === "" ? (check.isOk ? "works" : "does not work") : check.message}</p>
          {health.breakers
            .filter(({ dependency }) => dependency === check.name)
            .map(({ state }) => (
              <p key={state} class={state === "closed" ? "dim" : "bad"}>
                {BREAKER[state] ?? state}
              </p>
            ))}
        </div>
      ))}
      {own.map((breaker) => (
        <div key={breaker.dependency} class="tile">
          <p class={`status status-${breaker.state === "closed" ? "good" : breaker.state === "open" ? "bad" : "wait"}`}>
            <span class="shape" aria-hidden="true" />
            {breaker.dependency}
          </p>
          <p class="dim">{BREAKER[breaker.state] ?? breaker.state}</p>
        </div>
      ))}
      <Count label="orders unfinished" value={health.ordersUnfinished} />
      <Count label="need attention" value={health.ordersNeedingAttention} isBad={health.ordersNeedingAttention > 0n} />
      <Count label="fixes stored" value={health.fixesStored} />
      <Count label="fixes refused" value={health.fixesRefused} isBad={health.fixesRefused > 0n} />
      <Count label="watches of drivers" value={health.fleetWatches} />
    </section>
  );
}

const BREAKER: Readonly<Record<string, string>> = {
  closed: "breaker closed: calls pass",
  open: "breaker open: calls are refused at once",
  "half open": "breaker half open: one call tries",
};

function Count({ label, value, isBad = false }: { label: string; value: bigint; isBad?: boolean }) {
  return (
    <div class={isBad ? "tile tile-bad" : "tile"}>
      <p class="big">{whole(value)}</p>
      <p class="dim">{label}</p>
    </div>
  );
}

function Charts({ samples }: { samples: readonly Sample[] }) {
  const at = samples.map((sample) => sample.at);
  const column = (name: keyof Sample) => samples.map((sample) => sample[name]);
  const rate = (value: number) => `${short(value)}/s`;
  return (
    <section class="charts" aria-label="The last ten minutes">
      <Chart title="Calls and errors" at={at} unit={rate} lines={[
        { label: "calls", colour: "--free", values: column("calls") },
        { label: "errors", colour: "--bad", values: column("errors") },
      ]} />
      <Chart title="Fixes stored" at={at} unit={rate} lines={[{ label: "fixes", colour: "--free", values: column("fixes") }]} />
      <Chart title="Time of calls, with the wait for a driver" at={at} unit={duration} lines={[
        { label: "half are faster", colour: "--free", values: column("p50") },
        { label: "99 % are faster", colour: "--serving", values: column("p99") },
      ]} />
      <Chart title="Not in the history yet" at={at} unit={short} lines={[{ label: "entries", colour: "--serving", values: column("lag") }]} />
    </section>
  );
}

/** Without its package, and with the service behind the method. What no one knows is one name. */
function MethodName({ name }: { name: string }) {
  const [service = "", method] = name.split("/");
  if (method === undefined) return <>{service}</>;
  return (
    <>
      <span class="dim">{service.split(".").at(-1)}/</span>
      {method}
    </>
  );
}

function Methods({ methods }: { methods: readonly MethodRate[] }) {
  const sorted = [...methods].sort((a, b) => b.calls - a.calls || a.method.localeCompare(b.method));
  return (
    <section aria-labelledby="methods">
      <h2 id="methods">Methods</h2>
      <table class="table">
        <thead>
          <tr>
            <th scope="col">Method</th>
            <th scope="col" class="number">Calls a second</th>
            <th scope="col" class="number">Errors a second</th>
            <th scope="col" class="number">In flight</th>
            <th scope="col" class="number">Half are faster</th>
            <th scope="col" class="number">99 % are faster</th>
          </tr>
        </thead>
        <tbody>
          {sorted.map((method) => (
            <tr key={method.method}>
              <td data-label="Method" title={method.method}>
                <MethodName name={method.method} />
              </td>
              <td data-label="Calls a second" class="number">{short(method.calls)}</td>
              <td data-label="Errors a second" class={method.errors > 0 ? "number bad" : "number"}>{short(method.errors)}</td>
              <td data-label="In flight" class="number">{whole(method.inFlight)}</td>
              <td data-label="Half are faster" class="number">{method.isStream ? "a stream" : duration(method.p50)}</td>
              <td data-label="99 % are faster" class="number">{method.isStream ? "" : duration(method.p99)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
