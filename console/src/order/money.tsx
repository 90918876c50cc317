// The order's money: what was taken, held, given back and kept, and what was asked of the provider for it.
import { clock, dateTime, money, whole } from "../format.js";
import type { PaymentAttempt, PaymentDispute, PaymentEvent } from "../gen/waybill/admin/v1/admin_pb.js";
import type { MoneyView, OrderView, RefundView } from "./view.js";

const ORIGIN: Readonly<Record<string, string>> = {
  compensation: "by the saga",
  request: "on request",
  again: "made again",
  provider: "at the provider",
  dispute: "by the customer's bank",
  unverified: "past the provider",
};

export function MoneySection({ order }: { order: OrderView }) {
  return (
    <section class="panel-box" aria-labelledby="money">
      <h2 id="money">Money</h2>
      {order.money === null ? <p class="dim">Nothing was charged or held.</p> : <Payment payment={order.money} order={order} />}
      {order.refunds.length > 0 && <Refunds refunds={order.refunds} />}
      {order.disputes.length > 0 && <Disputes disputes={order.disputes} />}
      {order.attempts.length > 0 && <Attempts attempts={order.attempts} />}
      {order.events.length > 0 && <Events events={order.events} />}
    </section>
  );
}

function Payment({ payment, order }: { payment: MoneyView; order: OrderView }) {
  return (
    <dl class="facts">
      {payment.isHeld ? (
        <>
          <dt>Held</dt>
          <dd>{money(order.amount)}</dd>
        </>
      ) : (
        <>
          <dt>Taken</dt>
          <dd>{payment.captured === undefined ? "Nothing: the hold was released" : money(payment.captured)}</dd>
        </>
      )}
      <dt>{payment.isHeld ? "Since" : "Confirmed"}</dt>
      <dd title={dateTime(payment.chargedAt)}>{clock(payment.chargedAt)}</dd>
      {payment.refunded !== undefined && (
        <>
          <dt>Given back</dt>
          <dd>{money(payment.refunded)}</dd>
        </>
      )}
      {payment.kept !== undefined && (
        <>
          <dt>Kept as a fee</dt>
          <dd>{money(payment.kept)}</dd>
        </>
      )}
      {payment.providerId !== "" && (
        <>
          <dt>At the provider</dt>
          <dd class="mono cut" title={payment.providerId}>
            {payment.providerId}
          </dd>
        </>
      )}
    </dl>
  );
}

function Refunds({ refunds }: { refunds: readonly RefundView[] }) {
  return (
    <>
      <h3>Refunds</h3>
      <ul class="entries">
        {refunds.map((refund) => (
          <li key={refund.number} class={refund.state === "failed" ? "entry-bad" : ""}>
            <p>
              <b>{money(refund.amount)}</b> <span class="tag">{refund.state}</span>{" "}
              <span class="dim">
                {ORIGIN[refund.origin] ?? refund.origin} {clock(refund.createdAt)}
              </span>
            </p>
            {refund.reason !== "" && <p>{refund.reason}</p>}
            {refund.failure !== "" && <p class="bad">It failed: {refund.failure}</p>}
          </li>
        ))}
      </ul>
    </>
  );
}

function Disputes({ disputes }: { disputes: readonly PaymentDispute[] }) {
  return (
    <>
      <h3>Disputes</h3>
      <ul class="entries">
        {disputes.map((dispute) => (
          <li key={dispute.providerId} class={dispute.isOpen ? "entry-bad" : ""}>
            <p>
              <b>{money(dispute.amount)}</b> <span class="tag">{dispute.status.replaceAll("_", " ")}</span>{" "}
              <span class="dim">
                {dispute.reason.replaceAll("_", " ")}, opened {clock(dispute.openedAt)}
              </span>
            </p>
          </li>
        ))}
      </ul>
    </>
  );
}

function Attempts({ attempts }: { attempts: readonly PaymentAttempt[] }) {
  return (
    <details class="fold">
      <summary>
        Asked of the provider <span class="dim">{whole(attempts.length)}</span>
      </summary>
      <ul class="entries">
        {attempts.map((attempt) => (
          <li key={attempt.providerKey}>
            <p>
              <b>
                {attempt.operation} {whole(attempt.number)}
              </b>{" "}
              <span class="tag">{attempt.state.replaceAll("_", " ")}</span>{" "}
              <span class="dim">
                sent {attempt.sends === 1 ? "once" : `${whole(attempt.sends)} times`}
                {attempt.lastSentAt !== undefined && `, last ${clock(attempt.lastSentAt)}`}
              </span>
            </p>
            {attempt.lastError !== "" && <p class="bad">{attempt.lastError}</p>}
            {attempt.providerId !== "" && <p class="mono dim cut">{attempt.providerId}</p>}
          </li>
        ))}
      </ul>
    </details>
  );
}

function Events({ events }: { events: readonly PaymentEvent[] }) {
  return (
    <details class="fold">
      <summary>
        The provider's events <span class="dim">{whole(events.length)}</span>
      </summary>
      <ul class="entries">
        {events.map((event) => (
          <li key={event.eventId}>
            <p>
              {event.type} <span class="dim">{clock(event.receivedAt)}</span>
            </p>
          </li>
        ))}
      </ul>
    </details>
  );
}
