// The panel on the map: how many drivers are free, serve or are not seen, how many orders wait, and all of them as lists.
// It is the legend, too, and for a keyboard and a screen reader it is the map.
import { useState } from "preact/hooks";
import { age, whole } from "../format.js";
import { DriverMark, KIND_WORD, OrderLink } from "../parts/marks.js";
import { serverNow } from "../time.js";
import { kindOf, type Dot, type Kind } from "./fleet.js";
import type { Glance } from "./page.js";

/** A longer list helps no one: the map is zoomed, or the name is typed. */
const LISTED_MAX = 100;
const SHOWN: readonly Kind[] = ["free", "serving", "stale", "off"];

interface Properties {
  glance: Glance;
  chosen: string;
  choose(driver: string): void;
}

export function Panel({ glance, chosen, choose }: Properties) {
  const { counts, crowd, waiting } = glance;
  const total = counts.free + counts.serving + counts.stale + counts.off;
  return (
    <section class="panel" aria-label="Fleet">
      <ul class="counts">
        {crowd === null ? (
          SHOWN.filter((kind) => kind !== "off" || counts.off > 0).map((kind) => (
            <Count key={kind} kind={kind} count={counts[kind]} word={KIND_WORD[kind].toLowerCase()} />
          ))
        ) : (
          <>
            <Count kind="free" count={crowd.free} word="free" />
            <Count kind="serving" count={crowd.drivers - crowd.free} word="not free" />
          </>
        )}
        <Count kind="waiting" count={waiting.length} word="waiting" />
      </ul>
      {crowd !== null && (
        <p class="panel-note">
          There are more drivers than can be shown one by one: a circle has how many are there, and its green part is free. Zoom in, or click one.
        </p>
      )}
      {glance.isKnown && total === 0 && crowd === null && (
        <p class="panel-note">
          No driver reports its position here. Move the map, or send a fix: a driver is here within a second.
        </p>
      )}
      {glance.isCut && <p class="panel-note">This view is larger than two degrees: only its middle is watched. Zoom in for all.</p>}
      {waiting.length > 0 && <WaitingList glance={glance} />}
      {crowd === null && <DriverList glance={glance} chosen={chosen} choose={choose} />}
    </section>
  );
}

function Count({ kind, count, word }: { kind: Kind | "waiting"; count: number; word: string }) {
  return (
    <li data-count={kind}>
      <DriverMark kind={kind} />
      <b>{whole(count)}</b> <span>{word}</span>
    </li>
  );
}

function WaitingList({ glance }: { glance: Glance }) {
  const now = serverNow();
  const oldest = [...glance.waiting].sort((a, b) => a.since - b.since).slice(0, LISTED_MAX);
  return (
    <details class="fold">
      <summary>
        Orders waiting <span class="dim">{whole(glance.waiting.length)}</span>
      </summary>
      <ul class="list">
        {oldest.map((order) => (
          <li key={order.id}>
            <OrderLink id={order.id} /> <span class="dim">{age(now - order.since)}</span>
          </li>
        ))}
      </ul>
    </details>
  );
}

function DriverList({ glance, chosen, choose }: Properties) {
  const [isOpen, setIsOpen] = useState(false);
  const [sought, setSought] = useState("");
  const matching = glance.inView.filter(({ id }) => id.toLowerCase().includes(sought.trim().toLowerCase()));
  return (
    <details class="fold" open={isOpen} onToggle={(event) => setIsOpen(event.currentTarget.open)}>
      <summary>
        Drivers in view <span class="dim">{whole(glance.inView.length)}</span>
      </summary>
      {isOpen && (
        <>
          <label class="sr" for="sought">
            Find a driver in view
          </label>
          <input
            id="sought"
            type="search"
            placeholder="Find by id"
            autocomplete="off"
            value={sought}
            onInput={(event) => setSought(event.currentTarget.value)}
          />
          <Listed dots={matching} chosen={chosen} choose={choose} />
        </>
      )}
    </details>
  );
}

function Listed({ dots, chosen, choose }: { dots: readonly Dot[]; chosen: string; choose(driver: string): void }) {
  const now = Date.now();
  const listed = [...dots].sort((a, b) => a.id.localeCompare(b.id, undefined, { numeric: true })).slice(0, LISTED_MAX);
  return (
    <>
      <ul class="list" aria-label="Drivers in view">
        {listed.map((dot) => {
          const kind = kindOf(dot, now);
          return (
            <li key={dot.id}>
              <button type="button" class="row" aria-pressed={dot.id === chosen} onClick={() => choose(dot.id)}>
                <DriverMark kind={kind} />
                <span class="mono">{dot.id}</span>
                <span class="dim">{KIND_WORD[kind].toLowerCase()}</span>
              </button>
            </li>
          );
        })}
      </ul>
      {dots.length > listed.length && <p class="panel-note">And {whole(dots.length - listed.length)} more: zoom in, or find one by its id.</p>}
      {dots.length === 0 && <p class="panel-note">None.</p>}
    </>
  );
}
