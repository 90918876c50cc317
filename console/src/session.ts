// Who is signed in: a token in this tab's sessionStorage. There is no cookie, so no other page can act in its name.
//
// The page reads the token's payload for the name and the role to show. It decides nothing by them that the server does not
// decide again: what a token may do is checked there, at each call.
import { Cell } from "./cell.js";

export const ROLES = ["customer", "driver", "dispatcher", "service", "operator"] as const;
export type Role = (typeof ROLES)[number];

export interface Session {
  readonly token: string;
  /** Whom the token is about, such as "olga". */
  readonly subject: string;
  readonly role: Role;
}

const KEY = "waybill.token";

/** The session. `null` while no one is signed in. */
export const session = new Cell<Session | null>(null);

/** Why the sign-in form is shown, if it is for more than that no one signed in yet. */
export const farewell = new Cell<string>("");

/** Reads a token, or says in words why it is none. */
export function readToken(text: string): Session | string {
  const token = text.trim();
  if (token.startsWith("wbk_")) {
    return "This is an API key, which is for programs. Paste a token: it has three parts with dots between them.";
  }
  const parts = token.split(".");
  if (parts.length !== 3 || parts.some((part) => part === "")) {
    return "This is no token. A token has three parts with dots between them, and begins with “ey”.";
  }
  let payload: unknown;
  try {
    const base64 = (parts[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    payload = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return "This token is damaged: its middle part cannot be read. Copy all of it, and paste it again.";
  }
  const claims = payload as { sub?: unknown; waybill?: { role?: unknown } };
  const role = ROLES.find((known) => known === claims.waybill?.role);
  if (typeof claims.sub !== "string" || role === undefined) {
    return "This token is not for Waybill: it does not say whose it is, or in which role.";
  }
  return { token, subject: claims.sub, role };
}

/** Takes the token out of the address, or the one that this tab had before it was loaded again. */
export function startSession(): void {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get("token");
  if (given !== null) {
    // At once, so that it is not in the history, and in no address that is copied.
    history.replaceState(null, "", location.pathname + location.search);
    signIn(given);
    return;
  }
  const kept = sessionStorage.getItem(KEY);
  if (kept !== null) signIn(kept);
}

/** Signs in with a token. Returns why it is not taken, or nothing. */
export function signIn(text: string): string {
  const read = readToken(text);
  if (typeof read === "string") {
    sessionStorage.removeItem(KEY);
    session.value = null;
    farewell.value = read;
    return read;
  }
  sessionStorage.setItem(KEY, read.token);
  farewell.value = "";
  session.value = read;
  return "";
}

/** Ends the session. `why` is shown with the sign-in form. */
export function signOut(why = ""): void {
  sessionStorage.removeItem(KEY);
  farewell.value = why;
  session.value = null;
}

/** Whether the console is for this role. */
export function isStaff(role: Role): boolean {
  return role === "dispatcher" || role === "operator";
}
