// A small map of one order: where it begins and ends, and where its driver is while it serves.
import { coordinates } from "../coordinates.js";
import { Code } from "@connectrpc/connect";
import { useEffect, useRef, useState } from "preact/hooks";
import { follow } from "../follow.js";
import { age } from "../format.js";
import { Freshness } from "../freshness.js";
import type { LatLng } from "../gen/waybill/location/v1/lat_lng_pb.js";
import { baseMap } from "../map/base.js";
import { Dots } from "../map/dots.js";
import { Fleet } from "../map/fleet.js";
import { places } from "../map/places.js";
import { endSessionIfRefused, fleetService } from "../rpc.js";

interface Properties {
  id: string;
  isServing: boolean;
  pickup: LatLng;
  dropOff: LatLng | undefined;
}

export function OrderMap({ id, isServing, pickup, dropOff }: Properties) {
  const element = useRef<HTMLDivElement>(null);
  const [fleet] = useState(() => new Fleet());
  const [seen, setSeen] = useState("");

  useEffect(() => {
    if (element.current === null) return;
    const { map, remove } = baseMap(element.current, { scrollWheelZoom: false });
    const bounds = places(map, pickup, dropOff);
    map.fitBounds(bounds, { padding: [36, 36], maxZoom: 15, animate: false });
    const dots = new Dots(fleet).addTo(map);
    let isFirst = true;
    const stop = isServing
      ? follow({
          freshness: new Freshness(),
          open: (signal) => fleetService.watchDrivers({ scope: { case: "orderId", value: id } }, { signal }),
          message: (message) => {
            fleet.apply(message);
            dots.wake();
            const at = message.drivers[0]?.position;
            if (!isFirst || at === undefined) return;
            isFirst = false;
            map.fitBounds(bounds.extend(coordinates(at)), { padding: [36, 36], maxZoom: 15 });
          },
          ended: () => fleet.clear(),
          refused: (why, error) => {
            endSessionIfRefused(error);
            return [Code.NotFound, Code.PermissionDenied, Code.Unauthenticated].includes(why.code);
          },
        })
      : () => {};
    const timer = setInterval(() => {
      const [dot] = fleet.dots.values();
      setSeen(dot === undefined ? "" : `${dot.id} was seen ${age(Date.now() - dot.fixedAt)} ago.`);
    }, 1000);
    return () => {
      clearInterval(timer);
      stop();
      fleet.clear();
      dots.remove();
      remove();
    };
  }, [id, isServing]);

  return (
    <section class="panel-box order-map" aria-label="Where it is">
      <div ref={element} class="map" />
      {isServing && (
        <p class="legend" role="status">
          {seen === "" ? "Its driver is not seen right now." : seen}
        </p>
      )}
    </section>
  );
}
