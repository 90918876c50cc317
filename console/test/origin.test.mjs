// C1: no request leaves the server's origin, and nothing inline is run.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { HERE, HERE_VIEW, startBrowser } from "./browser.mjs";
import { callsOf } from "./calls.mjs";
import { startWaybill } from "./waybill.mjs";

const waybill = await startWaybill(after);
const browser = await startBrowser(after);
const calls = callsOf(waybill);
await calls.report([["driver-1", ...HERE]]);
const order = await calls.place(...HERE);
const link = (await calls.customer.shareOrder({ orderId: order.orderId })).token;

test("every page stays within its origin and its policy", async () => {
  const opened = await browser.open(waybill, { role: "operator", view: HERE_VIEW });
  const { page, seen } = opened;
  await page.getByRole("region", { name: "Fleet" }).waitFor();
  await page.evaluate(() => { location.hash = "#/orders"; });
  await page.getByRole("table").last().waitFor();
  await page.evaluate((id) => { location.hash = `#/orders/${id}`; }, order.orderId);
  await page.getByText("Driver assigned").waitFor();
  await page.getByRole("button", { name: "Refund" }).click();
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.evaluate(() => { location.hash = "#/health"; });
  await page.getByText("Calls and errors").waitFor();
  await page.goto(`${waybill.origin}/t/#${link}`);
  await page.getByRole("heading", { name: "Your driver is on the way" }).waitFor();
  assert.deepEqual([seen.foreign, seen.refused, seen.errors], [[], [], []]);
  await opened.close();
});

test("what would break the promise is seen by these tests", async () => {
  const opened = await browser.open(waybill);
  const { page, seen } = opened;
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "globalThis.ran = true";
    document.head.append(script);
    new Image().src = "https://example.com/pixel.png";
  });
  // The policy refuses the picture before it is asked for, so both are refusals.
  await page.waitForFunction(() => true);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined, "an inline script ran");
  assert.equal(seen.refused.length, 2);
  await opened.close();
});

test("the token leaves the address at once", async () => {
  const opened = await browser.open(waybill, { role: "operator" });
  await opened.page.getByRole("navigation", { name: "Pages" }).waitFor();
  assert.ok(!opened.page.url().includes("token"), "the token is in the address");
  assert.ok(!(await opened.page.evaluate(() => document.cookie)), "there is a cookie");
  await opened.close();
});
