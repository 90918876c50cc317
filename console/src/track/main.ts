// The tracking page: follows one order by the secret that stands behind the `#` of its address. Whoever has the link sees
// where the order stands and where its driver is; the page gets nothing else, so it can show nothing else.
import "../../styles/track.css";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { fetchNotingBuild } from "../build-hint.js";
import { follow } from "../follow.js";
import { age } from "../format-age.js";
import { Freshness, SILENCE_MS } from "../freshness.js";
import { TrackingService, TrackingStatus, type WatchSharedResponse } from "../gen/waybill/tracking/v1/tracking_pb.js";
import { startTheme } from "../theme.js";
import { instant, milliseconds, noteServerClock, serverNow } from "../time.js";
import { trackMap, type TrackMap } from "./track-map.js";
import { detail, isFinal, LINK_ENDED, sentence } from "./words.js";

const element = (id: string): HTMLElement => {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
};

const heading = element("sentence");
const more = element("more");
const freshness = new Freshness();
let map: TrackMap | null = null;
let last: WatchSharedResponse | null = null;
/** When it was last known that the driver is where the map has it. NaN: it was not seen since it was assigned. */
let seenAt = Number.NaN;
let hasEnded = false;

function say(text: string, next: string): void {
  if (heading.textContent !== text) heading.textContent = text;
  if (more.textContent !== next) more.textContent = next;
}

/** Each second: ages grow, and silence has to be noticed. */
function show(): void {
  if (hasEnded) return say(LINK_ENDED, "Ask whoever sent it to you for a new one.");
  if (last === null) {
    const isLate = Date.now() - freshness.waitsSince > SILENCE_MS || freshness.problem.value !== "";
    return say("One moment…", isLate ? "The server cannot be reached. It is tried again by itself." : "");
  }
  const since = Math.max(freshness.newsAt.value, freshness.waitsSince);
  if (!isFinal(last.status) && Date.now() - since > SILENCE_MS) {
    const old = age(Date.now() - freshness.newsAt.value);
    return say(sentence(last.status), `What you see is ${old} old. Reconnecting…`);
  }
  say(sentence(last.status), detail(last, seenAt, serverNow()));
}

function end(): void {
  hasEnded = true;
  last = null;
  map?.remove();
  map = null;
  document.body.classList.add("ended");
  show();
}

function start(token: string): void {
  const tracking = createClient(
    TrackingService,
    createGrpcWebTransport({ baseUrl: location.origin, fetch: fetchNotingBuild }),
  );
  follow<WatchSharedResponse>({
    freshness,
    open: (signal) => tracking.watchShared({ token }, { signal }),
    message: (message) => {
      noteServerClock(message.now);
      last = message;
      if (message.driver?.age !== undefined) seenAt = instant(message.now) - milliseconds(message.driver.age);
      else if (message.status !== TrackingStatus.DRIVER_ASSIGNED) seenAt = Number.NaN;
      map ??= trackMap(element("map"));
      map.show(message);
      document.body.classList.toggle("over", isFinal(message.status));
      show();
    },
    ended: show,
    refused: (why) => {
      // Wrong, expired and revoked are one: what the link was is no one's business any more.
      const isDead = why.code === Code.NotFound || why.code === Code.InvalidArgument;
      if (isDead) end();
      return isDead;
    },
  });
}

startTheme();
const token = location.hash.slice(1);
if (token === "") end();
else start(token);
setInterval(show, 1000);
// Another link that is opened in this tab changes the fragment alone, which loads nothing.
addEventListener("hashchange", () => location.reload());
