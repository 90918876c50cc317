// What can be done about an order, by whom and when: each act with its fields and its call. The server has the last word on
// all of it; what is certain to be refused is not offered.
import { decimal, minorUnits, money } from "../format.js";
import { Outcome } from "../gen/waybill/admin/v1/admin_pb.js";
import { OrderStatus, RefundStatus, type Money } from "../gen/waybill/order/v1/order_pb.js";
import { ACT_MS, adminService, orderService } from "../rpc.js";
import { statusWord } from "../format.js";
import { serving, type OrderView } from "./view.js";

export type Values = Readonly<Record<string, string>>;

export interface FieldSpec {
  readonly name: string;
  readonly label: string;
  readonly kind: "text" | "amount" | "choice" | "check";
  readonly hint?: string;
  readonly initial?: string;
  readonly isRequired?: boolean;
  readonly choices?: readonly (readonly [value: string, label: string])[];
  /** Which paths of the server's field violations are about it. */
  readonly paths: readonly string[];
  readonly isShown?: (values: Values) => boolean;
}

export interface Act {
  readonly name: string;
  readonly label: string;
  readonly title: string;
  readonly explain: string;
  readonly fields: readonly FieldSpec[];
  /** Whether it moves money or cannot be taken back. */
  readonly isGrave: boolean;
  /** What is wrong with the values, by field, as far as the page can say. */
  check?(values: Values): Readonly<Record<string, string>>;
  /** Does it. `key` is the dialog's own, the same at each repeat. Returns what was done, as a sentence. */
  run(values: Values, key: string): Promise<string>;
}

const LIMIT = { timeoutMs: ACT_MS };

const reasonField = (isRequired: boolean, hint: string): FieldSpec => ({
  name: "reason",
  label: isRequired ? "Reason" : "Reason (may be empty)",
  kind: "text",
  hint,
  isRequired,
  paths: ["reason"],
});

export function actsFor(order: OrderView, isOperator: boolean, operator: string): Act[] {
  return isOperator ? operatorActs(order, operator) : dispatcherActs(order);
}

function operatorActs(order: OrderView, operator: string): Act[] {
  const { status } = order;
  const hasFailedRefund = order.refunds.some((refund) => refund.state === "failed");
  const isResolvable =
    status === OrderStatus.CHARGING || status === OrderStatus.REFUNDING || (status === OrderStatus.SUCCEEDED && hasFailedRefund);
  const acts: Act[] = [];
  if (isUnfinished(order) || order.money !== null || order.needsAttention !== "") acts.push(retry(order, operator));
  if (isResolvable) acts.push(resolve(order, operator));
  if (status === OrderStatus.SUCCEEDED && order.money !== null) acts.push(refund(order));
  if (hasFailedRefund) acts.push(refundAgain(order, operator));
  if (canBeShared(order)) acts.push(share(order));
  return acts;
}

function dispatcherActs(order: OrderView): Act[] {
  const driver = serving(order);
  const isOver = order.status === OrderStatus.REFUNDED || order.status === OrderStatus.FAILED;
  const isCompleted = order.status === OrderStatus.SUCCEEDED && driver === undefined;
  const acts: Act[] = [];
  if (driver !== undefined) acts.push(releaseDriver(order, driver.driverId));
  if (canBeShared(order)) acts.push(share(order));
  if (!isOver && !isCompleted) acts.push(cancel(order, driver !== undefined));
  return acts;
}

const SETTLED = [OrderStatus.SUCCEEDED, OrderStatus.REFUNDED, OrderStatus.FAILED];

const isUnfinished = ({ status }: OrderView): boolean => !SETTLED.includes(status);

function canBeShared(order: OrderView): boolean {
  const { status } = order;
  if (status === OrderStatus.SUCCEEDED) return serving(order) !== undefined;
  return status === OrderStatus.STARTED || status === OrderStatus.CHARGING || status === OrderStatus.CHARGED;
}

