// Draws a component again every second, for the ages that it shows.
import { useEffect, useState } from "preact/hooks";
import { serverNow } from "../time.js";

/** The server's clock, a second ago at most. */
export function useServerNow(): number {
  const [now, setNow] = useState(serverNow());
  useEffect(() => {
    const timer = setInterval(() => setNow(serverNow()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
