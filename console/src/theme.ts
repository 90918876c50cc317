// Light or dark: as the system has it, until someone chooses.
import { Cell } from "./cell.js";

export type Theme = "light" | "dark";

const KEY = "waybill.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

const systemTheme = (): Theme => (system.matches ? "dark" : "light");

function chosenTheme(): Theme | null {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : null;
}

export const theme = new Cell<Theme>(chosenTheme() ?? systemTheme());

export function startTheme(): void {
  const show = (now: Theme) => {
    document.documentElement.dataset.theme = now;
  };
  show(theme.value);
  theme.listen(show);
  system.addEventListener("change", () => {
    if (chosenTheme() === null) theme.value = systemTheme();
  });
}

/** Changes to the other one. What the system has anyway is not kept as a choice, so that the page follows the system again. */
export function toggleTheme(): void {
  const next: Theme = theme.value === "dark" ? "light" : "dark";
  if (next === systemTheme()) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, next);
  theme.value = next;
}

/** A colour of the style sheet, for what is drawn on a canvas. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export const prefersStill = matchMedia("(prefers-reduced-motion: reduce)");
