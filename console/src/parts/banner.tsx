// What stands above a page: that what it shows is old, and that a newer version is running.
import { isOutdated } from "../build-hint.js";
import { useCell } from "../cell.js";
import { age } from "../format.js";
import { SILENCE_MS, type Freshness } from "../freshness.js";
import { useServerNow } from "./now.js";

/** Says that what is seen is old, as soon as it is: the one of the sources that was silent for longest decides. */
export function StaleBanner({ sources }: { sources: readonly Freshness[] }) {
  useServerNow();
  const now = Date.now();
  const stalest = sources.reduce((a, b) => (b.silentFor(now) > a.silentFor(now) ? b : a));
  const newsAt = stalest.newsAt.value;
  const problem = stalest.problem.value;
  const isEmpty = Number.isNaN(newsAt);
  const isStale = stalest.silentFor(now) > SILENCE_MS || (isEmpty && problem !== "");
  return (
    <div class="banner-place">
      {/* It is always there, so that a reader hears the sentence appear; once, and not each second with the count. */}
      <p class="sr" role="status">
        {isStale ? "What you see is old. Reconnecting." : ""}
      </p>
      {isStale && (
        <p class="banner banner-warn" data-banner="stale">
          <span class="banner-mark" aria-hidden="true" />
          <span>
            {isEmpty ? (
              "Nothing to show yet. Connecting… "
            ) : (
              <>
                What you see is <b>{age(now - newsAt)}</b> old. Reconnecting…{" "}
              </>
            )}
            <span class="dim">{problem}</span>
          </span>
        </p>
      )}
    </div>
  );
}

export function OutdatedHint() {
  if (!useCell(isOutdated)) return null;
  return (
    <p class="banner banner-info" role="status">
      <span>A newer version is running: reload this page to use it.</span>
      <button type="button" class="button small" onClick={() => location.reload()}>
        Reload
      </button>
    </p>
  );
}
