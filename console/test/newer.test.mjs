// A page whose server was replaced by another build says so.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { startBrowser } from "./browser.mjs";
import { startWaybill } from "./waybill.mjs";

const waybill = await startWaybill(after);
const browser = await startBrowser(after);

test("an old page at a newer server asks to be loaded again", async () => {
  const opened = await browser.open(waybill, { role: "operator", route: "#/orders" });
  const { page, context } = opened;
  await page.getByText("No order was placed yet").waitFor();
  assert.equal(await page.getByRole("button", { name: "Reload" }).count(), 0);
  await context.route("**/waybill.*/**", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, headers: { ...response.headers(), "x-waybill-build": "another" } });
  });
  await page.getByText("A newer version is running").waitFor();
  await context.unroute("**/waybill.*/**");
  await page.getByRole("button", { name: "Reload" }).click();
  await page.getByText("No order was placed yet").waitFor();
  assert.equal(await page.getByText("A newer version is running").count(), 0);
  await opened.close();
});
