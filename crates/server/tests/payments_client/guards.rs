//! The guards around a call: circuit breaker, retry budget, line, rate limit and deadline.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;
use waybill_server::egress::payments::{Answer, Cause, ChargeRequest, PaymentClient};
use waybill_server::metrics::Metrics;
use waybill_server::resilience::{BreakerPolicy, BudgetPolicy, Deadline};

use crate::provider::{Provider, Reaction, object, refusal, succeeded};
use crate::rig::{a_charge, counted, patient, receipt, settings};

/// The states of the breaker, as the metrics show them.
const CLOSED: i64 = 0;
const OPEN: i64 = 2;

#[tokio::test]
async fn the_breaker_opens_refuses_without_a_connection_and_closes_after_one_good_probe() {
    let provider = Provider::start(|n, _| {
        if n < 3 {
            Reaction::Answer(500, "{}".into())
        } else {
            succeeded()
        }
    })
    .await;
    let mut settings = settings(&provider.url);
    // Long enough for one call, also on a busy machine.
    let open_min = Duration::from_secs(2);
    settings.breaker = BreakerPolicy {
        consecutive_failures: 3,
        open_min,
        ..settings.breaker
    };
    let shown = Metrics::new(&[]);
    let client = PaymentClient::with_metrics(&settings, &shown.dependencies).unwrap();
    let metrics = shown.dependencies.egress("payments");
    for _ in 0..3 {
        assert_eq!(
            client.charge(&a_charge(), patient()).await,
            Answer::Ambiguous(Cause::Status(500))
        );
    }
    assert_eq!(metrics.breaker.state.get(), OPEN);
    let before = (provider.connections(), provider.seen().len());
    let refused = client.charge(&a_charge(), patient()).await;
    assert!(
        matches!(refused, Answer::NotExecuted(Cause::BreakerOpen { .. })),
        "{refused:?}"
    );
    assert_eq!((provider.connections(), provider.seen().len()), before);
    let text = shown.openmetrics().unwrap();
    for (name, value) in [("state", OPEN), ("openings_total", 1), ("refusals_total", 1)] {
        let line = format!("waybill_breaker_{name}{{dependency=\"payments\"}} {value}");
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }

    let closed = async {
        while client.charge(&a_charge(), patient()).await != receipt("pi_1") {
            tokio::time::sleep(client.retry_after().unwrap_or_default()).await;
        }
    };
    patient().bound(closed).await.expect("the breaker closes");
    assert_eq!((metrics.breaker.state.get(), provider.seen().len()), (CLOSED, 4));
}

#[tokio::test]
async fn declines_and_429s_leave_the_breaker_closed() {
    let provider = Provider::start(|n, _| match n % 2 {
        0 => refusal(402, "card_error", "card_declined"),
        _ => refusal(429, "api_error", "rate_limit"),
    })
    .await;
    let mut settings = settings(&provider.url);
    settings.breaker = BreakerPolicy {
        consecutive_failures: 1,
        ..BreakerPolicy::default()
    };
    let (client, metrics) = counted(&settings);
    for _ in 0..10 {
        let answer = client.charge(&a_charge(), patient()).await;
        assert!(
            matches!(answer, Answer::Declined(_) | Answer::NotExecuted(Cause::Throttled)),
            "{answer:?}"
        );
    }
    assert_eq!(metrics.breaker.state.get(), CLOSED);
}

#[tokio::test]
async fn the_budget_ends_a_storm_of_retries() {
    let provider = Provider::start(|_, _| Reaction::Close).await;
    let mut settings = settings(&provider.url);
    settings.retry_budget = BudgetPolicy {
        per_second: 0.0,
        saved_max: 5.0,
        ..BudgetPolicy::default()
    };
    let (client, metrics) = counted(&settings);
    for _ in 0..50 {
        assert_eq!(
            client.charge(&a_charge(), patient()).await,
            Answer::Ambiguous(Cause::ConnectionLost)
        );
    }
    // 5 saved up, and a tenth of 50; the last tenth may be a hair short of one in binary.
    let retries = metrics.retries.get();
    assert!((9..=10).contains(&retries), "{metrics:?}");
    assert_eq!(provider.seen().len() as u64, 50 + retries);
    assert_eq!(metrics.retries_refused.get(), 50 - retries);
}

