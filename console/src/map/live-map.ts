// The map of the fleet: the base, the dots on it, the watch of the area that is seen, and the orders that wait.
// The page around it tells it what is chosen, and asks it once a second what there is.
import { coordinates } from "../coordinates.js";
import L from "leaflet";
import { Code } from "@connectrpc/connect";
import { follow } from "../follow.js";
import type { Freshness } from "../freshness.js";
import { OrderStatus } from "../gen/waybill/order/v1/order_pb.js";
import { poll } from "../poll.js";
import { endSessionIfRefused, fleetService, orderService, READ_MS } from "../rpc.js";
import { instant } from "../time.js";
import { areaFor, isCut, serves, wrapped, type Box } from "./area.js";
import { baseMap, SAN_FRANCISCO } from "./base.js";
import { Dots, type Hit } from "./dots.js";
import { Fleet, type Dot } from "./fleet.js";
import { toLatLng, toWorld } from "./mercator.js";
import { positionAt } from "./motion.js";
import { firstView, keepView, keptView, recentPickups } from "./view.js";

const REWATCH_MS = 250;
const WAITING_EVERY_MS = 2_000;
/** How many of the drivers the first view shows at least, along each axis. */
const MOST = 0.9;

export interface LiveMap {
  readonly fleet: Fleet;
  readonly dots: Dots;
  readonly map: L.Map;
  /** Whether the view is larger than what can be watched. */
  isCut(): boolean;
  /** The drivers that are seen in the view now. */
  inView(): Dot[];
  choose(driver: string): void;
  /** Keeps the chosen driver in the middle, or stops it. */
  followChosen(isOn: boolean): void;
  showAll(): void;
  remove(): void;
}

interface Events {
  /** Of what is known of the drivers, and of the orders that wait: one may be dead while the other is not. */
  drivers: Freshness;
  orders: Freshness;
  clicked(hit: Hit | null): void;
  /** The map was dragged, so the driver is not followed any more. */
  followEnded(): void;
}

