// One order as the page shows it: an operator's file of it, or what everyone else may see, in one form.
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { failureNamed, statusNamed } from "../format.js";
import type { OrderFile, PaymentAttempt, PaymentDispute, PaymentEvent } from "../gen/waybill/admin/v1/admin_pb.js";
import { RefundStatus, type FailureReason, type Money, type Order, type OrderStatus } from "../gen/waybill/order/v1/order_pb.js";

export interface Line {
  readonly at: Timestamp | undefined;
  readonly step: string;
  readonly status: string;
  readonly detail: string;
  /** Who asked for it, or who wrote it. Empty where that is not shown. */
  readonly who: string;
  readonly round: number;
}

export interface Driven {
  readonly driverId: string;
  readonly assignedAt: Timestamp | undefined;
  readonly releasedAt: Timestamp | undefined;
  readonly why: string;
}

export interface RefundView {
  readonly number: number;
  readonly amount: Money | undefined;
  readonly state: string;
  readonly origin: string;
  readonly reason: string;
  readonly failure: string;
  readonly createdAt: Timestamp | undefined;
}

export interface MoneyView {
  readonly chargedAt: Timestamp | undefined;
  readonly captured: Money | undefined;
  readonly refunded: Money | undefined;
  readonly kept: Money | undefined;
  readonly isHeld: boolean;
  readonly providerId: string;
}

export interface OrderView {
  readonly id: string;
  readonly userId: string;
  readonly amount: Money | undefined;
  readonly status: OrderStatus;
  readonly failure: FailureReason;
  readonly createdAt: Timestamp | undefined;
  readonly updatedAt: Timestamp | undefined;
  readonly needsAttention: string;
  /** What its driver must be able to do. */
  readonly tags: readonly string[];
  readonly lines: readonly Line[];
  readonly drivers: readonly Driven[];
  readonly money: MoneyView | null;
  readonly refunds: readonly RefundView[];
  readonly attempts: readonly PaymentAttempt[];
  readonly disputes: readonly PaymentDispute[];
  readonly events: readonly PaymentEvent[];
}

export function fromFile(file: OrderFile): OrderView {
  const { payment } = file;
  return {
    id: file.orderId,
    userId: file.userId,
    amount: file.amount,
    status: statusNamed(file.status),
    failure: failureNamed(file.failureReason),
    createdAt: file.createdAt,
    updatedAt: file.updatedAt,
    needsAttention: file.needsAttention,
    tags: file.requiredTags,
    lines: file.steps.map((line) => ({
      at: line.createdAt,
      step: line.step,
      status: line.status,
      detail: line.detail,
      who: line.requestedBy === "" ? line.actor : line.requestedBy,
      round: line.round,
    })),
    drivers: file.assignments.map((driver) => ({
      driverId: driver.driverId,
      assignedAt: driver.assignedAt,
      releasedAt: driver.releasedAt,
      why: driver.releaseReason,
    })),
    money:
      payment === undefined
        ? null
        : {
            chargedAt: payment.chargedAt,
            captured: payment.capturedAmount,
            refunded: payment.refundAmount,
            kept: payment.keptAmount,
            isHeld: payment.capturedAmount === undefined,
            providerId: payment.providerChargeId,
          },
    refunds: file.refunds.map((refund) => ({
      number: refund.number,
      amount: refund.amount,
      state: refund.state,
      origin: refund.origin,
      reason: refund.reason,
      failure: refund.failure,
      createdAt: refund.createdAt,
    })),
    attempts: file.attemptsAtProvider,
    disputes: file.disputes,
    events: file.events,
  };
}

export function fromOrder(order: Order): OrderView {
  const { payment, assignment } = order;
  return {
    id: order.orderId,
    userId: order.userId,
    amount: order.amount,
    status: order.status,
    failure: order.failureReason,
    createdAt: order.createdAt,
    updatedAt: order.updatedAt,
    needsAttention: "",
    tags: order.requiredTags,
    lines: order.steps.map((step) => ({
      at: step.createdAt,
      step: step.step,
      status: step.status,
      detail: step.detail,
      who: "",
      round: 0,
    })),
    drivers:
      assignment === undefined
        ? []
        : [
            {
              driverId: assignment.driverId,
              assignedAt: assignment.assignedAt,
              releasedAt: assignment.releasedAt,
              why: assignment.releaseReason,
            },
          ],
    money:
      payment === undefined
        ? null
        : {
            chargedAt: payment.chargedAt,
            captured: payment.capturedAmount,
            refunded: payment.refundAmount,
            kept: payment.feeAmount,
            isHeld: payment.isHeld,
            providerId: "",
          },
    refunds: (payment?.refunds ?? []).map((refund) => ({
      number: refund.number,
      amount: refund.amount,
      state: refundState(refund.status),
      origin: "",
      reason: refund.reason,
      failure: "",
      createdAt: refund.createdAt,
    })),
    attempts: [],
    disputes: [],
    events: [],
  };
}

/** The driver who serves it now. */
export function serving(order: OrderView): Driven | undefined {
  return order.drivers.find((driver) => driver.releasedAt === undefined);
}

function refundState(status: RefundStatus): string {
  if (status === RefundStatus.PENDING) return "open";
  return (RefundStatus[status] ?? "").toLowerCase();
}
