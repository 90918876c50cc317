// One order: where it stands, what was done about it, its money, its drivers, and what can be done.
import { Code } from "@connectrpc/connect";
import { useEffect, useState } from "preact/hooks";
import { age, asSentence, clock, dateTime, money, paymentModeWord } from "../format.js";
import { Freshness } from "../freshness.js";
import type { Order } from "../gen/waybill/order/v1/order_pb.js";
import { StaleBanner } from "../parts/banner.js";
import { Icon } from "../parts/icons.js";
import { StatusMark } from "../parts/marks.js";
import { useServerNow } from "../parts/now.js";
import { RefusalNote } from "../parts/refusal.js";
import { usePoll } from "../poll.js";
import { adminService, orderService, READ_MS } from "../rpc.js";
import { instant } from "../time.js";
import { Actions } from "./actions.js";
import { Drivers } from "./drivers.js";
import { MoneySection } from "./money.js";
import { OrderMap } from "./order-map.js";
import { Timeline } from "./timeline.js";
import { fromFile, fromOrder, serving, type OrderView } from "./view.js";
import { standing } from "./words.js";

const EVERY_MS = 1_000;

interface Properties {
  id: string;
  isOperator: boolean;
  operator: string;
}

interface Answer {
  readonly view: OrderView;
  readonly order: Order | undefined;
}

export function OrderPage({ id, isOperator, operator }: Properties) {
  const [freshness] = useState(() => new Freshness());
  // Places do not change, and an operator's file has none: they are asked for once.
  const [places] = useState<{ order: Order | undefined }>(() => ({ order: undefined }));
  const { answer, refusal, now } = usePoll<Answer>(
    freshness,
    EVERY_MS,
    [id],
    async (signal) => {
      if (isOperator) {
        const file = adminService.showOrder({ orderId: id }, { signal, timeoutMs: READ_MS });
        places.order ??= (await orderService.getOrder({ orderId: id }, { signal, timeoutMs: READ_MS })).order;
        const shown = (await file).order;
        if (shown !== undefined) return { view: fromFile(shown), order: places.order };
      }
      const { order } = await orderService.getOrder({ orderId: id }, { signal, timeoutMs: READ_MS });
      if (order === undefined) throw new Error("an answer without its order");
      return { view: fromOrder(order), order };
    },
    (why) => [Code.NotFound, Code.InvalidArgument, Code.PermissionDenied, Code.Unauthenticated].includes(why.code),
  );
  useEffect(() => {
    document.title = `Order ${id.slice(-8)} · Waybill`;
  }, [id]);
  return (
    <div class="sheet">
      <StaleBanner sources={[freshness]} />
      <p class="crumb">
        <a href="#/orders">
          <Icon name="back" />
          Orders
        </a>
      </p>
      {refusal !== null && <RefusalNote refusal={refusal} />}
      {answer === null && refusal === null && <p class="loading">Loading…</p>}
      {answer !== null && <Shown answer={answer} isOperator={isOperator} operator={operator} refresh={now} />}
    </div>
  );
}

interface ShownProperties {
  answer: Answer;
  isOperator: boolean;
  operator: string;
  refresh(): void;
}

function Shown({ answer: { view, order }, isOperator, operator, refresh }: ShownProperties) {
  const driver = serving(view);
  return (
    <article class="order">
      <header class="order-head">
        <div>
          <h1>
            <span class="sr">Order </span>
            <span class="mono id">{view.id}</span>
          </h1>
          <p class="standing" role="status">
            {standing(view)}
          </p>
        </div>
        <StatusMark status={view.status} />
      </header>
      {view.needsAttention !== "" && (
        <p class="note note-warn">
          <b>Needs attention.</b> {asSentence(view.needsAttention)}
        </p>
      )}
      <Actions order={view} isOperator={isOperator} operator={operator} refresh={refresh} />
      <div class="order-columns">
        <section class="panel-box" aria-labelledby="timeline">
          <h2 id="timeline">What happened</h2>
          <Timeline lines={view.lines} />
        </section>
        <div class="order-side">
          <Facts view={view} order={order} />
          {order?.pickup !== undefined && (
            <OrderMap id={view.id} isServing={driver !== undefined} pickup={order.pickup} dropOff={order.dropOff} />
          )}
          <MoneySection order={view} />
          <Drivers drivers={view.drivers} lines={view.lines} />
        </div>
      </div>
    </article>
  );
}

function Facts({ view, order }: { view: OrderView; order: Order | undefined }) {
  const now = useServerNow();
  return (
    <section class="panel-box" aria-label="Facts">
      <dl class="facts">
        <dt>Price</dt>
        <dd>
          <b>{money(view.amount)}</b>
        </dd>
        <dt>User</dt>
        <dd>
          <a href={`#/orders?user=${encodeURIComponent(view.userId)}`}>{view.userId}</a>
        </dd>
        <dt>Created</dt>
        <dd title={dateTime(view.createdAt)}>
          {clock(view.createdAt)} <span class="dim">{age(now - instant(view.createdAt))} ago</span>
        </dd>
        <dt>Changed</dt>
        <dd title={dateTime(view.updatedAt)}>
          {clock(view.updatedAt)} <span class="dim">{age(now - instant(view.updatedAt))} ago</span>
        </dd>
        {view.tags.length > 0 && (
          <>
            <dt>Needs</dt>
            <dd>
              {view.tags.map((tag) => (
                <span key={tag} class="tag">
                  {tag}
                </span>
              ))}
            </dd>
          </>
        )}
        {order !== undefined && (
          <>
            <dt>Payment</dt>
            <dd>{paymentModeWord(order.paymentMode)}</dd>
          </>
        )}
      </dl>
    </section>
  );
}
