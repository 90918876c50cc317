// The services as programs call them, by the contract's own generated code.
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** Bundles a module of src/ for Node, and loads it. */
export async function load(contents, name) {
  const outfile = join(root, ".build", `${name}-${process.pid}.mjs`);
  mkdirSync(dirname(outfile), { recursive: true });
  await build({
    stdin: { contents, resolveDir: root, loader: "ts" },
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    logLevel: "error",
  });
  return import(pathToFileURL(outfile).href);
}

const contract = await load(
  `export { createClient } from "@connectrpc/connect";
   export { createGrpcWebTransport } from "@connectrpc/connect-web";
   export * from "./src/gen/waybill/order/v1/order_pb.js";
   export * from "./src/gen/waybill/location/v1/location_pb.js";
   export * from "./src/gen/waybill/fleet/v1/fleet_pb.js";
   export * from "./src/gen/waybill/tracking/v1/tracking_pb.js";
   export * from "./src/gen/waybill/driver/v1/driver_pb.js";`,
  "contract",
);

export function callsOf(waybill) {
  const as = (role) => {
    const bearer = (next) => (request) => {
      request.header.set("authorization", `Bearer ${waybill.token(role)}`);
      return next(request);
    };
    return contract.createGrpcWebTransport({ baseUrl: waybill.origin, interceptors: [bearer] });
  };
  const { createClient, DriverService, FleetService, LocationService, OrderService } = contract;
  const drivers = createClient(DriverService, as("service"));
  const locations = createClient(LocationService, as("service"));
  const customer = createClient(OrderService, as("customer"));
  const dispatcher = createClient(OrderService, as("dispatcher"));
  const operator = createClient(OrderService, as("operator"));
  const fleet = createClient(FleetService, as("operator"));
  return {
    customer,
    dispatcher,
    operator,
    fleet,
    /** Reports where drivers are now: `[id, latitude, longitude]` each. */
    async report(drivers) {
      const recordedAt = timestamp(Date.now());
      const batches = [];
      for (let at = 0; at < drivers.length; at += 500) {
        const fixes = drivers
          .slice(at, at + 500)
          .map(([driverId, latitude, longitude]) => ({ driverId, position: { latitude, longitude }, recordedAt }));
        batches.push(locations.reportLocations({ fixes }));
      }
      await Promise.all(batches);
    },
    /** Says whether a driver takes orders. */
    setDuty: (driverId, onDuty) => drivers.setDuty({ driverId, onDuty }),
    /** Has anna place an order. Answers when it is settled. */
    async place(latitude, longitude, amount = 1990n) {
      const { order } = await customer.createOrder({
        idempotencyKey: crypto.randomUUID(),
        userId: "anna",
        amount: { currencyCode: "EUR", minorUnits: amount },
        paymentMethod: "pm_card_visa",
        pickup: { latitude, longitude },
        dropOff: { latitude: latitude + 0.01, longitude: longitude + 0.01 },
      });
      return order;
    },
  };
}

function timestamp(ms) {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.floor(ms % 1000) * 1e6 };
}
