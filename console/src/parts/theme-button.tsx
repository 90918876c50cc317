// The button that changes between light and dark.
import { useCell } from "../cell.js";
import { theme, toggleTheme } from "../theme.js";
import { Icon } from "./icons.js";

export function ThemeButton() {
  const now = useCell(theme);
  const label = now === "dark" ? "Use the light theme" : "Use the dark theme";
  return (
    <button type="button" class="button icon-button" aria-label={label} title={label} onClick={toggleTheme}>
      <Icon name={now === "dark" ? "sun" : "moon"} />
    </button>
  );
}
