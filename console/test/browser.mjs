// A browser for one file of tests. Each of its pages is watched: a request to another origin is aborted and counted, and so is
// what the page's policy refuses and every error that no one caught.
import { chromium } from "playwright-core";

const PROGRAM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** San Francisco, where the tests' drivers are. */
export const HERE = [37.7749, -122.4194];

export async function startBrowser(after) {
  const browser = await chromium.launch({ executablePath: PROGRAM });
  after(() => browser.close());

  /** Opens a page of `waybill`, as whoever has the role's token; without a role nobody signs in. */
  const open = async (waybill, { role, route = "", path = "/", width = 1280, height = 800, theme = "dark", view } = {}) => {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme });
    const page = await context.newPage();
    const seen = { foreign: [], refused: [], errors: [], requests: [] };
    await context.route("**/*", (request) => {
      const url = request.request().url();
      if (url.startsWith(`${waybill.origin}/`) || url.startsWith("data:")) return request.continue();
      seen.foreign.push(url);
      return request.abort();
    });
    page.on("request", (request) => seen.requests.push(request));
    page.on("pageerror", (error) => seen.errors.push(String(error)));
    page.on("console", (message) => {
      if (/Content Security Policy/.test(message.text())) seen.refused.push(message.text());
    });
    if (view !== undefined) {
      await context.addInitScript((kept) => {
        if (localStorage.getItem("waybill.view") === null) localStorage.setItem("waybill.view", JSON.stringify(kept));
      }, view);
    }
    const fragment = role === undefined ? "" : `#token=${waybill.token(role)}`;
    await page.goto(`${waybill.origin}${path}${fragment}`);
    if (route !== "") await page.evaluate((hash) => { location.hash = hash; }, route);
    return { page, context, seen, close: () => context.close() };
  };
  return { browser, open };
}

/** The view of the map over `HERE`. */
export const HERE_VIEW = { center: HERE, zoom: 14 };
