// Where in the console one is, by the address's fragment: `#/orders/ID?status=charged`.
import { Cell } from "./cell.js";

export interface Route {
  /** The parts of the path: `["orders", "01a2…"]`. */
  readonly path: readonly string[];
  readonly query: URLSearchParams;
}

function read(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  let parts: string[];
  try {
    parts = path.split("/").filter((part) => part !== "").map(decodeURIComponent);
  } catch {
    parts = ["malformed"];
  }
  return { path: parts, query: new URLSearchParams(query) };
}

export const route = new Cell<Route>(read());

export function startRoute(): void {
  route.value = read();
  addEventListener("hashchange", () => {
    route.value = read();
  });
}

/** Changes the query without a new entry in the history. */
export function setQuery(query: Readonly<Record<string, string>>): void {
  const kept = Object.entries(query).filter(([, value]) => value !== "");
  const text = new URLSearchParams(kept).toString();
  const path = location.hash.split("?")[0];
  history.replaceState(null, "", text === "" ? path : `${path}?${text}`);
  route.value = read();
}

export const orderHref = (id: string): string => `#/orders/${encodeURIComponent(id)}`;
