// What happened to an order, in sentences.
import { age } from "../format.js";
import { FailureReason, OrderStatus } from "../gen/waybill/order/v1/order_pb.js";
import { instant } from "../time.js";
import { serving, type Driven, type Line, type OrderView } from "./view.js";

/** Titles of the log's lines, by step and result. */
const TITLES: Readonly<Record<string, string>> = {
  "create succeeded": "Order accepted",
  "create requested": "Order accepted",
  "create started": "Order accepted",
  "charge started": "Payment requested at the provider",
  "charge succeeded": "Payment confirmed",
  "charge failed": "Payment declined",
  "charge unknown": "Payment without a definite answer",
  "charge postponed": "Payment is tried again later",
  "assign succeeded": "Driver assigned",
  "assign failed": "No driver found",
  "assign postponed": "Search goes on later",
  "capture started": "Capture requested at the provider",
  "capture succeeded": "Captured",
  "capture failed": "Capture failed",
  "capture unknown": "Capture without a definite answer",
  "capture postponed": "Capture is tried again later",
  "void started": "Release of the hold requested",
  "void succeeded": "Hold released",
  "void unknown": "Release of the hold without a definite answer",
  "void postponed": "Release of the hold is tried again later",
  "refund requested": "Refund asked for",
  "refund started": "Refund requested at the provider",
  "refund succeeded": "Refunded",
  "refund failed": "Refund failed",
  "refund unknown": "Refund without a definite answer",
  "refund postponed": "Refund is tried again later",
  "cancel requested": "Cancellation asked for",
  "complete requested": "Completion asked for",
  "complete succeeded": "Service completed",
  "release requested": "Driver's release asked for",
  "release succeeded": "Driver released",
  "retry requested": "Retried by an operator",
  "resolve requested": "Resolved by an operator",
};

export function title(line: Line): string {
  const known = TITLES[`${line.step} ${line.status}`];
  if (known !== undefined) return known;
  const text = `${line.step.replaceAll("_", " ")} ${line.status}`;
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** How a line went, for its mark. */
export function tone(line: Line): "good" | "bad" | "wait" | "plain" {
  if (line.status === "succeeded") return "good";
  if (line.status === "failed") return "bad";
  if (line.status === "unknown" || line.status === "postponed") return "wait";
  return "plain";
}

/** Where the order stands, as one sentence. */
export function standing(order: OrderView): string {
  const why = because(order);
  const driver = serving(order);
  switch (order.status) {
    case OrderStatus.STARTED:
      return "Accepted. Nothing was sent to the payment provider yet.";
    case OrderStatus.CHARGING:
      return "The payment is under way. Its outcome is not known yet.";
    case OrderStatus.CHARGED:
      return order.drivers.length > 0 ? "Paid. Another driver is looked for." : "Paid. A driver is looked for.";
    case OrderStatus.REFUNDING:
      return `The money is on its way back: ${why}.`;
    case OrderStatus.REFUNDED:
      return `${order.money?.captured === undefined ? "Hold released" : "Refunded"}: ${why}.`;
    case OrderStatus.FAILED:
      return `Failed: ${why}. Nothing was charged.`;
    case OrderStatus.SUCCEEDED:
      return driver === undefined ? `Completed by ${order.drivers.at(-1)?.driverId ?? "its driver"}.` : `${driver.driverId} serves it.`;
    default:
      return "This page does not know its status: load it again.";
  }
}

function because(order: OrderView): string {
  switch (order.failure) {
    case FailureReason.PAYMENT_DECLINED:
      return "the payment was declined";
    case FailureReason.NO_DRIVER:
      return noDriver(order);
    case FailureReason.CANCELLED:
      return "the order was cancelled";
    case FailureReason.PAYMENT_TIMED_OUT:
      return "the payment was not confirmed in time";
    default:
      return "the reason was not given";
  }
}

/** Why no driver was found, as its log says where it may be read; and for how long one was looked for: from the payment, or the release of
 *  the one before, to the end of the search. */
function noDriver(order: OrderView): string {
  const end = order.lines.findLast((line) => line.step === "assign" && line.status === "failed");
  const why = end?.detail || "no free driver was near";
  if (end === undefined) return why;
  const until = instant(end.at);
  const begins = (line: Line) => line.status === "succeeded" && (line.step === "charge" || line.step === "release");
  const begin = order.lines.findLast((line) => begins(line) && instant(line.at) <= until);
  if (begin === undefined) return why;
  return `${why}, looked for ${age(Math.round((until - instant(begin.at)) / 1000) * 1000)}`;
}

/** Why a driver does not serve the order any more. */
export function release(driver: Driven): string {
  switch (driver.why) {
    case "":
      return "serves it";
    case "completed":
      return "completed it";
    case "cancelled":
      return "released: the order was cancelled";
    case "declined":
      return "passed over: declined it, or was released from it";
    case "silent":
      return "passed over: was not seen any more";
    default:
      return `released: ${driver.why}`;
  }
}
