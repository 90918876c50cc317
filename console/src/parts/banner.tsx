// What stands above a page: that what it shows is old, and that a newer version is running.
import { isOutdated } from "../build-hint.js";
import { useCell } from "../cell.js";
import { age } from "../format.js";
import { SILENCE_MS, type Freshness } from "../freshness.js";
import { useServerNow } from "./now.js";

/** Says that what is seen is old, as soon as it is. It is always there, so that a screen reader hears it appear. */
export function StaleBanner({ freshness }: { freshness: Freshness }) {
  useServerNow();
  const newsAt = useCell(freshness.newsAt);
  const problem = useCell(freshness.problem);
  const isEmpty = Number.isNaN(newsAt);
  const waits = Date.now() - Math.max(isEmpty ? 0 : newsAt, freshness.waitsSince);
  const isStale = waits > SILENCE_MS;
  const isDown = isEmpty && problem !== "";
  return (
    <div class="banner-place">
      {/* The count changes each second; a reader hears the sentence once. */}
      <p class="sr" role="status">
        {isStale || isDown ? "What you see is old. Reconnecting." : ""}
      </p>
      {isStale && !isEmpty && (
        <p class="banner banner-warn" data-banner="stale">
          <span class="banner-mark" aria-hidden="true" />
          <span>
            What you see is <b>{age(Date.now() - newsAt)}</b> old. Reconnecting… <span class="dim">{problem}</span>
          </span>
        </p>
      )}
      {isEmpty && (isDown || isStale) && (
        <p class="banner banner-warn" data-banner="stale">
          <span class="banner-mark" aria-hidden="true" />
          <span>
            Nothing to show yet. Connecting… <span class="dim">{problem}</span>
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
