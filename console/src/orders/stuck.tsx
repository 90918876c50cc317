// The orders that need an operator: flagged ones, and those that take longer than they should.
import { Code } from "@connectrpc/connect";
import { useState } from "preact/hooks";
import { age, asSentence, dateTime, whole } from "../format.js";
import { Freshness } from "../freshness.js";
import type { UnfinishedOrder } from "../gen/waybill/admin/v1/admin_pb.js";
import { OrderStatus } from "../gen/waybill/order/v1/order_pb.js";
import { OrderLink, StatusMark } from "../parts/marks.js";
import { RefusalNote } from "../parts/refusal.js";
import { usePoll } from "../poll.js";
import { adminService, READ_MS } from "../rpc.js";
import { instant, noteServerClock } from "../time.js";

const EVERY_MS = 3_000;
const SHOWN = 20;
/** Nothing goes on by itself any more. */
const SETTLED = new Set([OrderStatus.SUCCEEDED, OrderStatus.FAILED, OrderStatus.REFUNDED]);

export function StuckOrders() {
  const [freshness] = useState(() => new Freshness());
  const { answer, refusal } = usePoll(
    freshness,
    EVERY_MS,
    [],
    async (signal) => {
      const listed = await adminService.listStuckOrders({ pageSize: SHOWN }, { signal, timeoutMs: READ_MS });
      noteServerClock(listed.now);
      return listed;
    },
    (why) => [Code.PermissionDenied, Code.Unauthenticated, Code.Unimplemented].includes(why.code),
  );
  if (refusal !== null) return <RefusalNote refusal={refusal} />;
  if (answer === null) return null;
  if (answer.orders.length === 0) {
    return (
      <p class="all-well">
        <span class="shape" aria-hidden="true" />
        No order needs attention.
      </p>
    );
  }
  const now = answer.now === undefined ? Date.now() : instant(answer.now);
  return (
    <section class="stuck" aria-labelledby="stuck-orders">
      <h2 id="stuck-orders">
        Needs attention <span class="count">{whole(BigInt(answer.orders.length) + answer.moreCount)}</span>
      </h2>
      <table class="table">
        <thead>
          <tr>
            <th scope="col">Since</th>
            <th scope="col">Order</th>
            <th scope="col">Status</th>
            <th scope="col">Why</th>
            <th scope="col">Next try</th>
          </tr>
        </thead>
        <tbody>
          {answer.orders.map((order) => (
            <Row key={order.orderId} order={order} now={now} />
          ))}
        </tbody>
      </table>
      {answer.moreCount > 0n && <p class="dim">And {whole(answer.moreCount)} more, which are younger.</p>}
    </section>
  );
}

function Row({ order, now }: { order: UnfinishedOrder; now: number }) {
  return (
    <tr>
      <td data-label="Since" title={dateTime(order.since)}>
        {age(now - instant(order.since))}
      </td>
      <td data-label="Order">
        <OrderLink id={order.orderId} />
      </td>
      <td data-label="Status">
        <StatusMark status={order.status} />
      </td>
      <td data-label="Why" class="why">
        {order.needsAttention === "" ? "It takes longer than a minute." : asSentence(order.needsAttention)}
        <span class="dim">
          {" "}
          {whole(order.attempts)} {order.attempts === 1 ? "try" : "tries"}, {whole(order.sends)} sent
        </span>
      </td>
      <td data-label="Next try">{nextTry(order, now)}</td>
    </tr>
  );
}

function nextTry(order: UnfinishedOrder, now: number): string {
  if (order.leaseOwner !== "") return "at work now";
  if (SETTLED.has(order.status)) return "waits for an operator";
  const wait = instant(order.nextRunAt) - now;
  return wait > 0 ? `in ${age(wait)}` : "due";
}
