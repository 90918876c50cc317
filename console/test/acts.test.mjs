// What an operator does about an order from its page, as far as its answer; and the city that the fleet draws.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { HERE, HERE_VIEW, startBrowser } from "./browser.mjs";
import { callsOf } from "./calls.mjs";
import { startWaybill, until } from "./waybill.mjs";

const waybill = await startWaybill(after, { WAYBILL_LOCATIONS__TTL: "3s" });
const browser = await startBrowser(after);
const calls = callsOf(waybill);

/** An order that was served. */
async function served() {
  await calls.report([["driver-1", ...HERE]]);
  const order = await calls.place(...HERE);
  await calls.dispatcher.completeOrder({ orderId: order.orderId });
  return order;
}

test("the payment of a settled order is compared, and what was said about it is in the log", async () => {
  const order = await served();
  const opened = await browser.open(waybill, { role: "operator", route: `#/orders/${order.orderId}` });
  const { page } = opened;
  await page.getByRole("button", { name: "Check payment" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Reason").fill("the customer asked");
  await dialog.getByRole("button", { name: "Check payment" }).click();
  await dialog.getByText("It is due now.").waitFor();
  await page.keyboard.press("Escape");
  await page.locator('[data-step="retry"]').getByText("the customer asked").waitFor();
  await opened.close();
});

test("a part is refunded once, whose answer is in words", async () => {
  const order = await served();
  const opened = await browser.open(waybill, { role: "operator", route: `#/orders/${order.orderId}` });
  const { page } = opened;
  await page.getByRole("button", { name: "Refund", exact: true }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Amount in EUR").fill("5.00");
  await dialog.getByLabel("Reason").fill("it was late");
  await dialog.getByRole("button", { name: "Refund", exact: true }).click();
  await dialog.getByText(/is refunded\.$/).waitFor();
  const { order: now } = await calls.operator.getOrder({ orderId: order.orderId });
  assert.deepEqual(now.payment.refunds.map(({ amount }) => amount.minorUnits), [500n]);
  await opened.close();
});

test("a driver who falls silent is grey where it was last seen", async () => {
  await calls.report([["driver-1", ...HERE]]);
  const order = await calls.place(...HERE);
  const link = (await calls.customer.shareOrder({ orderId: order.orderId })).token;
  const opened = await browser.open(waybill, { path: `/t/#${link}`, width: 320, height: 640 });
  const { page } = opened;
  await page.locator(".driver:not(.unseen)").waitFor();
  await page.locator(".driver.unseen").waitFor();
  await page.getByText(/^Last seen \d+ s ago$/).waitFor();
  await calls.report([["driver-1", ...HERE]]);
  await page.locator(".driver:not(.unseen)").waitFor();
  await calls.dispatcher.completeOrder({ orderId: order.orderId });
  await page.getByRole("heading", { name: "Arrived" }).waitFor();
  assert.equal(await page.locator(".driver").count(), 0);
  await opened.close();
});

test("a street is on the map once two drivers passed it", async () => {
  const [latitude, longitude] = HERE;
  for (let step = 0; step < 5; step += 1) {
    await calls.report(["driver-1", "driver-2"].map((driver) => [driver, latitude + step * 0.0003, longitude]));
    await new Promise((next) => setTimeout(next, 20));
  }
  const opened = await browser.open(waybill, { role: "dispatcher", view: HERE_VIEW });
  const isInked = () => [...document.querySelectorAll(".trails canvas")].some((tile) =>
    tile.getContext("2d").getImageData(0, 0, 256, 256).data.some((value, at) => at % 4 === 3 && value > 0));
  // It is drawn every few seconds, and a page asks for a tile once.
  const drawn = await until(60_000, async () => {
    await opened.page.reload();
    return opened.page.waitForFunction(isInked, undefined, { timeout: 2_000 }).then(() => true, () => false);
  });
  assert.ok(drawn, "no tile has a street");
  await opened.close();
});
