// C5: the pages are usable by keyboard and by screen reader, from 320 px on, in both themes.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { HERE, HERE_VIEW, startBrowser } from "./browser.mjs";
import { callsOf } from "./calls.mjs";
import { startWaybill, until } from "./waybill.mjs";

const waybill = await startWaybill(after);
const browser = await startBrowser(after);
const calls = callsOf(waybill);

/** Presses Tab until what is named has the focus. */
async function tabTo(page, name) {
  const focused = () => page.evaluate(() => {
    const at = document.activeElement;
    return (at?.getAttribute("aria-label") ?? at?.textContent ?? "").trim();
  });
  for (let presses = 0; presses < 60; presses += 1) {
    await page.keyboard.press("Tab");
    if ((await focused()).startsWith(name)) return;
  }
  assert.fail(`Tab does not come to “${name}”`);
}

test("a driver is found, chosen and followed by the keyboard alone", async () => {
  await calls.report([["driver-1", ...HERE], ["driver-2", HERE[0] + 0.002, HERE[1]]]);
  const opened = await browser.open(waybill, { role: "operator", view: HERE_VIEW });
  const { page } = opened;
  await page.locator("[data-count=free] b", { hasText: "2" }).waitFor();
  await tabTo(page, "Skip to the page");
  await tabTo(page, "Map with 2 drivers");
  await tabTo(page, "Drivers in view");
  await page.keyboard.press("Enter");
  await tabTo(page, "driver-1");
  await page.keyboard.press("Enter");
  await page.getByRole("region", { name: "Driver driver-1" }).waitFor();
  await tabTo(page, "Follow");
  await page.keyboard.press("Space");
  await page.getByRole("button", { name: "Following", pressed: true }).waitFor();
  await opened.close();
});

test("an order is found and a refund refused by the keyboard alone, and the refusal is in words", async () => {
  await calls.report([["driver-3", 37.7, -122.4]]);
  const order = await calls.place(37.7, -122.4);
  const opened = await browser.open(waybill, { role: "operator", route: "#/orders" });
  const { page } = opened;
  await page.getByRole("link", { name: order.orderId.slice(-8) }).waitFor();
  await tabTo(page, `…${order.orderId.slice(-8)}`);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: order.orderId }).waitFor();
  await tabTo(page, "Refund");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: "Refund this order" });
  await dialog.waitFor();
  const amount = dialog.getByLabel("Amount in EUR");
  await amount.fill("nothing");
  await dialog.getByLabel("Reason").fill("late");
  await page.keyboard.press("Enter");
  await dialog.getByText("Write an amount above 0, such as 19.90.").waitFor();
  await amount.fill("20.00");
  await page.keyboard.press("Enter");
  const alert = dialog.getByRole("alert").filter({ hasText: "REFUND_TOO_LARGE" });
  await alert.waitFor();
  assert.match(await alert.textContent(), /Choose a smaller amount/);
  await amount.fill("5");
  await page.keyboard.press("Enter");
  await dialog.getByText("€5.00 is refunded.").waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await page.getByRole("listitem").filter({ hasText: "refund succeeded" }).waitFor();
  await opened.close();
});

test("the pages have landmarks, headings and names", async () => {
  const opened = await browser.open(waybill, { role: "operator", view: HERE_VIEW });
  const { page } = opened;
  await page.getByRole("banner").waitFor();
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Map" }).waitFor();
  await page.getByRole("main").waitFor();
  for (const [route, title] of [["map", "Map"], ["orders", "Orders"], ["health", "Health"]]) {
    await page.evaluate((name) => { location.hash = `#/${name}`; }, route);
    await page.getByRole("heading", { level: 1, name: title }).waitFor();
    assert.equal(await page.getByRole("heading", { level: 1 }).count(), 1);
    assert.equal(await page.locator(".nav [aria-current=page]").textContent(), title);
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll("a, button, input, select, textarea")]
        .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.length))
        .map((element) => element.outerHTML),
    );
    assert.deepEqual(nameless, [], `on ${route}`);
  }
  await page.evaluate(() => { location.hash = "#/orders"; });
  await page.getByRole("columnheader", { name: "Amount" }).waitFor();
  await opened.close();
});

for (const theme of ["light", "dark"]) {
  test(`at 320 px nothing is cut off and all is legible, ${theme}`, async () => {
    await calls.report([[`driver-of-${theme}`, 37.71, -122.41]]);
    const order = await calls.place(37.71, -122.41);
    const link = (await calls.customer.shareOrder({ orderId: order.orderId })).token;
    const opened = await browser.open(waybill, { role: "operator", view: HERE_VIEW, width: 320, height: 640, theme });
    const { page } = opened;
    const look = async (what) => {
      assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), theme);
      const width = await page.evaluate(() => Math.max(...[document.documentElement, ...document.querySelectorAll(".page")].map((e) => e.scrollWidth)));
      assert.ok(width <= 320, `${what} is ${width} px wide`);
      const pale = async () => page.evaluate(paleTexts);
      // A colour that fades in is measured when it has.
      await until(2_000, async () => (await pale()).length === 0);
      assert.deepEqual(await pale(), [], `${what}, ${theme}`);
    };
    await page.getByRole("region", { name: "Fleet" }).waitFor();
    await page.locator("summary", { hasText: "Drivers in view" }).click();
    await look("the map");
    for (const [route, text] of [["#/orders", "anna"], [`#/orders/${order.orderId}`, "Driver assigned"], ["#/health", "Calls and errors"]]) {
      await page.evaluate((hash) => { location.hash = hash; }, route);
      await page.getByText(text).first().waitFor();
      await look(route);
    }
    await page.evaluate((id) => { location.hash = `#/orders/${id}`; }, order.orderId);
    await page.getByRole("button", { name: "Refund", exact: true }).click();
    await look("the dialog");
    await page.goto(`${waybill.origin}/t/#${link}`);
    await page.getByRole("heading", { name: "Your driver is on the way" }).waitFor();
    await look("the tracking page");
    await opened.close();
    const gate = await browser.open(waybill, { width: 320, height: 640, theme });
    await gate.page.getByLabel("Token").waitFor();
    assert.deepEqual(await gate.page.evaluate(paleTexts), []);
    await gate.close();
  });
}

/** Runs in the page: the texts whose contrast with what is behind them is below 4.5:1, or 3:1 where they are large. */
function paleTexts() {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return context.getImageData(0, 0, 1, 1).data;
  };
  const over = (top, ground) => [0, 1, 2].map((at) => (top[at] * top[3]) / 255 + ground[at] * (1 - top[3] / 255));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (element) => {
    if (element === null) return [255, 255, 255];
    const colour = rgba(getComputedStyle(element).backgroundColor);
    return colour[3] === 255 ? [...colour].slice(0, 3) : over(colour, groundOf(element.parentElement));
  };
  const pale = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (text === "" || !element.checkVisibility({ checkOpacity: true }) || element.closest(".sr, :disabled, noscript")) continue;
    const style = getComputedStyle(element);
    const ground = groundOf(element);
    const [light, dark] = [luminance(over(rgba(style.color), ground)), luminance(ground)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) pale.push(`${text.slice(0, 40)} ${ratio.toFixed(2)}`);
  }
  return pale;
}