#[tokio::test]
async fn a_call_that_finds_no_slot_waits_in_the_line_until_its_deadline_and_cancelled_calls_leave_their_slots() {
    let provider = Provider::start(|_, _| Reaction::Hang).await;
    let mut settings = settings(&provider.url);
    settings.in_flight_max = 2;
    settings.attempt_timeout = Duration::from_secs(20);
    let (client, metrics) = counted(&settings);
    let client = Arc::new(client);
    let calls = TaskTracker::new();
    let in_flight: Vec<_> = (0..2)
        .map(|_| {
            let client = Arc::clone(&client);
            calls.spawn(async move { client.charge(&a_charge(), patient()).await })
        })
        .collect();
    provider.until_seen(2).await;
    let soon = Deadline::after(Duration::from_millis(50));
    assert_eq!(
        client.charge(&a_charge(), soon).await,
        Answer::NotExecuted(Cause::BulkheadFull)
    );
    let bulkhead = metrics.bulkhead;
    assert_eq!((bulkhead.in_flight.get(), bulkhead.shed.get()), (2, 1));
    assert_eq!(provider.seen().len(), 2);

    for call in in_flight {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    assert_eq!((bulkhead.in_flight.get(), bulkhead.waiting.get()), (0, 0));
}

/// The place is for the whole step: with one place in all, a second wait for it would last until the deadline.
#[tokio::test]
async fn a_charge_that_brings_its_place_along_stands_in_no_line_and_keeps_the_place_for_its_reads() {
    let provider = Provider::start(|n, _| match n {
        0 => Reaction::Answer(200, object("pi_1", "processing")),
        _ => succeeded(),
    })
    .await;
    let mut settings = settings(&provider.url);
    settings.in_flight_max = 1;
    let (client, metrics) = counted(&settings);
    let place = client.charge_place(jiff::Timestamp::now()).await.unwrap();
    let request = ChargeRequest {
        place: Some(&place),
        ..a_charge()
    };
    assert_eq!(client.charge(&request, patient()).await, receipt("pi_1"));
    assert_eq!((provider.seen().len(), metrics.bulkhead.in_flight.get()), (2, 1));
    drop(place);
    assert_eq!((metrics.bulkhead.in_flight.get(), metrics.bulkhead.shed.get()), (0, 0));
}

#[tokio::test]
async fn the_rate_limit_spaces_calls_out_and_refuses_what_would_come_too_late() {
    let provider = Provider::start(|_, _| succeeded()).await;
    let mut settings = settings(&provider.url);
    settings.rate_per_second = NonZeroU32::new(1).unwrap();
    let (client, metrics) = counted(&settings);
    for _ in 0..2 {
        assert_eq!(client.charge(&a_charge(), patient()).await, receipt("pi_1"));
    }
    assert_eq!(metrics.rate_limit.waits.get(), 1);
    let hurried = client
        .charge(&a_charge(), Deadline::after(Duration::from_millis(50)))
        .await;
    assert_eq!(hurried, Answer::NotExecuted(Cause::RateLimited));
    assert_eq!(metrics.rate_limit.refusals.get(), 1);
    assert_eq!(provider.seen().len(), 2);
}

/// The attempt alone would take a minute: only the deadline can end it before the test itself ends.
#[tokio::test]
async fn the_deadline_ends_an_attempt_and_a_call_after_it_is_not_sent() {
    let provider = Provider::start(|_, _| Reaction::Hang).await;
    let mut settings = settings(&provider.url);
    settings.attempt_timeout = Duration::from_mins(1);
    settings.total_timeout = Duration::from_mins(1);
    settings.breaker.consecutive_failures = 1;
    let (client, metrics) = counted(&settings);
    let request = a_charge();
    let call = client.charge(&request, Deadline::after(Duration::from_millis(100)));
    assert_eq!(patient().bound(call).await, Ok(Answer::Ambiguous(Cause::TimedOut)));
    // A caller in a hurry has learned nothing about the provider.
    assert_eq!(metrics.breaker.state.get(), CLOSED);
    let late = client.charge(&request, Deadline::after(Duration::ZERO)).await;
    assert_eq!(
        (late, provider.seen().len()),
        (Answer::NotExecuted(Cause::DeadlinePassed), 1)
    );
}

/// As an order's step calls: its deadline is the time that a call may take, and an attempt may take all of it.
#[tokio::test]
async fn a_provider_that_never_answers_opens_the_breaker() {
    let provider = Provider::start(|_, _| Reaction::Hang).await;
    let mut settings = settings(&provider.url);
    settings.attempt_timeout = Duration::from_millis(200);
    settings.total_timeout = Duration::from_millis(200);
    settings.breaker.consecutive_failures = 3;
    let (client, metrics) = counted(&settings);
    for _ in 0..3 {
        assert_eq!(metrics.breaker.state.get(), CLOSED);
        let answer = client
            .charge(&a_charge(), Deadline::after(settings.total_timeout))
            .await;
        assert_eq!(answer, Answer::Ambiguous(Cause::TimedOut));
    }
    assert_eq!((metrics.breaker.state.get(), provider.seen().len()), (OPEN, 3));
}

#[tokio::test]
async fn the_total_timeout_bounds_a_call_without_a_deadline() {
    let provider = Provider::start(|_, _| Reaction::Drip).await;
    let mut settings = settings(&provider.url);
    settings.attempt_timeout = Duration::from_mins(1);
    settings.total_timeout = Duration::from_millis(100);
    let client = PaymentClient::new(&settings).unwrap();
    let request = a_charge();
    let call = client.charge(&request, Deadline::after(Duration::MAX));
    assert_eq!(patient().bound(call).await, Ok(Answer::Ambiguous(Cause::TimedOut)));
}
