// Where a shared order stands, in sentences for whoever waits for it. There are no names, ids or amounts to say.
import { age } from "../format-age.js";
import { TrackingStatus, type WatchSharedResponse } from "../gen/waybill/tracking/v1/tracking_pb.js";

/** Younger than this, a position is where the driver is. */
const FRESH_MS = 10_000;

export const LINK_ENDED = "This link has ended.";

export function sentence(status: TrackingStatus): string {
  switch (status) {
    case TrackingStatus.SEARCHING:
      return "Looking for a driver";
    case TrackingStatus.DRIVER_ASSIGNED:
      return "Your driver is on the way";
    case TrackingStatus.COMPLETED:
      return "Arrived. Your order is completed.";
    case TrackingStatus.ENDED:
      return "This order has ended.";
    default:
      return "One moment…";
  }
}

/** @param seenAt when the driver was last where it is shown, which may be long ago. NaN: it is not shown */
export function detail(last: WatchSharedResponse, seenAt: number, now: number): string {
  if (last.status === TrackingStatus.SEARCHING) return "It is here as soon as one is found.";
  if (last.status === TrackingStatus.ENDED) return "It was cancelled, or could not be served.";
  if (last.status !== TrackingStatus.DRIVER_ASSIGNED) return "";
  if (Number.isNaN(seenAt)) return "Where your driver is, is not known right now.";
  const old = now - seenAt;
  return last.driver !== undefined && old < FRESH_MS ? "Live" : `Last seen ${age(old)} ago`;
}

export const isFinal = (status: TrackingStatus): boolean =>
  status === TrackingStatus.COMPLETED || status === TrackingStatus.ENDED;
