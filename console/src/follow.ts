// Keeps a server's stream open: reconnects when it breaks or is silent for too long, and closes it while the page is hidden.
// A browser has six connections to an address over HTTP/1.1, so a tab has one stream, and a hidden tab none.
import { backoff } from "./backoff.js";
import { refusal, type Refusal } from "./errors.js";
import { SILENCE_MS, type Freshness } from "./freshness.js";

/** How long the first message of a stream may take that is opened again. */
const FIRST_MESSAGE_MS = 6_000;

export interface Following<Message> {
  /** Opens the stream. It is called again for each connection. */
  open(signal: AbortSignal): AsyncIterable<Message>;
  message(message: Message): void;
  freshness: Freshness;
  /** The stream ended with OK. It is not opened again. */
  ended?(): void;
  /** Looks at each error first. Returns whether it is final: then the stream is not opened again. */
  refused?(refusal: Refusal, error: unknown): boolean;
}

/** Follows until the returned function is called. */
export function follow<Message>(following: Following<Message>): () => void {
  const { freshness } = following;
  let connection: AbortController | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;
  let isOver = false;

  const close = () => {
    clearTimeout(timer);
    connection?.abort();
    connection = null;
  };

  const connect = async () => {
    const mine = new AbortController();
    connection = mine;
    const isCurrent = () => connection === mine;
    // The watchdog: a frozen server keeps the connection open and says nothing, so silence is what to look at.
    // After a failure the browser may have other connections of the same dead line, and take one of them: a stream says something at
    // once, so each of those is found out sooner.
    let watchdog = setTimeout(() => mine.abort(), failures > 0 ? FIRST_MESSAGE_MS : SILENCE_MS);
    try {
      for await (const message of following.open(mine.signal)) {
        if (!isCurrent()) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => mine.abort(), SILENCE_MS);
        failures = 0;
        freshness.news();
        following.message(message);
      }
      if (!isCurrent()) return;
      if (mine.signal.aborted) throw new Error("silent");
      isOver = true;
      following.ended?.();
    } catch (error) {
      if (!isCurrent()) return;
      const why = refusal(error);
      if (following.refused?.(why, error) === true) {
        isOver = true;
        return;
      }
      failures += 1;
      freshness.problem.value = mine.signal.aborted ? "The server is silent." : why.what;
      connection = null;
      timer = setTimeout(connect, backoff(failures, why.retryAfter));
    } finally {
      clearTimeout(watchdog);
    }
  };

  const onVisibility = () => {
    if (isOver) return;
    if (document.hidden) return close();
    freshness.resume();
    if (connection === null) {
      clearTimeout(timer);
      void connect();
    }
  };

  document.addEventListener("visibilitychange", onVisibility);
  if (!document.hidden) void connect();
  return () => {
    document.removeEventListener("visibilitychange", onVisibility);
    isOver = true;
    close();
  };
}
