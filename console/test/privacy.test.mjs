// C4: nothing is shown that the token may not see: a customer's token is refused in words, and a shared link has no ids,
// names or amounts, neither on its page nor on the wire.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { HERE, startBrowser } from "./browser.mjs";
import { callsOf } from "./calls.mjs";
import { startWaybill } from "./waybill.mjs";

const waybill = await startWaybill(after);
const browser = await startBrowser(after);
const calls = callsOf(waybill);

for (const role of ["customer", "driver", "service"]) {
  test(`a ${role}'s token is refused in words, and nothing is called with it`, async () => {
    const opened = await browser.open(waybill, { role });
    const { page, seen } = opened;
    await page.getByRole("heading", { name: "This page is for dispatchers and operators" }).waitFor();
    await page.evaluate(() => { location.hash = "#/health"; });
    await page.getByRole("heading", { name: "This page is for dispatchers and operators" }).waitFor();
    assert.deepEqual(seen.requests.map((request) => request.url()).filter((url) => url.includes("/waybill.")), []);
    await page.getByRole("button", { name: "Sign in with another token" }).click();
    await page.getByLabel("Token").waitFor();
    await opened.close();
  });
}

test("a dispatcher has no page of health, and calls no service of operators", async () => {
  await calls.report([["driver-1", ...HERE]]);
  const order = await calls.place(...HERE);
  const opened = await browser.open(waybill, { role: "dispatcher", route: `#/orders/${order.orderId}` });
  const { page, seen } = opened;
  await page.getByText("Driver assigned").waitFor();
  assert.equal(await page.getByRole("link", { name: "Health" }).count(), 0);
  await page.evaluate(() => { location.hash = "#/health"; });
  await page.getByRole("heading", { name: "This page is for operators" }).waitFor();
  assert.deepEqual(seen.requests.map((request) => request.url()).filter((url) => url.includes("AdminService")), []);
  await opened.close();
});

test("a token that the server does not trust leads to the sign-in, and says what to do", async () => {
  const opened = await browser.open(waybill);
  const { page } = opened;
  const encoded = (json) => Buffer.from(JSON.stringify(json)).toString("base64url");
  const forged = `${encoded({ alg: "ES256" })}.${encoded({ sub: "mallory", waybill: { role: "operator" } })}.c2ln`;
  await page.getByLabel("Token").fill(forged);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("The server does not trust this token").waitFor();
  await page.getByLabel("Token").fill("wbk_key_secret");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("This is an API key").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await opened.close();
});

test("a shared link shows no id, name or amount, on its page and on the wire", async () => {
  await calls.report([["driver-4", 37.71, -122.41]]);
  const order = await calls.place(37.71, -122.41, 4321n);
  const driver = order.assignment.driverId;
  const link = (await calls.customer.shareOrder({ orderId: order.orderId })).token;
  const secrets = [order.orderId, driver, "anna", "43.21", "4321", "EUR", "€"];

  const opened = await browser.open(waybill, { path: `/t/#${link}`, width: 320, height: 640 });
  const { page, seen } = opened;
  await page.getByRole("heading", { name: "Your driver is on the way" }).waitFor();
  const dom = await page.evaluate(() => document.documentElement.outerHTML + JSON.stringify({ ...localStorage, ...sessionStorage }));
  for (const secret of secrets) assert.ok(!dom.includes(secret), `the page has ${secret}`);
  // What the page asked is asked once more, since a browser does not keep what a stream brought. It ends with the order.
  const watched = seen.requests.find((request) => request.url().endsWith("/WatchShared"));
  const asked = watched.postDataBuffer();
  const headers = { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" };
  const again = await fetch(watched.url(), { method: "POST", headers, body: asked });
  await calls.dispatcher.completeOrder({ orderId: order.orderId });
  await page.getByRole("heading", { name: "Arrived" }).waitFor();
  const answer = Buffer.from(await again.arrayBuffer()).toString("latin1") + JSON.stringify([...again.headers]);
  const wire = asked.toString("latin1") + answer;
  assert.match(answer, /grpc-status/, "the whole answer is there to be searched");
  for (const secret of secrets) assert.ok(!wire.includes(secret), `the wire has ${secret}`);
  assert.ok(!seen.requests.some((request) => request.url().includes(link)), "the link's secret is in an address");
  await opened.close();
});

test("no link, a wrong one and one that was revoked are all the same", async () => {
  await calls.report([["driver-5", 37.72, -122.42]]);
  const order = await calls.place(37.72, -122.42);
  const revoked = await calls.customer.shareOrder({ orderId: order.orderId });
  await calls.customer.revokeShare({ orderId: order.orderId, shareId: revoked.shareId });
  const texts = [];
  for (const token of ["", "wrong", "%ff", revoked.token]) {
    const opened = await browser.open(waybill, { path: `/t/#${token}` });
    await opened.page.getByRole("heading", { name: "This link has ended." }).waitFor();
    texts.push(await opened.page.locator("main").innerText());
    assert.deepEqual(opened.seen.errors, []);
    await opened.close();
  }
  assert.equal(new Set(texts).size, 1, texts.join("\n"));
});
