// Orders as a table; on a narrow page the same rows become cards, by the style sheet.
import { age, dateTime, money } from "../format.js";
import type { Order } from "../gen/waybill/order/v1/order_pb.js";
import { OrderLink, StatusMark } from "../parts/marks.js";
import { useServerNow } from "../parts/now.js";
import { orderHref } from "../route.js";
import { instant } from "../time.js";

export function OrderTable({ orders }: { orders: readonly Order[] }) {
  const now = useServerNow();
  return (
    <table class="table">
      <thead>
        <tr>
          <th scope="col">Created</th>
          <th scope="col">Order</th>
          <th scope="col">User</th>
          <th scope="col" class="number">
            Amount
          </th>
          <th scope="col">Status</th>
          <th scope="col">Driver</th>
        </tr>
      </thead>
      <tbody>
        {orders.map((order) => (
          <Row key={order.orderId} order={order} now={now} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ order, now }: { order: Order; now: number }) {
  const { assignment } = order;
  const go = (event: MouseEvent) => {
    // The link is for keyboards; a click anywhere in the row does the same, unless text is being marked.
    if (event.target instanceof HTMLAnchorElement || String(getSelection()) !== "") return;
    location.hash = orderHref(order.orderId);
  };
  return (
    <tr class="row-link" onClick={go}>
      <td data-label="Created" title={dateTime(order.createdAt)}>
        {age(now - instant(order.createdAt))} ago
      </td>
      <td data-label="Order">
        <OrderLink id={order.orderId} />
      </td>
      <td data-label="User" class="cut">
        {order.userId}
      </td>
      <td data-label="Amount" class="number">
        {money(order.amount)}
      </td>
      <td data-label="Status">
        <StatusMark status={order.status} />
      </td>
      <td data-label="Driver" class="cut">
        {assignment === undefined ? <span class="dim">–</span> : <span class="mono">{assignment.driverId}</span>}
        {assignment?.releasedAt !== undefined && <span class="dim"> {assignment.releaseReason}</span>}
      </td>
    </tr>
  );
}
