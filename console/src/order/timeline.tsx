// The step log as a timeline: one line for each step, as it was written.
import { clock, dateTime, whole } from "../format.js";
import type { Line } from "./view.js";
import { title, tone } from "./words.js";

export function Timeline({ lines }: { lines: readonly Line[] }) {
  const hasRounds = lines.some((line) => line.round > 0);
  return (
    <ol class="timeline">
      {lines.map((line, at) => (
        // The log is append-only, so a line's place is its identity.
        <li key={at} class={`line line-${tone(line)}`} data-step={line.step} data-status={line.status}>
          <time title={dateTime(line.at)}>{clock(line.at)}</time>
          <span class="line-mark" aria-hidden="true" />
          <div>
            <p class="line-title">
              {title(line)}
              {hasRounds && line.round > 0 && <span class="tag">search {whole(line.round + 1)}</span>}
            </p>
            {line.detail !== "" && <p class="line-detail">{line.detail}</p>}
            <p class="line-note">
              <code>
                {line.step} {line.status}
              </code>
              {line.who !== "" && <> by {line.who}</>}
            </p>
          </div>
        </li>
      ))}
    </ol>
  );
}