function retry(order: OrderView, operator: string): Act {
  return {
    name: "retry",
    label: isUnfinished(order) ? "Retry" : "Check payment",
    title: isUnfinished(order) ? "Retry this order" : "Compare the payment with the provider's record",
    explain: isUnfinished(order)
      ? "A worker takes it on at once."
      : "What was missed is taken over, and the order's flag goes, unless a refund failed or a dispute is open.",
    fields: [reasonField(false, "It is written to the step log.")],
    isGrave: false,
    run: async ({ reason = "" }) => {
      const { leaseUntil } = await adminService.retryOrder({ orderId: order.id, operator, reason }, LIMIT);
      return leaseUntil === undefined ? "It is due now." : "It is due as soon as the worker that has it is done.";
    },
  };
}

function resolve(order: OrderView, operator: string): Act {
  const isCharging = order.status === OrderStatus.CHARGING;
  const choices = isCharging
    ? ([
        ["CHARGED", "The provider took the money"],
        ["NOT_CHARGED", "The provider took nothing, and never will"],
      ] as const)
    : ([["REFUNDED", "Money was returned to the customer"]] as const);
  return {
    name: "resolve",
    label: "Resolve",
    title: order.status === OrderStatus.SUCCEEDED ? "Resolve a failed refund" : "Resolve an unknown outcome",
    explain: "Say what became of the money. It is verified with the provider first, and the provider's record decides.",
    fields: [
      { name: "outcome", label: "What happened", kind: "choice", choices, initial: choices[0][0], isRequired: true, paths: ["outcome"] },
      {
        name: "unverified",
        label: "It was returned past the provider, which cannot confirm it",
        kind: "check",
        paths: ["unverified"],
        isShown: ({ outcome }) => outcome === "REFUNDED",
      },
      {
        name: "provider",
        label: "The provider's id of it",
        kind: "text",
        hint: "Of the payment or the refund. Past the provider: any reference to what was paid.",
        isRequired: true,
        paths: ["provider_id"],
        isShown: ({ outcome }) => outcome !== "NOT_CHARGED",
      },
      {
        name: "amount",
        label: `Amount in ${order.amount?.currencyCode ?? ""}`,
        kind: "amount",
        hint: "Empty: all that is owed.",
        paths: ["amount_minor_units"],
        isShown: ({ outcome, unverified }) => outcome === "REFUNDED" && unverified === "yes",
      },
      reasonField(true, "How it is known. It is written to the step log."),
    ],
    isGrave: true,
    check: ({ amount = "" }) => (amount.trim() === "" ? {} : amountProblem(amount, order)),
    run: async ({ outcome, provider = "", unverified, amount = "", reason = "" }) => {
      const isUnverified = outcome === "REFUNDED" && unverified === "yes";
      const { order: now } = await adminService.resolveOrder(
        {
          orderId: order.id,
          outcome: Outcome[outcome as keyof typeof Outcome],
          providerId: outcome === "NOT_CHARGED" ? "" : provider.trim(),
          unverified: isUnverified,
          operator,
          reason,
          amountMinorUnits: (isUnverified ? minorUnits(amount, currencyOf(order)) : null) ?? 0n,
        },
        LIMIT,
      );
      return now === undefined ? "It is resolved." : `It is resolved. The order's status is now: ${statusWord(now.status).word}.`;
    },
  };
}

function refund(order: OrderView): Act {
  const left = leftOf(order);
  return {
    name: "refund",
    label: "Refund",
    title: "Refund this order, or a part of it",
    explain: "The customer gets money back; the order stays succeeded. If no answer comes, send it again from this same dialog: it is refunded once.",
    fields: [
      {
        name: "amount",
        label: `Amount in ${currencyOf(order)}`,
        kind: "amount",
        hint: left === undefined ? "" : `At most ${money(left)} is left of the payment.`,
        initial: left === undefined ? "" : decimal(left.minorUnits, left.currencyCode),
        isRequired: true,
        paths: ["amount", "amount.minor_units", "amount.currency_code"],
      },
      reasonField(true, "Why, for people: at most 500 characters."),
    ],
    isGrave: true,
    check: ({ amount = "" }) => amountProblem(amount, order),
    run: async ({ amount = "", reason = "" }, key) => {
      const minor = minorUnits(amount, currencyOf(order)) ?? 0n;
      const answer = await orderService.refundOrder(
        { orderId: order.id, idempotencyKey: key, amount: { currencyCode: currencyOf(order), minorUnits: minor }, reason },
        LIMIT,
      );
      const made = answer.refund;
      if (made?.status === RefundStatus.FAILED) return "The refund failed for good at the provider. The order says why.";
      if (made?.status === RefundStatus.SUCCEEDED) return `${money(made.amount)} is refunded.`;
      return "The refund is decided, and on its way. The order shows when the provider has confirmed it.";
    },
  };
}

