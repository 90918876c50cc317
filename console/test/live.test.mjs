// C2: a driver that reports is on the map within two seconds, and so is a step in its order's timeline.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { HERE, HERE_VIEW, startBrowser } from "./browser.mjs";
import { callsOf } from "./calls.mjs";
import { startWaybill } from "./waybill.mjs";

/** The promise's own deadline. */
const PROMISED_MS = 2_000;

const waybill = await startWaybill(after);
const browser = await startBrowser(after);
const calls = callsOf(waybill);

test("a driver that reports is on the map within two seconds", async () => {
  const opened = await browser.open(waybill, { role: "dispatcher", view: HERE_VIEW });
  const { page } = opened;
  await page.getByText("No driver reports its position here").waitFor();
  await page.locator("summary", { hasText: "Drivers in view" }).click();
  await calls.report([["driver-2", ...HERE]]);
  await page.getByRole("button", { name: "driver-2" }).waitFor({ timeout: PROMISED_MS });
  assert.equal(await page.locator("[data-count=free] b").textContent(), "1");
  await opened.close();
});

test("a step is in the timeline within two seconds", async () => {
  await calls.report([["driver-3", 37.7, -122.4]]);
  const order = await calls.place(37.7, -122.4);
  for (const role of ["operator", "dispatcher"]) {
    const opened = await browser.open(waybill, { role, route: `#/orders/${order.orderId}` });
    const { page } = opened;
    await page.getByText("Driver assigned").waitFor();
    if (role === "operator") {
      await calls.dispatcher.completeOrder({ orderId: order.orderId });
      await page.locator('[data-step="complete"]').first().waitFor({ timeout: PROMISED_MS });
    } else {
      await calls.dispatcher.cancelOrder({ orderId: order.orderId }).catch(() => {});
      await page.locator('[data-step="complete"]').first().waitFor({ timeout: PROMISED_MS });
    }
    await opened.close();
  }
});

test("an order that waits for a driver is on the map, with its age", async () => {
  const opened = await browser.open(waybill, { role: "operator", view: { center: [37.6, -122.9], zoom: 13 } });
  const { page } = opened;
  const placed = calls.place(37.6, -122.9);
  // It is settled when the search is over, which no one waits for here.
  placed.catch(() => {});
  await page.locator("[data-count=waiting] b", { hasText: "1" }).waitFor({ timeout: 5_000 });
  await page.locator("summary", { hasText: "Orders waiting" }).click();
  await page.getByText(/^\d+ s$/).waitFor();
  await opened.close();
});
