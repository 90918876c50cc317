// The server's services, called as gRPC-Web at this page's own origin, in the name of whoever is signed in.
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { fetchNotingBuild } from "./build-hint.js";
import { signInAdvice } from "./errors.js";
import { AdminService } from "./gen/waybill/admin/v1/admin_pb.js";
import { FleetService } from "./gen/waybill/fleet/v1/fleet_pb.js";
import { OrderService } from "./gen/waybill/order/v1/order_pb.js";
import { session, signOut } from "./session.js";

/** For calls that only read: a page that waits longer should try again. */
export const READ_MS = 5_000;
/** For calls that answer when money moved. */
export const ACT_MS = 30_000;

const bearer: Interceptor = (next) => async (request) => {
  const used = session.value?.token;
  // Nothing is called without a token: the answer is known.
  if (used === undefined) throw new ConnectError("no one is signed in", Code.Unauthenticated);
  request.header.set("authorization", `Bearer ${used}`);
  try {
    return await next(request);
  } catch (error) {
    endSessionIfRefused(error, used);
    throw error;
  }
};

const transport = createGrpcWebTransport({
  baseUrl: location.origin,
  fetch: fetchNotingBuild,
  interceptors: [bearer],
});

export const orderService = createClient(OrderService, transport);
export const fleetService = createClient(FleetService, transport);
export const adminService = createClient(AdminService, transport);

/** Shows the sign-in form if the server did not take the token, also in the middle of a stream. */
export function endSessionIfRefused(error: unknown, used = session.value?.token): void {
  const isRefused = ConnectError.from(error).code === Code.Unauthenticated;
  // A late answer to an old token must not end the session of a new one.
  if (isRefused && used !== undefined && used === session.value?.token) signOut(signInAdvice(error));
}