function refundAgain(order: OrderView, operator: string): Act {
  return {
    name: "refund-again",
    label: "Refund again",
    title: "Make the failed refunds again",
    explain: "Each refund that failed for good is replaced by a new one. Only where the customer did not get the money in another way.",
    fields: [reasonField(true, "It is written to the step log.")],
    isGrave: true,
    run: async ({ reason = "" }) => {
      await adminService.refundAgain({ orderId: order.id, operator, reason }, LIMIT);
      return "They are made again. The order shows when the provider has confirmed them.";
    },
  };
}

function cancel(order: OrderView, hasDriver: boolean): Act {
  return {
    name: "cancel",
    label: "Cancel",
    title: "Cancel this order",
    explain: "What was paid is refunded, a hold is released, and the driver is free again.",
    fields: hasDriver
      ? [
          {
            name: "fee",
            label: `Cancellation fee in ${currencyOf(order)} (may be empty)`,
            kind: "amount",
            hint: "What is kept of the payment.",
            paths: ["cancellation_fee", "cancellation_fee.minor_units", "cancellation_fee.currency_code"],
          },
        ]
      : [],
    isGrave: true,
    check: ({ fee = "" }) => (fee.trim() === "" ? {} : renamed(amountProblem(fee, order), "fee")),
    run: async ({ fee = "" }) => {
      const minor = minorUnits(fee, currencyOf(order));
      const cancellationFee = minor === null ? {} : { cancellationFee: { currencyCode: currencyOf(order), minorUnits: minor } };
      const answer = await orderService.cancelOrder({ orderId: order.id, ...cancellationFee }, LIMIT);
      return answer.order === undefined ? "It is cancelled." : `It is cancelled. Its status is now: ${statusWord(answer.order.status).word}.`;
    },
  };
}

function releaseDriver(order: OrderView, driverId: string): Act {
  return {
    name: "release",
    label: "Find another driver",
    title: `Release ${driverId}`,
    explain: "The order looks for the next nearest driver, and is not charged again. This driver is not offered it any more.",
    fields: [reasonField(true, "It is written to the step log.")],
    isGrave: true,
    run: async ({ reason = "" }) => {
      await orderService.releaseDriver({ orderId: order.id, driverId, reason }, LIMIT);
      return `${driverId} is released. Another driver is looked for.`;
    },
  };
}

function share(order: OrderView): Act {
  return {
    name: "share",
    label: "Share",
    title: "Make a link that follows this order",
    explain: "Whoever has the link sees where the order stands and where its driver is, and no names or amounts. It ends 15 minutes after the order does.",
    fields: [],
    isGrave: false,
    run: async () => {
      const { token } = await orderService.shareOrder({ orderId: order.id }, LIMIT);
      return `${location.origin}/t/#${token}`;
    },
  };
}

const currencyOf = (order: OrderView): string => order.amount?.currencyCode ?? "";

/** What is left to refund: what was taken, less what is on its way back or is back. */
function leftOf(order: OrderView): Money | undefined {
  const taken = order.money?.captured;
  if (taken === undefined) return undefined;
  const counts = (state: string) => state === "open" || state === "succeeded";
  const given = order.refunds.filter(({ state }) => counts(state)).reduce((sum, { amount }) => sum + (amount?.minorUnits ?? 0n), 0n);
  return { ...taken, minorUnits: taken.minorUnits > given ? taken.minorUnits - given : 0n };
}

function amountProblem(text: string, order: OrderView): Record<string, string> {
  const minor = minorUnits(text, currencyOf(order));
  if (minor !== null && minor > 0n) return {};
  return { amount: `Write an amount above 0, such as ${decimal(1990n, currencyOf(order))}.` };
}

function renamed(problems: Record<string, string>, name: string): Record<string, string> {
  return Object.fromEntries(Object.values(problems).map((problem) => [name, problem]));
}
