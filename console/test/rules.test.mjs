// The rules that need no server: money, ages, areas, motion, waits and quantiles.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./calls.mjs";

const { age, areaFor, backoff, decimal, isCut, minorUnits, moveTo, positionAt, quantile, serves, standing, toLatLng, toWorld, wrapped } = await load(
  `export * from "./src/format-age.js";
   export * from "./src/format-money.js";
   export * from "./src/backoff.js";
   export * from "./src/map/area.js";
   export * from "./src/map/mercator.js";
   export * from "./src/map/motion.js";
   export * from "./src/health/quantile.js";`,
  "rules",
);

test("minor units have the digits of their currency, and come back as they were", () => {
  for (const [minor, currency, text] of [[1990n, "EUR", "19.90"], [5n, "USD", "0.05"], [1990n, "JPY", "1990"], [1990n, "KWD", "1.990"], [-5n, "USD", "-0.05"]]) {
    assert.equal(decimal(minor, currency), text);
    if (minor > 0n) assert.equal(minorUnits(text, currency), minor);
  }
  assert.equal(decimal(123456789012345678n, "USD"), "1234567890123456.78");
});

test("an amount is refused that the currency does not have", () => {
  for (const [text, currency] of [["19.999", "EUR"], ["1.5", "JPY"], ["", "EUR"], ["-3", "EUR"], ["1e3", "EUR"], ["1.2.3", "EUR"], ["ten", "EUR"]]) {
    assert.equal(minorUnits(text, currency), null, `${text} ${currency}`);
  }
  assert.equal(minorUnits("5,5", "EUR"), 550n);
});

test("an age has one unit or two", () => {
  const said = [0, 59_999, 60_000, 200_000, 3_600_000, 5_400_000, 40 * 3_600_000, 50 * 3_600_000].map(age);
  assert.deepEqual(said, ["0 s", "59 s", "1 min", "3 min 20 s", "1 h", "1 h 30 min", "40 h", "2 d"]);
});

test("an area is no larger than the server allows, and serves small moves", () => {
  const view = { south: 37.7, north: 37.8, west: -122.5, east: -122.3 };
  const area = areaFor(view);
  assert.ok(area.south < view.south && area.east > view.east);
  const moved = (by) => ({ ...view, west: view.west + by, east: view.east + by });
  assert.ok(serves(area, moved(0.04)));
  assert.ok(!serves(area, moved(0.2)));
  const world = { south: -60, north: 60, west: -180, east: 180 };
  const middle = areaFor(world);
  assert.ok(isCut(world) && middle.north - middle.south <= 2 && middle.east - middle.west <= 2);
  assert.ok(serves(middle, world), "a view that is cut off is not watched anew for ever");
  assert.ok(!serves(middle, view), "a view that was zoomed in is");
});

test("longitudes are those of one world", () => {
  assert.deepEqual([wrapped(190), wrapped(-190), wrapped(-122.4), wrapped(540.5)].map((lng) => Math.round(lng * 10) / 10), [-170, 170, -122.4, -179.5]);
});

test("the projection comes back", () => {
  const { x, y } = toWorld(37.7749, -122.4194);
  const [lat, lng] = toLatLng(x, y);
  assert.ok(Math.abs(lat - 37.7749) < 1e-9 && Math.abs(lng + 122.4194) < 1e-9);
});

test("a dot moves in the time that fixes take to come, is at most seconds behind, and does not cross a city in one", () => {
  const at = (lat) => toWorld(lat, -122.4);
  const motion = standing(at(37.7), 0);
  moveTo(motion, at(37.7001), 1_000, false);
  assert.equal(motion.endsAt, 2_150);
  const half = positionAt(motion, 1_575);
  assert.ok(half.y < at(37.7).y && half.y > at(37.7001).y, "it is on its way");
  moveTo(motion, at(37.7002), 61_000, false);
  assert.equal(motion.endsAt, 65_000);
  moveTo(motion, at(38.7), 62_000, false);
  assert.equal(motion.endsAt, 62_000, "a jump is no drive");
  moveTo(motion, at(38.7001), 63_000, true);
  assert.equal(motion.endsAt, 63_000, "motion that is not wished for is not made");
});

test("waits grow, are jittered, and are no shorter than the server asks", () => {
  assert.deepEqual([1, 2, 3, 9].map((failures) => backoff(failures, 0, () => 1)), [500, 1000, 2000, 10_000]);
  assert.deepEqual([1, 9].map((failures) => backoff(failures, 0, () => 0)), [250, 5_000]);
  assert.ok(backoff(1, 7_000, () => 0) >= 7_000);
});

test("a quantile lies within its bucket", () => {
  const bounds = [1, 10, 100];
  assert.equal(quantile([0, 10, 0, 0], bounds, 0.5), 5.5);
  assert.equal(quantile([0, 0, 0, 3], bounds, 0.99), 100);
  assert.ok(Number.isNaN(quantile([0, 0, 0, 0], bounds, 0.5)));
});

test("why an order was refunded is said as its log says it, and for how long a driver was looked for", async () => {
  const words = await load(
    `export { standing } from "./src/order/words.js";
     export { FailureReason, OrderStatus } from "./src/gen/waybill/order/v1/order_pb.js";`,
    "words",
  );
  const at = (second) => ({ seconds: BigInt(1_795_000_000 + second), nanos: 0 });
  const refunded = (...lines) =>
    words.standing({
      status: words.OrderStatus.REFUNDED,
      failure: words.FailureReason.NO_DRIVER,
      money: { captured: {} },
      drivers: [],
      lines: lines.map(([step, status, second, detail = ""]) => ({ step, status, detail, at: at(second) })),
    });
  const charged = ["charge", "succeeded", 1];
  const why = "no free driver who is on duty was near";
  assert.equal(refunded(charged, ["assign", "failed", 21, why]), `Refunded: ${why}, looked for 20 s.`);
  // A customer does not see what the log says.
  assert.equal(refunded(charged, ["assign", "failed", 21]), "Refunded: no free driver was near, looked for 20 s.");
  assert.equal(refunded(), "Refunded: no free driver was near.");
});
