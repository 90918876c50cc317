// The pictures of which the moving layer consists, each drawn once: a frame then only copies them.
import { colour } from "../theme.js";
import { KINDS, type Kind } from "./fleet.js";

export interface Sprite {
  readonly picture: HTMLCanvasElement;
  /** Its width and height on the page. */
  readonly size: number;
}

export type Sprites = Readonly<Record<Kind, Sprite>>;

const SIZE = 16;

export function sprites(ratio: number): Sprites {
  const drawn = KINDS.map((kind) => [kind, sprite(kind, ratio)] as const);
  return Object.fromEntries(drawn) as Record<Kind, Sprite>;
}

function sprite(kind: Kind, ratio: number): Sprite {
  const picture = document.createElement("canvas");
  picture.width = Math.ceil(SIZE * ratio);
  picture.height = picture.width;
  const context = picture.getContext("2d");
  if (context !== null) {
    context.scale(picture.width / SIZE, picture.width / SIZE);
    draw(context, kind);
  }
  return { picture, size: SIZE };
}

function draw(context: CanvasRenderingContext2D, kind: Kind): void {
  const middle = SIZE / 2;
  const rim = colour("--map");
  const circle = (radius: number) => {
    context.beginPath();
    context.arc(middle, middle, radius, 0, 2 * Math.PI);
  };
  if (kind === "stale") {
    // Hollow: there is no telling where it is.
    context.strokeStyle = rim;
    context.lineWidth = 4;
    circle(4);
    context.stroke();
    context.strokeStyle = colour("--stale");
    context.lineWidth = 1.8;
    context.stroke();
    return;
  }
  const radius = kind === "off" ? 3.6 : 4.9;
  context.fillStyle = rim;
  circle(radius + 1.5);
  context.fill();
  context.fillStyle = colour(`--${kind}`);
  circle(radius);
  context.fill();
}
