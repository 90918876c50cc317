// What the map shows beyond free drivers: who is off duty, and an area with more drivers than are sent, as counts.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { HERE, HERE_VIEW, startBrowser } from "./browser.mjs";
import { callsOf } from "./calls.mjs";
import { startLine } from "./line.mjs";
import { startWaybill } from "./waybill.mjs";

const waybill = await startWaybill(after, { WAYBILL_LOCATIONS__WATCH_AREA_MAX: "20" });
const browser = await startBrowser(after);
const calls = callsOf(waybill);
const count = (page, kind) => page.locator(`[data-count=${kind}] b`);

test("a driver that goes off duty is shown as that", async () => {
  await calls.report([["driver-1", ...HERE]]);
  const opened = await browser.open(waybill, { role: "dispatcher", view: HERE_VIEW });
  const { page } = opened;
  await count(page, "free").filter({ hasText: /^1$/ }).waitFor();
  await calls.setDuty("driver-1", false);
  await count(page, "off").filter({ hasText: /^1$/ }).waitFor();
  await page.locator("summary", { hasText: "Drivers in view" }).click();
  await page.getByRole("button", { name: "driver-1 off duty" }).waitFor();
  await calls.setDuty("driver-1", true);
  await count(page, "free").filter({ hasText: /^1$/ }).waitFor();
  await opened.close();
});

test("a broken stream goes on where it was, and does not begin anew", async () => {
  await calls.report([["driver-1", ...HERE]]);
  const line = await startLine(after, waybill.origin);
  const opened = await browser.open({ ...waybill, origin: line.origin }, { role: "dispatcher", view: HERE_VIEW });
  const { page, seen } = opened;
  await count(page, "free").filter({ hasText: /^1$/ }).waitFor();
  const streams = () => seen.requests.filter((request) => request.url().endsWith("/WatchDrivers"));
  const again = page.waitForRequest((request) => request.url().endsWith("/WatchDrivers"));
  line.drop();
  await again;
  await calls.report([["driver-2", ...HERE]]);
  await count(page, "free").filter({ hasText: /^2$/ }).waitFor();
  const [first, next] = [streams().at(0), streams().at(-1)].map((request) => request.postDataBuffer().length);
  assert.ok(next > first, "the later question has no cursor");
  await opened.close();
});

test("an area with too many drivers is shown as counts, and as drivers again where it is zoomed in", async () => {
  const crowd = Array.from({ length: 40 }, (_, at) => [`crowd-${at}`, 37.9 + 0.02 * (at % 8), -122.2 + 0.03 * Math.floor(at / 8)]);
  await calls.report(crowd);
  const opened = await browser.open(waybill, { role: "dispatcher", view: { center: [37.97, -122.14], zoom: 12 } });
  const { page } = opened;
  await page.getByText("more drivers than can be shown one by one").waitFor();
  await count(page, "free").filter({ hasText: /^40$/ }).waitFor();
  for (let zoom = 12; zoom < 15; zoom += 1) {
    await page.getByRole("button", { name: "Zoom in" }).click();
    // A click while the map still zooms does nothing.
    await page.locator(".leaflet-zoom-anim").waitFor({ state: "detached" });
  }
  await page.getByText("more drivers than can be shown one by one").waitFor({ state: "detached" });
  await page.locator("summary", { hasText: "Drivers in view" }).click();
  await page.getByRole("button", { name: /^crowd-/ }).first().waitFor();
  assert.deepEqual(opened.seen.errors, []);
  await opened.close();
});
