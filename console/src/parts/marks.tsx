// Small marks with a meaning: an order's status, a driver's state, an id. Each has a word: colour alone tells not everyone.
import { orderHref } from "../route.js";
import { shortId, statusWord } from "../format.js";
import type { OrderStatus } from "../gen/waybill/order/v1/order_pb.js";
import type { Kind } from "../map/fleet.js";

export function StatusMark({ status }: { status: OrderStatus }) {
  const { word, kind } = statusWord(status);
  return (
    <span class={`status status-${kind}`}>
      <span class="shape" aria-hidden="true" />
      {word}
    </span>
  );
}

export const KIND_WORD: Readonly<Record<Kind, string>> = {
  free: "Free",
  serving: "Serving",
  stale: "Stale",
  off: "Off duty",
};

export function DriverMark({ kind }: { kind: Kind | "waiting" }) {
  return <span class={`dot dot-${kind}`} aria-hidden="true" />;
}

export function OrderLink({ id }: { id: string }) {
  return (
    <a class="mono order-id" href={orderHref(id)} title={id}>
      {shortId(id)}
    </a>
  );
}
