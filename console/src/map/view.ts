// Where the map begins: where it was left, or where the fleet is said to be, or where orders were placed lately.
import { coordinates } from "../coordinates.js";
import L from "leaflet";
import { orderService, READ_MS } from "../rpc.js";
import { settings } from "../settings.js";
import { SAN_FRANCISCO } from "./base.js";

const KEY = "waybill.view";
const ZOOM = 13;

export interface View {
  readonly center: L.LatLngTuple;
  readonly zoom: number;
}

export function keepView(map: L.Map): void {
  const { lat, lng } = map.getCenter();
  localStorage.setItem(KEY, JSON.stringify({ center: [lat, lng], zoom: map.getZoom() }));
}

export function keptView(): View | null {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "") as { center?: unknown; zoom?: unknown };
    const [lat, lng] = Array.isArray(kept.center) ? kept.center.map(Number) : [];
    const zoom = Number(kept.zoom);
    const isPlace = lat !== undefined && lng !== undefined && Number.isFinite(lat) && Number.isFinite(lng);
    return isPlace && Number.isFinite(zoom) ? { center: [lat, lng], zoom } : null;
  } catch {
    return null;
  }
}

/** Where to begin if nothing was kept. */
export async function firstView(): Promise<View> {
  const { center } = await settings();
  if (center !== null) return { center: [center[0], center[1]], zoom: ZOOM };
  const pickups = await recentPickups().catch(() => []);
  if (pickups.length === 0) return { center: SAN_FRANCISCO, zoom: ZOOM };
  return { center: middle(pickups), zoom: ZOOM };
}

export async function recentPickups(): Promise<L.LatLngTuple[]> {
  const { orders } = await orderService.listOrders({ pageSize: 50 }, { timeoutMs: READ_MS });
  return orders.flatMap(({ pickup }) => (pickup === undefined ? [] : [coordinates(pickup)]));
}

/** The median of each coordinate: one order far away does not move it. */
function middle(points: readonly L.LatLngTuple[]): L.LatLngTuple {
  const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
  return [median(points.map(([lat]) => lat)), median(points.map(([, lng]) => lng))];
}
