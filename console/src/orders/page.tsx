// The orders: those that need attention first, for operators, and then all, newest first.
import { Code } from "@connectrpc/connect";
import { useEffect, useState } from "preact/hooks";
import { useCell } from "../cell.js";
import { Freshness } from "../freshness.js";
import { OrderStatus } from "../gen/waybill/order/v1/order_pb.js";
import { LISTED, statusName, statusNamed, statusWord, whole } from "../format.js";
import { StaleBanner } from "../parts/banner.js";
import { RefusalNote } from "../parts/refusal.js";
import { usePoll } from "../poll.js";
import { route, setQuery } from "../route.js";
import { orderService, READ_MS } from "../rpc.js";
import { StuckOrders } from "./stuck.js";
import { OrderTable } from "./table.js";

const EVERY_MS = 3_000;
const PAGE = 50;

export function OrdersPage({ isOperator }: { isOperator: boolean }) {
  const { query } = useCell(route);
  const status = statusNamed(query.get("status") ?? "");
  const user = query.get("user") ?? "";
  const [freshness] = useState(() => new Freshness());
  /** The tokens of the pages from the first one to the one that is shown. Empty: the first one. */
  const [pages, setPages] = useState<readonly string[]>([]);
  useEffect(() => setPages([]), [status, user]);
  const token = pages.at(-1) ?? "";

  const { answer, refusal } = usePoll(
    freshness,
    // An older page is of the past: it is read once.
    token === "" ? EVERY_MS : 0,
    [status, user, token],
    (signal) => orderService.listOrders({ status, userId: user, pageSize: PAGE, pageToken: token }, { signal, timeoutMs: READ_MS }),
    (why) => [Code.InvalidArgument, Code.PermissionDenied, Code.Unauthenticated].includes(why.code),
  );
  return (
    <div class="sheet">
      {token === "" && <StaleBanner sources={[freshness]} />}
      <h1 class="sr">Orders</h1>
      {isOperator && <StuckOrders />}
      <section aria-labelledby="all-orders">
        <div class="section-head">
          <h2 id="all-orders">Orders</h2>
          <Filters status={status} user={user} />
        </div>
        {refusal !== null && <RefusalNote refusal={refusal} />}
        {answer !== null && answer.orders.length === 0 && <NoOrders isFiltered={status !== OrderStatus.UNSPECIFIED || user !== ""} />}
        {answer === null && refusal === null && <p class="loading">Loading…</p>}
        {answer !== null && answer.orders.length > 0 && <OrderTable orders={answer.orders} />}
        {answer !== null && (pages.length > 0 || answer.nextPageToken !== "") && (
          <nav class="pager" aria-label="Pages of orders">
            <button type="button" class="button" disabled={pages.length === 0} onClick={() => setPages(pages.slice(0, -1))}>
              Newer
            </button>
            <span class="dim">{pages.length === 0 ? `The newest ${whole(answer.orders.length)}` : `Page ${whole(pages.length + 1)}`}</span>
            <button
              type="button"
              class="button"
              disabled={answer.nextPageToken === ""}
              onClick={() => setPages([...pages, answer.nextPageToken])}
            >
              Older
            </button>
          </nav>
        )}
      </section>
    </div>
  );
}

function Filters({ status, user }: { status: OrderStatus; user: string }) {
  const [typed, setTyped] = useState(user);
  useEffect(() => setTyped(user), [user]);
  const show = (next: { status?: OrderStatus; user?: string }) => {
    const chosen = next.status ?? status;
    setQuery({
      status: chosen === OrderStatus.UNSPECIFIED ? "" : statusName(chosen),
      user: next.user ?? user,
    });
  };
  return (
    <form
      class="filters"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        show({ user: typed.trim() });
      }}
    >
      <label>
        <span>Status</span>
        <select value={String(status)} onChange={(event) => show({ status: Number(event.currentTarget.value) as OrderStatus })}>
          <option value={String(OrderStatus.UNSPECIFIED)}>All</option>
          {LISTED.map((listed) => (
            <option key={listed} value={String(listed)}>
              {statusWord(listed).word}
            </option>
          ))}
        </select>
      </label>
      <label>
        <span>User</span>
        <input
          type="search"
          placeholder="All users"
          autocomplete="off"
          spellcheck={false}
          maxLength={64}
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
          // A search field's own cross empties it, and says so by this event alone.
          onSearch={(event: Event) => show({ user: (event.currentTarget as HTMLInputElement).value.trim() })}
        />
      </label>
      <button type="submit" class="button">
        Show
      </button>
    </form>
  );
}

function NoOrders({ isFiltered }: { isFiltered: boolean }) {
  return (
    <p class="nothing">
      {isFiltered
        ? "No order is like that. Choose another status, or another user."
        : "No order was placed yet. The first one is here a few seconds after its CreateOrder."}
    </p>
  );
}
