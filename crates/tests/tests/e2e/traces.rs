//! Traces: one order is one trace, whichever instances work on it.

use std::collections::HashSet;

use jiff::Timestamp;
use testkit::otlp::Collector;
use testkit::wire::{PICKUP, a_ride, fix};
use testkit::{Rig, ServerProcess, until};
use waybill_proto::location::v1::ReportLocationsRequest;
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

/// The first instance never gets a definite answer and drains; the second one settles the order.
#[tokio::test]
async fn an_order_that_another_instance_resumes_is_one_trace() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let rig = Rig::builder().no_server().impatient().start().await;
    let telemetry = [("telemetry.otlp_endpoint", endpoint.as_str())];

    rig.payments()
        .set_fault(Fault::always(FaultKind::ErrorAfterEffect).on(FaultTarget::Charge));
    let first = ServerProcess::start(&rig, &telemetry).await;
    let mut orders = first.orders();
    let mut call = tokio::task::JoinSet::new();
    call.spawn(async move { orders.create_order(a_ride()).await });
    until("the outcome of the charge is unknown", async || {
        rig.count("select count(*) from payment_attempts where state = 'unknown'")
            .await
            == 1
    })
    .await;
    assert_eq!(first.stop().await.code(), Some(0));
    drop(call);

    rig.payments().clear_faults();
    let second = ServerProcess::start(&rig, &telemetry).await;
    let fix = fix("cab-1", PICKUP.0, PICKUP.1, Timestamp::now());
    let report = ReportLocationsRequest { fixes: vec![fix] };
    second.locations().report_locations(report).await.unwrap();
    rig.until_all_settled().await;
    assert_eq!(second.stop().await.code(), Some(0));

    let row = rig
        .sql()
        .await
        .query_one("select order_id from order_sagas", &[])
        .await
        .unwrap();
    let order: uuid::Uuid = row.get(0);
    let trace = collector.trace(&order.simple().to_string());
    let of = |name: &str| trace.iter().filter(|span| span.name == name).collect::<Vec<_>>();

    let instances: HashSet<&str> = of("saga").iter().map(|span| span.instance.as_str()).collect();
    assert_eq!(instances.len(), 2, "{trace:#?}");
    let fences: HashSet<&str> = of("saga").iter().map(|span| span.fields["fence"].as_str()).collect();
    assert!(fences.contains("1") && fences.len() >= 2, "{fences:?}");
    for saga in of("saga") {
        assert_eq!(saga.fields["order_id"], order.to_string());
    }

    let sagas: HashSet<&str> = of("saga").iter().map(|span| span.span_id.as_str()).collect();
    let mut steps: HashSet<(&str, &str)> = HashSet::new();
    for step in of("step") {
        assert!(sagas.contains(step.parent_id.as_str()), "{step:?} is not in a saga");
        steps.insert((step.instance.as_str(), step.fields["step"].as_str()));
    }
    let charged: HashSet<&str> = steps
        .iter()
        .filter(|(_, step)| *step == "charge")
        .map(|(by, _)| *by)
        .collect();
    assert_eq!(charged.len(), 2, "both instances sent the charge: {steps:?}");
    assert!(steps.iter().any(|(_, step)| *step == "assign"), "{steps:?}");

    // The call that began the order is a trace of its own, and the order's first saga links to it.
    let calls = collector.named("call");
    let created: HashSet<&str> = calls
        .iter()
        .filter(|span| span.fields["method"].ends_with("/CreateOrder"))
        .map(|span| span.trace_id.as_str())
        .collect();
    let first_saga = of("saga").into_iter().find(|span| span.fields["fence"] == "1").unwrap();
    assert_eq!(first_saga.links.len(), 1, "{first_saga:?}");
    assert!(created.contains(first_saga.links[0].as_str()), "{calls:?}");
}
