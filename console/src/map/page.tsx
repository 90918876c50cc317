// The map: the whole window, with a panel on it that counts, explains and lists, and a card for the driver that is chosen.
import { useEffect, useRef, useState } from "preact/hooks";
import { whole } from "../format.js";
import { Freshness } from "../freshness.js";
import { StaleBanner } from "../parts/banner.js";
import { Icon } from "../parts/icons.js";
import { orderHref } from "../route.js";
import { DriverCard } from "./card.js";
import type { Waiting } from "./dots.js";
import type { Counts, Crowd, Dot } from "./fleet.js";
import { liveMap, type LiveMap } from "./live-map.js";
import { Panel } from "./panel.js";

/** What the panel shows, looked at once a second. */
export interface Glance {
  readonly counts: Counts;
  readonly crowd: Crowd | null;
  readonly inView: readonly Dot[];
  readonly waiting: readonly Waiting[];
  readonly isKnown: boolean;
  readonly isCut: boolean;
}

const GLANCE_MS = 500;

export function MapPage() {
  const element = useRef<HTMLDivElement>(null);
  const live = useRef<LiveMap | null>(null);
  const [drivers] = useState(() => new Freshness());
  const [orders] = useState(() => new Freshness());
  const [glance, setGlance] = useState<Glance | null>(null);
  const [chosen, setChosen] = useState("");
  const [isFollowing, setIsFollowing] = useState(false);

  useEffect(() => {
    if (element.current === null) return;
    const made = liveMap(element.current, {
      drivers,
      orders,
      clicked: (hit) => {
        if (hit?.order !== undefined) location.hash = orderHref(hit.order);
        else setChosen(hit?.driver ?? "");
      },
      followEnded: () => setIsFollowing(false),
    });
    live.current = made;
    const look = () => setGlance(glanceAt(made));
    const timer = setInterval(look, GLANCE_MS);
    return () => {
      clearInterval(timer);
      live.current = null;
      made.remove();
    };
  }, []);

  useEffect(() => {
    live.current?.choose(chosen);
    if (chosen === "") setIsFollowing(false);
  }, [chosen]);
  useEffect(() => live.current?.followChosen(isFollowing), [isFollowing, chosen]);

  const dot = live.current?.fleet.dots.get(chosen);
  const seen = glance === null ? 0 : glance.inView.length;
  return (
    <>
      <h1 class="sr">Map</h1>
      <div
        ref={element}
        class="map"
        role="application"
        aria-label={`Map with ${whole(seen)} drivers. Arrow keys move it, plus and minus zoom. The drivers are also in a list.`}
      />
      <StaleBanner sources={[drivers, orders]} />
      {glance !== null && <Panel glance={glance} chosen={chosen} choose={setChosen} />}
      {chosen !== "" && (
        <DriverCard
          id={chosen}
          dot={dot}
          isFollowing={isFollowing}
          follow={setIsFollowing}
          close={() => setChosen("")}
        />
      )}
      <div class="map-buttons" role="group" aria-label="View">
        <button type="button" class="button icon-button" aria-label="Zoom in" title="Zoom in" onClick={() => live.current?.map.zoomIn()}>
          <Icon name="plus" />
        </button>
        <button type="button" class="button icon-button" aria-label="Zoom out" title="Zoom out" onClick={() => live.current?.map.zoomOut()}>
          <Icon name="minus" />
        </button>
        <button type="button" class="button icon-button" aria-label="Show all" title="Show all" onClick={() => live.current?.showAll()}>
          <Icon name="all" />
        </button>
      </div>
    </>
  );
}

function glanceAt(live: LiveMap): Glance {
  const inView = live.inView();
  return {
    counts: live.fleet.counts(),
    crowd: live.fleet.crowd(),
    inView,
    waiting: live.dots.waiting,
    isKnown: live.fleet.isKnown,
    isCut: live.isCut(),
  };
}
