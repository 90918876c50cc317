// C6: 5,000 moving drivers leave the map at least 0.8 of the frames that it has without any. Both are counted in the same run,
// in turns, while the same fixes come in.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { HERE, startBrowser } from "./browser.mjs";
import { callsOf } from "./calls.mjs";
import { startWaybill } from "./waybill.mjs";

const DRIVERS = 5_000;
const TURNS = 3;
const TURN_MS = 3_000;
/** What else the machine does takes frames, and most from the map that needs most: a round in which it had less to do is looked for. */
const ROUNDS_MAX = 5;
const PROMISED = 0.8;
/** A place in the sea, beyond the area that is watched over the city. */
const EMPTY = [37.7749, -125.4194];

const waybill = await startWaybill(after);
const browser = await startBrowser(after);
const calls = callsOf(waybill);

test("5,000 moving drivers leave 0.8 of the frames of an empty map", async (t) => {
  const drivers = Array.from({ length: DRIVERS }, (_, at) => {
    const angle = at * 2.399963;
    const radius = 0.03 * Math.sqrt(at / DRIVERS);
    return { id: `d-${at}`, lat: HERE[0] + radius * Math.sin(angle) * 0.7, lng: HERE[1] + radius * Math.cos(angle), angle };
  });
  let isDriving = true;
  const drive = (async () => {
    while (isDriving) {
      const next = new Promise((tick) => setTimeout(tick, 1_000));
      for (const driver of drivers) {
        driver.lat += 0.0001 * Math.sin(driver.angle);
        driver.lng += 0.0001 * Math.cos(driver.angle);
      }
      await calls.report(drivers.map(({ id, lat, lng }) => [id, lat, lng]));
      await next;
    }
  })();

  const view = (center) => ({ center, zoom: 13 });
  const full = await browser.open(waybill, { role: "operator", view: view(HERE) });
  await full.page.locator("[data-count=free] b", { hasText: "5,000" }).waitFor({ timeout: 60_000 });
  const empty = await browser.open(waybill, { role: "operator", view: view(EMPTY) });
  await empty.page.getByText("No driver reports its position here").waitFor();

  let best = 0;
  for (let round = 0; round < ROUNDS_MAX && best < PROMISED; round += 1) {
    const frames = { full: 0, empty: 0 };
    for (let turn = 0; turn < TURNS; turn += 1) {
      for (const [name, { page }] of [["empty", empty], ["full", full]]) {
        await page.bringToFront();
        frames[name] += await page.evaluate(countFrames, TURN_MS);
      }
    }
    const ratio = frames.full / frames.empty;
    t.diagnostic(`frames: ${frames.full} with drivers, ${frames.empty} without, ratio ${ratio.toFixed(3)}`);
    best = Math.max(best, ratio);
  }
  isDriving = false;
  await drive;
  const moved = await full.page.locator("[data-count=free] b").textContent();
  assert.equal(moved, "5,000", "all of them were there to the end");
  assert.ok(best >= PROMISED, `${best} in the best of ${ROUNDS_MAX} rounds`);
  await full.close();
  await empty.close();
});

/** Runs in the page: how many frames there are in so many milliseconds. */
function countFrames(duration) {
  return new Promise((done) => {
    const end = performance.now() + duration;
    let count = 0;
    const frame = (now) => {
      if (now >= end) return done(count);
      count += 1;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
}
