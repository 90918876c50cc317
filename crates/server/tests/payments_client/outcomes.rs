//! What each answer of the provider decides about a request, and which are sent again.

use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use waybill_server::egress::payments::{Answer, Cause, PaymentClient};

use crate::provider::{Provider, Reaction, object, refusal, succeeded};
use crate::rig::{a_charge, a_refund, client, counted, impatient, patient, receipt, settings};

#[tokio::test]
async fn a_decline_is_an_answer_and_carries_no_text_of_the_provider() {
    let provider = Provider::start(|_, _| refusal(402, "card_error", "card_declined")).await;
    let (client, metrics) = counted(&settings(&provider.url));
    let Answer::Declined(reason) = client.charge(&a_charge(), patient()).await else {
        panic!("a decline")
    };
    assert_eq!(
        (reason.code.as_str(), reason.message),
        ("card_declined", "The payment was declined.")
    );
    assert_eq!((metrics.attempts.get(), provider.seen().len()), (1, 1));
}

#[tokio::test]
async fn a_provider_that_hangs_is_called_twice_with_one_key_and_the_outcome_is_unknown() {
    let provider = Provider::start(|_, _| Reaction::Hang).await;
    let (client, metrics) = counted(&impatient(&provider.url));
    assert_eq!(
        client.charge(&a_charge(), patient()).await,
        Answer::Ambiguous(Cause::TimedOut)
    );

    let seen = provider.seen();
    let keys: Vec<&str> = seen
        .iter()
        .map(|seen| seen.headers["idempotency-key"].as_str())
        .collect();
    assert_eq!(keys, ["order-1:charge", "order-1:charge"]);
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!((metrics.attempts.get(), metrics.retries.get()), (2, 1));
}

#[tokio::test]
async fn a_connection_closed_after_the_request_is_tried_again_with_the_same_key() {
    let provider = Provider::start(|n, _| if n == 0 { Reaction::Close } else { succeeded() }).await;
    assert_eq!(client(&provider).charge(&a_charge(), patient()).await, receipt("pi_1"));
    let keys: Vec<String> = provider
        .seen()
        .iter()
        .map(|seen| seen.headers["idempotency-key"].clone())
        .collect();
    assert_eq!(keys, ["order-1:charge", "order-1:charge"]);
}

#[tokio::test]
async fn a_500_is_ambiguous_and_not_sent_again_within_the_call() {
    let provider = Provider::start(|n, _| {
        if n < 2 {
            Reaction::Answer(500, "{}".into())
        } else {
            succeeded()
        }
    })
    .await;
    let client = client(&provider);
    assert_eq!(
        client.charge(&a_charge(), patient()).await,
        Answer::Ambiguous(Cause::Status(500))
    );
    assert_eq!(
        client.charge(&a_charge(), patient()).await,
        Answer::Ambiguous(Cause::Status(500))
    );
    assert_eq!(client.charge(&a_charge(), patient()).await, receipt("pi_1"));
    assert_eq!(provider.seen().len(), 3);
}

#[tokio::test]
async fn a_429_is_tried_once_more_and_then_was_not_executed() {
    let provider = Provider::start(|n, _| {
        if n < 3 {
            refusal(429, "api_error", "rate_limit")
        } else {
            succeeded()
        }
    })
    .await;
    let client = client(&provider);
    assert_eq!(
        client.charge(&a_charge(), patient()).await,
        Answer::NotExecuted(Cause::Throttled)
    );
    assert_eq!(client.charge(&a_charge(), patient()).await, receipt("pi_1"));
    assert_eq!(provider.seen().len(), 4);
}

/// The first attempt may have been executed; that the second was not proves nothing about it.
#[tokio::test]
async fn a_refused_second_attempt_leaves_the_outcome_of_the_first_unknown() {
    let provider = Provider::start(|n, _| {
        if n == 0 {
            Reaction::Close
        } else {
            refusal(429, "api_error", "rate_limit")
        }
    })
    .await;
    assert_eq!(
        client(&provider).charge(&a_charge(), patient()).await,
        Answer::Ambiguous(Cause::ConnectionLost)
    );
    assert_eq!(provider.seen().len(), 2);
}

#[tokio::test]
async fn no_one_at_the_address_means_not_executed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (client, metrics) = counted(&settings(&url));
    assert_eq!(
        client.charge(&a_charge(), patient()).await,
        Answer::NotExecuted(Cause::NoConnection)
    );
    assert_eq!(metrics.attempts.get(), 2);
}

