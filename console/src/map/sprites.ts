// How a driver looks on the map, by what it does.
import { colour } from "../theme.js";
import { KINDS, type Kind } from "./fleet.js";
import { stamp, type Stamp } from "./raster.js";

export type Sprites = Readonly<Record<Kind, Stamp>>;

const SIZE = 15;

export function sprites(ratio: number): Sprites {
  const drawn = KINDS.map((kind) => [kind, stamp(SIZE, ratio, (context) => draw(context, kind))] as const);
  return Object.fromEntries(drawn) as Record<Kind, Stamp>;
}

function draw(context: CanvasRenderingContext2D, kind: Kind): void {
  const rim = colour("--map");
  const circle = (radius: number) => {
    context.beginPath();
    context.arc(0, 0, radius, 0, 2 * Math.PI);
  };
  if (kind === "stale") {
    // Hollow: there is no telling where it is.
    context.fillStyle = rim;
    circle(6);
    context.fill();
    circle(4);
    context.strokeStyle = colour("--stale");
    context.lineWidth = 1.8;
    context.stroke();
    return;
  }
  const radius = kind === "off" ? 3.6 : 4.9;
  context.fillStyle = rim;
  circle(radius + 1.4);
  context.fill();
  context.fillStyle = colour(`--${kind}`);
  circle(radius);
  context.fill();
}
