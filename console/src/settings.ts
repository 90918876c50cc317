// What the server tells its pages: the tiles under the trails, and where the fleet is.

export interface Settings {
  /** The address of other map tiles, such as "https://tiles.example.com/{z}/{x}/{y}.png". Empty if there are none. */
  readonly tiles: string;
  readonly attribution: string;
  /** Where the map begins, if the deployment says so. */
  readonly center: readonly [number, number] | null;
}

const NONE: Settings = { tiles: "", attribution: "", center: null };

let loading: Promise<Settings> | null = null;

/** The settings. A server that does not answer is no reason for a page without a map. */
export function settings(): Promise<Settings> {
  loading ??= load().catch(() => {
    loading = null;
    return NONE;
  });
  return loading;
}

async function load(): Promise<Settings> {
  const response = await fetch("/config.json", { signal: AbortSignal.timeout(5_000) });
  if (!response.ok) return NONE;
  const json = (await response.json()) as { tiles?: unknown; tiles_attribution?: unknown; center?: unknown };
  const center = Array.isArray(json.center) && json.center.length === 2 ? json.center.map(Number) : [];
  const [lat, lng] = center;
  const isPlace = lat !== undefined && lng !== undefined && Number.isFinite(lat) && Number.isFinite(lng);
  return {
    tiles: typeof json.tiles === "string" ? json.tiles : "",
    attribution: typeof json.tiles_attribution === "string" ? json.tiles_attribution : "",
    center: isPlace ? [lat, lng] : null,
  };
}
