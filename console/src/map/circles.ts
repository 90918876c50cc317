// Circles with how many drivers are in a part of the map, and how many of them are free.
import type { Palette } from "./palette.js";
import type { Group } from "./groups.js";

const COUNT = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });

/** Its area grows with the count, between what can be read and what is one group's room. */
export function radiusOf(drivers: number): number {
  return Math.min(27, 13 + Math.sqrt(drivers) * 0.5);
}

export function drawGroup(context: CanvasRenderingContext2D, { drivers, free }: Group, x: number, y: number, palette: Palette): void {
  const radius = radiusOf(drivers);
  const top = -Math.PI / 2;
  const turn = top + (2 * Math.PI * free) / drivers;
  context.fillStyle = palette.surface;
  context.beginPath();
  context.arc(x, y, radius + 2, 0, 2 * Math.PI);
  context.fill();
  context.lineWidth = 4;
  const ring = (from: number, to: number, ink: string) => {
    context.strokeStyle = ink;
    context.beginPath();
    context.arc(x, y, radius - 1, from, to);
    context.stroke();
  };
  if (free < drivers) ring(turn, top + 2 * Math.PI, palette.serving);
  if (free > 0) ring(top, turn, palette.free);
  context.fillStyle = palette.text;
  context.font = "600 11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(COUNT.format(drivers), x, y + 0.5);
  context.textAlign = "left";
}
