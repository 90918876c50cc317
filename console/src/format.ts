// Times, ages, money and words, as people of the browser's language read them.
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { FailureReason, OrderStatus, PaymentMode, type Money } from "./gen/waybill/order/v1/order_pb.js";
import { decimal } from "./format-money.js";
import { instant } from "./time.js";

export { asSentence } from "./sentence.js";
export { age } from "./format-age.js";
export { decimal, minorUnits } from "./format-money.js";

const DATE_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const DAY_AND_CLOCK = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const WHOLE = new Intl.NumberFormat();
const SHORT = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });

export const whole = (count: number | bigint): string => WHOLE.format(count);
export const short = (number: number): string => SHORT.format(number);

/** The whole of it, for where there is room, and for the hint of a short one. */
export function dateTime(timestamp: Timestamp | undefined): string {
  return timestamp === undefined ? "" : DATE_TIME.format(instant(timestamp));
}

/** The time of today, or the day and the time. */
export function clock(timestamp: Timestamp | undefined, now = Date.now()): string {
  if (timestamp === undefined) return "";
  const at = instant(timestamp);
  const isToday = new Date(at).toDateString() === new Date(now).toDateString();
  return (isToday ? CLOCK : DAY_AND_CLOCK).format(at);
}

/** A short duration, such as "3.4 ms" or "1.2 s". */
export function duration(ms: number): string {
  if (!Number.isFinite(ms)) return "–";
  return ms < 1000 ? `${short(ms)} ms` : `${short(ms / 1000)} s`;
}

export function money(amount: Money | undefined): string {
  if (amount === undefined) return "";
  const text = decimal(amount.minorUnits, amount.currencyCode);
  try {
    const format = new Intl.NumberFormat(undefined, { style: "currency", currency: amount.currencyCode });
    // As a string, which is exact. Its type asks for a number that looks like one.
    return format.format(text as `${number}`);
  } catch {
    return `${text} ${amount.currencyCode}`;
  }
}

/** The last characters of a UUIDv7: its first ones are a time, and are alike for orders of one hour. */
export function shortId(id: string): string {
  return id.length > 13 ? `…${id.slice(-8)}` : id;
}

export interface StatusWord {
  readonly word: string;
  /** The shape and colour, a class of the style sheet. */
  readonly kind: "wait" | "work" | "good" | "bad" | "back";
}

const STATUS: Readonly<Record<OrderStatus, StatusWord>> = {
  [OrderStatus.UNSPECIFIED]: { word: "Unknown", kind: "wait" },
  [OrderStatus.STARTED]: { word: "Started", kind: "work" },
  [OrderStatus.CHARGING]: { word: "Charging", kind: "work" },
  [OrderStatus.CHARGED]: { word: "Looking for a driver", kind: "wait" },
  [OrderStatus.REFUNDING]: { word: "Refunding", kind: "work" },
  [OrderStatus.SUCCEEDED]: { word: "Succeeded", kind: "good" },
  [OrderStatus.FAILED]: { word: "Failed", kind: "bad" },
  [OrderStatus.REFUNDED]: { word: "Refunded", kind: "back" },
};

export const statusWord = (status: OrderStatus): StatusWord => STATUS[status] ?? STATUS[OrderStatus.UNSPECIFIED];

/** Statuses by which orders are listed, in the order in which an order goes through them. */
export const LISTED = [
  OrderStatus.STARTED,
  OrderStatus.CHARGING,
  OrderStatus.CHARGED,
  OrderStatus.SUCCEEDED,
  OrderStatus.REFUNDING,
  OrderStatus.REFUNDED,
  OrderStatus.FAILED,
] as const;

/** A status by its name in the database, as an order's file has it. */
export function statusNamed(name: string): OrderStatus {
  const status = OrderStatus[name.toUpperCase() as keyof typeof OrderStatus];
  return typeof status === "number" ? status : OrderStatus.UNSPECIFIED;
}

export const statusName = (status: OrderStatus): string => (OrderStatus[status] ?? "").toLowerCase();

export function failureNamed(name: string): FailureReason {
  const reason = FailureReason[name.toUpperCase() as keyof typeof FailureReason];
  return typeof reason === "number" ? reason : FailureReason.UNSPECIFIED;
}

export function paymentModeWord(mode: PaymentMode): string {
  if (mode === PaymentMode.CAPTURE_AT_ASSIGNMENT) return "Held, and captured at the assignment";
  if (mode === PaymentMode.CAPTURE_AT_COMPLETION) return "Held, and captured at the completion";
  return "Charged first";
}
