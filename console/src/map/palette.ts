// The theme's colours, for what is drawn on a canvas. They are asked for once a theme: asking the style sheet at each frame would
// cost more than drawing does.
import { colour } from "../theme.js";

const NAMES = ["map", "surface", "text", "free", "serving", "waiting"] as const;

export type Palette = Readonly<Record<(typeof NAMES)[number], string>>;

export function palette(): Palette {
  return Object.fromEntries(NAMES.map((name) => [name, colour(`--${name}`)])) as Palette;
}
