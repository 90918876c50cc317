"""A client of Waybill, in five steps: a driver reports a position, a customer places an order, repeats the call, and
follows the order to its end; then the driver completes it. README.md says how to make the code that it imports."""

import os
import sys
import uuid
from pathlib import Path

import grpc

# The code that protoc made imports itself by the names of the packages in proto/.
sys.path.insert(0, os.environ.get("WAYBILL_STUBS", str(Path(__file__).parent / "stubs")))
from waybill.location.v1 import lat_lng_pb2, location_pb2, location_pb2_grpc  # noqa: E402
from waybill.order.v1 import order_pb2, order_pb2_grpc  # noqa: E402


def shows(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def run(addr: str) -> None:
    # What the two apps show: tokens that your own backend signs, each about the one who uses the app.
    customer, driver = (shows(os.environ[name]) for name in ("CUSTOMER_TOKEN", "DRIVER_TOKEN"))
    # One channel is enough for many calls at a time. A call without a timeout gets the server's: 10 s.
    with grpc.insecure_channel(addr) as channel:
        locations = location_pb2_grpc.LocationServiceStub(channel)
        orders = order_pb2_grpc.OrderServiceStub(channel)
        driver_id = "driver-7"
        here = lat_lng_pb2.LatLng(latitude=52.5219, longitude=13.4132)

        # 1. A fix counts as the driver's position for 30 s. A real driver's app sends one every few seconds, on a stream.
        fix = location_pb2.Fix(driver_id=driver_id, position=here)
        fix.recorded_at.GetCurrentTime()
        report = locations.ReportLocations(location_pb2.ReportLocationsRequest(fixes=[fix]), metadata=driver)
        print(f"reported    {report.accepted_count} fix, {len(report.rejections)} rejected")

        # 2. The call answers when the order is settled. The key makes it safe to repeat: choose one for each order, and
        #    keep it until you have the answer.
        request = order_pb2.CreateOrderRequest(
            idempotency_key=str(uuid.uuid4()),
            user_id="anna",
            amount=order_pb2.Money(currency_code="EUR", minor_units=1999),
            payment_method="pm_card_visa",
            pickup=here,
        )
        first = orders.CreateOrder(request, metadata=customer)
        order = first.order
        print(f"created     order {order.order_id}: {order_pb2.OrderStatus.Name(order.status)}")

        # 3. The same key again, as after a lost connection: the same answer, no second order and no second charge.
        repeated, call = orders.CreateOrder.with_call(request, metadata=customer)
        replayed = ("idempotent-replayed", "true") in call.initial_metadata()
        if not replayed or repeated != first:
            sys.exit("the repeated call got another answer")
        print("repeated    the same answer, marked as replayed")

        # 4. The stream ends when the order is settled. `after_step_id=0` asks for all steps from the first one. After a
        #    broken stream, ask again with the `last_step_id` that you have seen.
        watch = order_pb2.WatchOrderRequest(order_id=order.order_id, after_step_id=0)
        for change in orders.WatchOrder(watch, metadata=customer):
            for step in change.steps:
                print(f"watched     {step.step} {step.status} {step.detail}")

        # 5. The service is rendered, and the driver is free again. The driver's app calls: it is refused if the order was
        #    reassigned in the meantime.
        completion = order_pb2.CompleteOrderRequest(order_id=order.order_id, driver_id=order.assignment.driver_id)
        assignment = orders.CompleteOrder(completion, metadata=driver).order.assignment
        print(f"completed   {assignment.release_reason} by {assignment.driver_id}")


if __name__ == "__main__":
    try:
        run(os.environ.get("GRPC_ADDR", "127.0.0.1:7200"))
    except KeyError as missing:
        sys.exit(f"{missing} is not set: `make dev` writes it into .waybill/dev.env")
    except grpc.RpcError as error:
        # The code says what to do (proto/ lists them at each call). The text is for people.
        sys.exit(f"{error.code().name}: {error.details()}")
