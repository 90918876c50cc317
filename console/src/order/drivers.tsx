// Who was asked to serve the order, who was passed over, and why.
import { clock, dateTime } from "../format.js";
import type { Driven, Line } from "./view.js";
import { release } from "./words.js";

export function Drivers({ drivers, lines }: { drivers: readonly Driven[]; lines: readonly Line[] }) {
  return (
    <section class="panel-box" aria-labelledby="drivers">
      <h2 id="drivers">Drivers</h2>
      {drivers.length === 0 ? (
        <p class="dim">{lastSearch(lines)}</p>
      ) : (
        <ul class="entries">
          {drivers.map((driver) => (
            <li key={`${driver.driverId} ${String(driver.assignedAt?.seconds)}`}>
              <p>
                <b class="mono">{driver.driverId}</b> {release(driver)}
              </p>
              <p class="dim" title={dateTime(driver.assignedAt)}>
                assigned {clock(driver.assignedAt)}
                {driver.releasedAt !== undefined && `, released ${clock(driver.releasedAt)}`}
              </p>
              {whyPassedOver(driver, lines)}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

/** What the log says of the driver's release, in the words of whoever asked for it. */
function whyPassedOver(driver: Driven, lines: readonly Line[]) {
  if (driver.why !== "declined" && driver.why !== "silent") return null;
  const said = lines.find((line) => line.step === "release" && line.detail.startsWith(`${driver.driverId} `));
  return said === undefined ? null : <p>{said.detail.slice(driver.driverId.length + 1)}</p>;
}

function lastSearch(lines: readonly Line[]): string {
  const search = lines.findLast((line) => line.step === "assign");
  if (search === undefined) return "No driver was looked for yet.";
  return search.detail === "" ? "No driver was assigned." : `No driver was assigned: ${search.detail}.`;
}
