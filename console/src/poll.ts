// Asks the server the same question again and again while the page is seen, and less often while it does not answer.
import { useEffect, useMemo, useState } from "preact/hooks";
import { backoff } from "./backoff.js";
import { refusal, type Refusal } from "./errors.js";
import type { Freshness } from "./freshness.js";

export interface Polling<Answer> {
  ask(signal: AbortSignal): Promise<Answer>;
  answered(answer: Answer): void;
  /** How long to wait after an answer, in milliseconds. 0: one answer is enough. */
  every: number;
  freshness: Freshness;
  /** Looks at each error first. Returns whether it is final: then it is not asked again. */
  refused?(refusal: Refusal, error: unknown): boolean;
}

export interface Poll {
  /** Asks now. */
  now(): void;
  stop(): void;
}

export function poll<Answer>(polling: Polling<Answer>): Poll {
  const { freshness } = polling;
  let question: AbortController | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;
  let isOver = false;

  const pause = () => {
    clearTimeout(timer);
    question?.abort();
    question = null;
  };

  const ask = async () => {
    pause();
    const mine = new AbortController();
    question = mine;
    try {
      const answer = await polling.ask(mine.signal);
      if (question !== mine) return;
      failures = 0;
      freshness.news();
      polling.answered(answer);
      if (polling.every > 0) timer = setTimeout(ask, polling.every);
    } catch (error) {
      if (question !== mine) return;
      const why = refusal(error);
      if (polling.refused?.(why, error) === true) {
        isOver = true;
        return;
      }
      failures += 1;
      freshness.problem.value = why.what;
      timer = setTimeout(ask, backoff(failures, why.retryAfter));
    } finally {
      if (question === mine) question = null;
    }
  };

  const onVisibility = () => {
    if (isOver) return;
    if (document.hidden) return pause();
    freshness.resume();
    void ask();
  };

  document.addEventListener("visibilitychange", onVisibility);
  if (!document.hidden) void ask();
  return {
    now: () => {
      if (!isOver && !document.hidden) void ask();
    },
    stop: () => {
      isOver = true;
      document.removeEventListener("visibilitychange", onVisibility);
      pause();
    },
  };
}

export interface Polled<Answer> {
  readonly answer: Answer | null;
  /** The final refusal, after which it is not asked again. */
  readonly refusal: Refusal | null;
  now(): void;
}

/** Polls while the component is there. A change of `inputs` forgets the answer and asks anew. */
export function usePoll<Answer>(
  freshness: Freshness,
  every: number,
  inputs: readonly unknown[],
  ask: (signal: AbortSignal) => Promise<Answer>,
  isFinal: (refusal: Refusal) => boolean,
): Polled<Answer> {
  const [state, setState] = useState<{ answer: Answer | null; refusal: Refusal | null }>({ answer: null, refusal: null });
  const handle = useMemo<{ poll: Poll | null }>(() => ({ poll: null }), []);
  useEffect(() => {
    setState({ answer: null, refusal: null });
    const running = poll<Answer>({
      ask,
      every,
      freshness,
      answered: (answer) => setState({ answer, refusal: null }),
      refused: (why) => {
        if (isFinal(why)) setState((before) => ({ ...before, refusal: why }));
        return isFinal(why);
      },
    });
    handle.poll = running;
    return running.stop;
  }, [every, ...inputs]);
  return { ...state, now: () => handle.poll?.now() };
}
