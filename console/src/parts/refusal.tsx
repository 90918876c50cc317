// A refusal of the server, as a note: what happened, what to do, and what belongs to it.
import type { Refusal } from "../errors.js";
import { age } from "../format.js";

export function RefusalNote({ refusal, shown = [] }: { refusal: Refusal; shown?: readonly string[] }) {
  // What is said beside its field is not said twice.
  const fields = [...refusal.fields].filter(([field]) => !shown.includes(field));
  const metadata = Object.entries(refusal.metadata);
  return (
    <div class="note note-bad" role="alert">
      <p>
        <b>{refusal.what}</b> {refusal.advice}
      </p>
      {fields.length > 0 && (
        <ul>
          {fields.map(([field, what]) => (
            <li key={field}>
              <code>{field}</code>: {what}
            </li>
          ))}
        </ul>
      )}
      {refusal.retryAfter > 0 && <p>Try again in {age(Math.max(1000, refusal.retryAfter))}.</p>}
      {refusal.reason !== "" && (
        <p class="dim">
          <code>{refusal.reason}</code>
          {metadata.map(([key, value]) => (
            <span key={key}>
              {" "}
              {key}: <code>{value}</code>
            </span>
          ))}
        </p>
      )}
    </div>
  );
}