/// No request has been sent before the handshake is over, whether it fails or does not end.
#[tokio::test]
async fn a_tls_handshake_that_fails_or_hangs_means_not_executed() {
    for speaks_http in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = settings(&format!("https://{}", listener.local_addr().unwrap()));
        settings.connect_timeout = if speaks_http {
            Duration::from_secs(5)
        } else {
            Duration::from_millis(50)
        };
        let client = PaymentClient::new(&settings).unwrap();
        let tasks = TaskTracker::new();
        let server = tasks.spawn(async move {
            let mut open = vec![];
            while let Ok((mut socket, _)) = listener.accept().await {
                if speaks_http {
                    socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                }
                open.push(socket);
            }
        });
        assert_eq!(
            client.charge(&a_charge(), patient()).await,
            Answer::NotExecuted(Cause::NoConnection)
        );
        server.abort();
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_ambiguous() {
    for (reaction, cause) in [
        (Reaction::Answer(200, "<html>Sign in</html>".into()), Cause::Unreadable),
        (
            Reaction::Answer(502, "<html>Bad gateway</html>".into()),
            Cause::Status(502),
        ),
        (Reaction::Big(10 * 1024 * 1024), Cause::Unreadable),
        (Reaction::Drip, Cause::TimedOut),
    ] {
        let reacted = reaction.clone();
        let provider = Provider::start(move |_, _| reacted.clone()).await;
        let settings = match cause {
            Cause::TimedOut => impatient(&provider.url),
            _ => settings(&provider.url),
        };
        let client = PaymentClient::new(&settings).unwrap();
        assert_eq!(
            client.charge(&a_charge(), patient()).await,
            Answer::Ambiguous(cause),
            "{reaction:?}"
        );
    }
}

#[tokio::test]
async fn a_pending_refund_is_in_progress_until_the_object_itself_is_settled() {
    // The replay of the key is "pending" for ever; the object itself moves on.
    let provider = Provider::start(|n, seen| match (seen.line.split(' ').next(), n) {
        (Some("POST"), _) | (_, 1) => Reaction::Answer(200, object("re_1", "pending")),
        (_, 3) => refusal(404, "invalid_request_error", "resource_missing"),
        (_, 5) => Reaction::Answer(200, object("re_1", "failed")),
        _ => Reaction::Answer(200, object("re_1", "succeeded")),
    })
    .await;
    let client = client(&provider);
    assert_eq!(client.refund(&a_refund(), patient()).await, Answer::InProgress);
    assert_eq!(client.refund(&a_refund(), patient()).await, Answer::InProgress);
    let failed = client.refund(&a_refund(), patient()).await;
    assert!(
        matches!(&failed, Answer::Failed { provider_id, reason } if provider_id == "re_1" && reason.code == "refund_failed"),
        "{failed:?}"
    );
    assert_eq!(client.refund(&a_refund(), patient()).await, receipt("re_1"));
    assert_eq!(provider.seen()[1].line, "GET /v1/refunds/re_1 HTTP/1.1");
}

/// By whom, the list of the payment's refunds says: which are an order's, and which of its refunds each is.
#[tokio::test]
async fn what_is_refunded_already_decides_nothing_and_the_list_says_whose_each_refund_is() {
    let by_hand = object("re_1", "succeeded").replace("order_id", "note");
    let first = object("re_2", "succeeded");
    let second = object("re_3", "failed").replace(r#""order_id""#, r#""refund_number":"2","order_id""#);
    let list = format!(r#"{{"object":"list","has_more":false,"data":[{by_hand},{first},{second}]}}"#);
    for (code, param) in [
        ("charge_already_refunded", ""),
        ("amount_too_large", ""),
        ("", "amount"),
    ] {
        let list = list.clone();
        let provider = Provider::start(move |_, seen| {
            if seen.line.starts_with("POST") {
                let error = format!(
                    r#"{{"error":{{"type":"invalid_request_error","code":"{code}","param":"{param}","message":""}}}}"#
                );
                return Reaction::Answer(400, error);
            }
            Reaction::Answer(200, list.clone())
        })
        .await;
        let client = client(&provider);
        let refused = client.refund(&a_refund(), patient()).await;
        assert_eq!(refused, Answer::Ambiguous(Cause::RefundedElsewhere), "{code}");
        let found = client.find_refunds("pi_1", patient()).await.unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.provider_id.as_str(), one.number)).collect();
        assert_eq!(found, [("re_1", None), ("re_2", Some(1)), ("re_3", Some(2))]);
        assert_eq!(
            provider.seen()[1].line,
            "GET /v1/refunds?limit=100&payment_intent=pi_1 HTTP/1.1"
        );
    }
}
