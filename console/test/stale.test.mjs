// C3: the pages say when what they show is old, and are right again by themselves.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { HERE, HERE_VIEW, startBrowser } from "./browser.mjs";
import { callsOf } from "./calls.mjs";
import { startLine } from "./line.mjs";
import { startWaybill } from "./waybill.mjs";

/** The promise's own deadline. */
const PROMISED_MS = 15_000;
const HEALED_MS = 30_000;

const waybill = await startWaybill(after);
const browser = await startBrowser(after);
const calls = callsOf(waybill);

test("a frozen server is noticed within 15 seconds, and its return too", async () => {
  await calls.report([["driver-1", ...HERE]]);
  const order = await calls.place(...HERE);
  const link = (await calls.customer.shareOrder({ orderId: order.orderId })).token;
  const map = await browser.open(waybill, { role: "dispatcher", view: HERE_VIEW });
  await map.page.locator("summary", { hasText: "Drivers in view" }).click();
  await map.page.getByRole("button", { name: "driver-1" }).click();
  const orders = await browser.open(waybill, { role: "operator", route: "#/orders" });
  await orders.page.getByRole("table").last().waitFor();
  const health = await browser.open(waybill, { role: "operator", route: "#/health" });
  await health.page.getByText("Calls and errors").waitFor();
  const track = await browser.open(waybill, { path: `/t/#${link}` });
  await track.page.getByRole("heading", { name: "Your driver is on the way" }).waitFor();
  const pages = [map, orders, health];

  waybill.freeze();
  try {
    const began = Date.now();
    const left = () => Math.max(1, PROMISED_MS - (Date.now() - began));
    await Promise.all([
      ...pages.map(({ page }) => page.locator("[data-banner=stale]").waitFor({ timeout: left() })),
      track.page.getByText(/What you see is .* old/).waitFor({ timeout: left() }),
    ]);
    for (const { page } of pages) assert.match(await page.locator("[data-banner=stale]").textContent(), /What you see is \d+ s old\. Reconnecting/);
    // Ages count on their own: that of the banner, and that of the driver.
    const aged = (text) => Number(/(\d+) s/.exec(text)?.[1]);
    for (const locator of [map.page.locator("[data-banner=stale] b"), map.page.getByText(/^\d+ s ago$/)]) {
      const first = aged(await locator.textContent());
      await locator.filter({ hasText: new RegExp(`${first + 2} s`) }).waitFor({ timeout: 10_000 });
    }
  } finally {
    waybill.thaw();
  }
  await Promise.all(pages.map(({ page }) => page.locator("[data-banner=stale]").waitFor({ state: "detached", timeout: HEALED_MS })));
  await calls.report([["driver-9", ...HERE]]);
  await map.page.getByRole("button", { name: "driver-9" }).waitFor();
  await track.page.getByText(/What you see is .* old/).waitFor({ state: "detached", timeout: HEALED_MS });
  for (const opened of [...pages, track]) {
    assert.deepEqual(opened.seen.errors, []);
    await opened.close();
  }
});

test("a connection that went dead without a word is replaced by another one", async () => {
  const line = await startLine(after, waybill.origin);
  const opened = await browser.open({ ...waybill, origin: line.origin }, { role: "dispatcher", view: HERE_VIEW });
  const { page } = opened;
  await page.locator("summary", { hasText: "Drivers in view" }).click();
  await calls.report([["driver-6", ...HERE]]);
  await page.getByRole("button", { name: "driver-6" }).waitFor();
  line.cut();
  // The calls that ask again and again get through on new connections, which must not make the dead stream look alive.
  await calls.report([["driver-7", ...HERE]]);
  // So may the stream, after it was given another connection of those that are dead.
  await page.getByRole("button", { name: "driver-7" }).waitFor({ timeout: HEALED_MS });
  await opened.close();
});

test("a hidden page has no stream, and has one again when it is seen", async () => {
  const opened = await browser.open(waybill, { role: "dispatcher", view: HERE_VIEW });
  const { page, seen } = opened;
  await page.getByRole("region", { name: "Fleet" }).waitFor();
  const streams = () => seen.requests.filter((request) => request.url().endsWith("/WatchDrivers"));
  const hide = (isHidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }, isHidden);
  const closed = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/WatchDrivers"));
  const before = streams().length;
  await hide(true);
  await closed;
  const again = page.waitForRequest((request) => request.url().endsWith("/WatchDrivers"));
  await hide(false);
  await again;
  assert.equal(streams().length, before + 1);
  await opened.close();
});
