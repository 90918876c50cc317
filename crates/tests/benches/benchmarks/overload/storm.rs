//! The provider is away for half a minute, while customers go on ordering and clients repeat what was refused as they are asked to: how much
//! more the provider is sent than it has to do.

use std::time::Duration;

use testkit::benchmark::arithmetic::number;
use testkit::fault_line::through;
use tokio::time::sleep;
use waybill_sandbox::proxy::Mode;

use super::{Findings, Times};
use crate::load::{Load, operation};
use crate::server::Server;
use crate::world::World;

const ORDERS_PER_SECOND: f64 = 100.0;
/// What the provider may be sent for each order that is charged.
const AMPLIFICATION_MAX: f64 = 1.1;

pub(super) async fn measure(world: &World, times: Times, findings: &mut Findings) {
    let (payments_url, payments) = through(&world.payments_url());
    let behind = [("payments.url", payments_url.as_str())];
    let server = Server::start_with(world, "storm", 5, &behind).await;
    let load = Load::on(server.endpoint());
    let outage = async {
        sleep(times.look).await;
        payments.set_mode(Mode::Refuse);
        sleep(times.outage).await;
        payments.set_mode(Mode::Pass);
    };
    let whole = times.look + times.outage + Duration::from_secs(15);
    let (report, ()) = tokio::join!(load.orders_whatever(ORDERS_PER_SECOND, whole, true), outage);
    let created = operation(&report, Some("CreateOrder")).totals;
    let seconds = &operation(&report, Some("order")).seconds;
    let metrics = server.metrics().await;
    let sent = metrics["dependencies"]["egress_attempts"]["payments"].as_u64();
    let sent = sent.unwrap_or_else(|| panic!("{metrics:#}"));
    let charged = world.session(&server.database).await;
    let charged = charged.query_one("select count(*) from payments", &[]).await.unwrap();
    let charged = u64::try_from(charged.get::<_, i64>(0)).unwrap();

    let amplification = number(sent) / number(charged);
    findings.number("storm_to_provider", format_args!("{amplification:.2}"));
    findings.expect(amplification <= AMPLIFICATION_MAX, || {
        format!("the provider was sent {sent} requests for {charged} charges")
    });
    let by_clients = number(created.started + created.repeated) / number(created.started);
    findings.number("storm_by_clients", format_args!("{by_clients:.2}"));
    let last = seconds.iter().rev().take(5);
    let (offered, answered) = last.fold((0, 0), |(offered, answered), second| {
        (offered + second.totals.offered, answered + second.totals.answered)
    });
    findings.expect(answered == offered, || {
        format!("ten seconds after the outage {answered} of {offered} orders were served")
    });
    server.stop_after_trouble().await;
}