export function liveMap(element: HTMLElement, events: Events): LiveMap {
  const { map, remove: removeBase } = baseMap(element, { keyboardPanDelta: 120 });
  const fleet = new Fleet();
  const dots = new Dots(fleet);
  let area: Box | null = null;
  let stopWatch = () => {};
  let rewatch: ReturnType<typeof setTimeout> | undefined;
  let isFollowing = false;
  let isRemoved = false;
  /** Whether the first drivers move the view to where they are: only if it was not chosen by anyone. */
  let isFirstView = false;

  const watch = () => {
    const view = boxOf(map);
    if (area !== null && serves(area, view)) return;
    stopWatch();
    const asked = areaFor(view);
    area = asked;
    // Another area has another cursor.
    let cursor = "";
    stopWatch = follow({
      freshness: events.drivers,
      open: (signal) => {
        fleet.begin();
        return fleetService.watchDrivers(
          {
            cursor,
            scope: {
              case: "area",
              value: {
                southWest: { latitude: asked.south, longitude: wrapped(asked.west) },
                northEast: { latitude: asked.north, longitude: wrapped(asked.east) },
              },
            },
            interval: { seconds: 1n, nanos: 0 },
          },
          { signal },
        );
      },
      message: (message) => {
        if (message.cursor !== "") cursor = message.cursor;
        fleet.apply(message);
        if (isFirstView && fleet.isKnown && (fleet.dots.size > 0 || fleet.cells.size > 0)) {
          isFirstView = false;
          fit(MOST);
        }
        dots.wake();
      },
      refused: (why, error) => {
        endSessionIfRefused(error);
        return [Code.Unauthenticated, Code.PermissionDenied, Code.InvalidArgument].includes(why.code);
      },
    });
  };

  /** Shows all drivers and orders; or, with `most`, the middle of them: one far away would make the city a speck. */
  const fit = (most = 1) => {
    const now = performance.now();
    const points = [...fleet.dots.values()].map(({ motion }) => positionAt(motion, now)).concat(fleet.cells.groups(1), dots.waiting);
    if (points.length === 0) return false;
    const [west, east] = spread(points.map(({ x }) => x), most);
    const [north, south] = spread(points.map(({ y }) => y), most);
    const bounds = L.latLngBounds(toLatLng(west, north), toLatLng(east, south));
    map.fitBounds(bounds, { padding: [48, 48], maxZoom: 15 });
    return true;
  };

  const waiting = poll({
    freshness: events.orders,
    every: WAITING_EVERY_MS,
    ask: (signal) => orderService.listOrders({ status: OrderStatus.CHARGED, pageSize: 200 }, { signal, timeoutMs: READ_MS }),
    answered: ({ orders }) => {
      dots.waiting = orders.flatMap((order) => {
        if (order.pickup === undefined) return [];
        // What changed last is that it began to wait: it was paid, or its driver was released.
        const { x, y } = toWorld(...coordinates(order.pickup));
        return [{ id: order.orderId, x, y, since: instant(order.updatedAt) }];
      });
      dots.wake();
    },
    refused: (why) => why.code === Code.Unauthenticated || why.code === Code.PermissionDenied,
  });

  const begin = (center: L.LatLngTuple, zoom: number) => {
    map.setView(center, zoom, { animate: false });
    map.on("moveend", () => {
      // Not put off by each further move: a driver that is followed moves the map at every frame.
      rewatch ??= setTimeout(() => {
        rewatch = undefined;
        keepView(map);
        watch();
      }, REWATCH_MS);
    });
    dots.addTo(map);
    watch();
  };

  map.on("dragstart", () => {
    isFirstView = false;
    if (!isFollowing) return;
    isFollowing = false;
    events.followEnded();
  });
  map.on("click", (event) => {
    const hit = dots.at(event.containerPoint);
    if (hit?.group === undefined) return events.clicked(hit);
    map.setView(toLatLng(hit.group.x, hit.group.y), map.getZoom() + 2);
  });
  map.on("mousemove", (event) => element.classList.toggle("points", dots.at(event.containerPoint) !== null));
  dots.beforeFrame = (now) => {
    const dot = isFollowing ? fleet.dots.get(dots.chosen) : undefined;
    if (dot === undefined) return;
    const { x, y } = positionAt(dot.motion, now);
    map.panTo(toLatLng(x, y), { animate: false });
  };

  const kept = keptView();
  if (kept !== null) begin(kept.center, kept.zoom);
  else {
    // Something is to be seen at once; the answer may take a while.
    map.setView(SAN_FRANCISCO, 12, { animate: false });
    void firstView().then(({ center, zoom }) => {
      if (isRemoved) return;
      isFirstView = true;
      begin(center, zoom);
    });
  }

  return {
    fleet,
    dots,
    map,
    isCut: () => isCut(boxOf(map)),
    inView: () => {
      const { south, west, north, east } = boxOf(map);
      const low = toWorld(north, west);
      const high = toWorld(south, east);
      const isSeen = ({ motion: { toX, toY } }: Dot) => toX >= low.x && toX <= high.x && toY >= low.y && toY <= high.y;
      return [...fleet.dots.values()].filter(isSeen);
    },
    choose: (driver) => {
      dots.chosen = driver;
      dots.wake();
    },
    followChosen: (isOn) => {
      isFollowing = isOn;
      const dot = fleet.dots.get(dots.chosen);
      if (!isOn || dot === undefined) return;
      const { x, y } = positionAt(dot.motion, performance.now());
      map.setView(toLatLng(x, y), Math.max(map.getZoom(), 15));
    },
    showAll: () => {
      if (fit()) return;
      void recentPickups()
        .then((pickups) => {
          if (pickups.length > 0 && !isRemoved) map.fitBounds(L.latLngBounds(pickups), { padding: [48, 48], maxZoom: 14 });
        })
        // The banner says already that nothing comes.
        .catch(() => {});
    },
    remove: () => {
      isRemoved = true;
      clearTimeout(rewatch);
      stopWatch();
      waiting.stop();
      dots.remove();
      removeBase();
    },
  };
}

/** Between which values the middle `part` of them lies. */
function spread(values: number[], part: number): [number, number] {
  values.sort((a, b) => a - b);
  const cut = Math.floor((values.length * (1 - part)) / 2);
  return [values[cut] ?? 0, values[values.length - 1 - cut] ?? 0];
}

function boxOf(map: L.Map): Box {
  const bounds = map.getBounds();
  return { south: bounds.getSouth(), west: bounds.getWest(), north: bounds.getNorth(), east: bounds.getEast() };
}

