// Takes the pictures of docs/console/ from a running server on which something goes on, such as `waybill dev` with a
// `waybill replay`. Usage: node screenshots.mjs [DEV_ENV] [OUT]. With PREVIEW=1 the pages are those of dist/.
import { mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { preview, readEnv } from "./preview.mjs";
import { startBrowser } from "./test/browser.mjs";
import { callsOf } from "./test/calls.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const env = readEnv(resolve(process.argv[2] ?? join(here, "../.waybill/dev.env")));
const out = resolve(process.argv[3] ?? join(here, "../docs/console"));
const front = process.env.PREVIEW === "1" ? await preview({ upstream: env.WEB_ADDR }) : null;
const server = {
  origin: front?.origin ?? `http://${env.WEB_ADDR}`,
  token: (role) => env[`${role.toUpperCase()}_TOKEN`],
};
mkdirSync(out, { recursive: true });

const ends = [];
const { open } = await startBrowser((end) => ends.push(end));
const { fleet, operator } = callsOf(server);

/** An order whose driver is seen right now, the one that has been served for longest of the newest ones. */
async function servedOrder() {
  const { orders } = await operator.listOrders({ status: 5, pageSize: 100 });
  const served = orders.filter(({ assignment, dropOff }) => assignment !== undefined && assignment.releasedAt === undefined && dropOff !== undefined);
  const seen = await Promise.all(
    served.slice(0, 40).map(async (order) => {
      const { driver } = await fleet.getDriver({ driverId: order.assignment.driverId }).catch(() => ({}));
      return driver !== undefined && driver.age.seconds < 8n ? [order] : [];
    }),
  );
  const order = seen.flat().at(-1);
  if (order === undefined) throw new Error("no order is served right now: place one, or start a replay");
  return order;
}

const order = await servedOrder();
const { token } = await operator.shareOrder({ orderId: order.orderId });

/** What is on each picture, and what has to be there before it is taken. */
const PICTURES = {
  // First, while its driver is where it was seen.
  tracking: { path: `/t/#${token}`, width: 390, height: 700, ready: (page) => page.locator(".leaflet-marker-icon").first().waitFor() },
  map: { route: "#/map", view: { center: [37.7749, -122.4294], zoom: 14 }, ready: (page) => page.locator("[data-count=free] b").waitFor() },
  orders: { route: "#/orders", ready: (page) => page.getByRole("table").last().waitFor() },
  order: { route: `#/orders/${order.orderId}`, ready: (page) => page.getByText("What happened").waitFor() },
  health: { route: "#/health", ready: (page) => page.getByText("Methods").waitFor(), settle: 12_000 },
  "map-phone": { route: "#/map", view: { center: [37.785, -122.412], zoom: 13 }, width: 320, height: 640, ready: (page) => page.locator("[data-count=free] b").waitFor() },
  "orders-phone": { route: "#/orders", width: 320, height: 640, ready: (page) => page.getByRole("table").last().waitFor() },
};

for (const [name, picture] of Object.entries(PICTURES)) {
  for (const theme of ["dark", "light"]) {
    const { route = "", path = "/", view, width = 1440, height = 900 } = picture;
    const role = path === "/" ? "operator" : undefined;
    const { page, close } = await open(server, { role, route, path, view, width, height, theme });
    await picture.ready(page);
    // Tiles come, and charts fill: how a picture looks is for the eye to judge, so time is enough.
    await page.waitForTimeout(picture.settle ?? 3_000);
    await page.screenshot({ path: join(out, `${name}-${theme}.png`) });
    await close();
    console.log(join(out, `${name}-${theme}.png`));
  }
}
for (const end of ends) await end();
await front?.close();
