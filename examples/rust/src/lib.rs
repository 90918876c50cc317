//! A client of Waybill, in five steps: a driver reports a position, a customer places an order, repeats the call, and
//! follows the order to its end; then the driver completes it. The client is the generated code of `proto/`; tonic does the rest.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use jiff::Timestamp;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};
use uuid::Uuid;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, LatLng, ReportLocationsRequest};
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{
    CompleteOrderRequest, CreateOrderRequest, Money, Order, PaymentMode, WatchOrderRequest,
};

/// Whatever went wrong: the connection, or a call that was answered with an error status.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What the two apps show: tokens that your own backend signs, each about the one who uses the app.
pub struct Tokens {
    /// Of the customer `anna`.
    pub customer: String,
    /// Of the driver `driver-7`.
    pub driver: String,
}

/// Runs the five steps against the server at `addr`, such as `127.0.0.1:7200`. Returns the completed order.
pub async fn run(addr: &str, tokens: &Tokens) -> Result<Order, Error> {
    // One connection is enough for many calls at a time. A clone of a channel is the same connection.
    let channel = Channel::from_shared(format!("http://{addr}"))?.connect().await?;
    let mut locations = LocationServiceClient::with_interceptor(channel.clone(), shows(&tokens.driver)?);
    let mut orders = OrderServiceClient::with_interceptor(channel.clone(), shows(&tokens.customer)?);
    let mut drivers_orders = OrderServiceClient::with_interceptor(channel, shows(&tokens.driver)?);
    let driver_id = "driver-7".to_owned();
    let here = LatLng {
        latitude: Some(52.5219),
        longitude: Some(13.4132),
    };

    // 1. A fix counts as the driver's position for 30 s. A real driver's app sends one every few seconds, on a stream.
    let now = Timestamp::now();
    let fix = Fix {
        driver_id,
        position: Some(here),
        recorded_at: Some(prost_types::Timestamp {
            seconds: now.as_second(),
            nanos: now.subsec_nanosecond(),
        }),
    };
    let report = locations
        .report_locations(ReportLocationsRequest { fixes: vec![fix] })
        .await?
        .into_inner();
    println!(
        "reported    {} fix, {} rejected",
        report.accepted_count,
        report.rejections.len()
    );

    // 2. The call answers when the order is settled. The key makes it safe to repeat: choose one for each order, and keep
    //    it until you have the answer.
    let request = CreateOrderRequest {
        idempotency_key: Uuid::new_v4().to_string(),
        user_id: "anna".to_owned(),
        amount: Some(Money {
            currency_code: "EUR".to_owned(),
            minor_units: 1999,
        }),
        payment_method: "pm_card_visa".to_owned(),
        provider_customer_id: String::new(),
        pickup: Some(here),
        drop_off: None,
        payment_mode: PaymentMode::ChargeFirst.into(),
        required_tags: Vec::new(),
    };
    let first = orders.create_order(request.clone()).await?.into_inner();
    let order = first.order.clone().ok_or("an answer without an order")?;
    println!("created     order {}: {}", order.order_id, order.status().as_str_name());

    // 3. The same key again, as after a lost connection: the same answer, no second order and no second charge.
    let repeated = orders.create_order(request).await?;
    let replayed = repeated
        .metadata()
        .get("idempotent-replayed")
        .is_some_and(|value| value == "true");
    if !replayed || repeated.into_inner() != first {
        return Err("the repeated call got another answer".into());
    }
    println!("repeated    the same answer, marked as replayed");

    // 4. The stream ends when the order is settled. `after_step_id: 0` asks for all steps from the first one. After a broken
    //    stream, ask again with the `last_step_id` that you have seen.
    let watch = WatchOrderRequest {
        order_id: order.order_id.clone(),
        after_step_id: Some(0),
    };
    let mut changes = orders.watch_order(watch).await?.into_inner();
    while let Some(change) = changes.message().await? {
        for step in change.steps {
            println!("watched     {} {} {}", step.step, step.status, step.detail);
        }
    }

    // 5. The service is rendered, and the driver is free again. The driver's app calls: it is refused if the order was
    //    reassigned in the meantime.
    let driver_id = order.assignment.ok_or("no driver was free")?.driver_id;
    let request = CompleteOrderRequest {
        order_id: order.order_id,
        driver_id,
        final_amount: None,
    };
    let completed = drivers_orders.complete_order(request).await?.into_inner();
    let order = completed.order.ok_or("an answer without an order")?;
    let assignment = order.assignment.clone().unwrap_or_default();
    println!("completed   {} by {}", assignment.release_reason, assignment.driver_id);
    Ok(order)
}

/// Adds the token to each call.
fn shows(token: &str) -> Result<impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone, Error> {
    let value: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
    Ok(move |mut call: Request<()>| {
        call.metadata_mut().insert("authorization", value.clone());
        Ok(call)
    })
}
