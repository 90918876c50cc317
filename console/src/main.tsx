// The console's beginning: the theme, the token from the address, the place in the address, and then the page.
import "../styles/app.css";
import { render } from "preact";
import { App } from "./app.js";
import { startRoute } from "./route.js";
import { startSession } from "./session.js";
import { startTheme } from "./theme.js";

startTheme();
startSession();
startRoute();
const root = document.getElementById("app");
if (root !== null) render(<App />, root);
