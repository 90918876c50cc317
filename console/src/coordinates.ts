import type { LatLng } from "./gen/waybill/location/v1/lat_lng_pb.js";

/** Degrees north and east. The server always gives both. */
export function coordinates({ latitude = 0, longitude = 0 }: LatLng): [number, number] {
  return [latitude, longitude];
}
