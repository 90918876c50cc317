//! The span of each call, as a subscriber sees it.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt as _, stream};
use http::header::CONTENT_TYPE;
use tonic::body::Body;
use tower::ServiceExt as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::rig::{LOG, REPORT, Rig, STREAM, message, report};

/// Keeps the methods of the calls' spans, and those of the spans in which handlers logged.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    methods: Vec<String>,
    entered: Vec<Id>,
    logged_in: Vec<Option<String>>,
}

#[tokio::test]
async fn a_call_has_a_span_with_its_method_and_its_handler_runs_in_it() {
    let subscriber = Recorder::default();
    let _subscribed = tracing::subscriber::set_default(subscriber.clone());
    let rig = Rig::start().await;
    // Other tests of this process have no subscriber. Where one of them meets a span for the first time just as this one comes, the span would stay
    // without it. So all are met once, and asked anew.
    make_calls(&rig).await;
    tracing::callsite::rebuild_interest_cache();
    *subscriber.0.lock().unwrap() = Recorded::default();

    make_calls(&rig).await;
    let recorded = subscriber.0.lock().unwrap();
    assert_eq!(recorded.methods, [REPORT, STREAM, "unknown"], "the names are bounded");
    assert_eq!(
        recorded.logged_in,
        [Some(REPORT), Some(STREAM)].map(|method| method.map(str::to_owned)),
        "a stream answers in its span, too"
    );
    assert!(recorded.entered.is_empty(), "no span is left entered");
}

/// One call, one stream, and one of a method that there is not.
async fn make_calls(rig: &Rig) {
    let mut client = rig.client().await;
    client.report_locations(report(LOG)).await.unwrap();
    let messages = stream::iter([message(1, LOG)]);
    let acknowledgements = client.stream_locations(messages).await.unwrap().into_inner();
    assert_eq!(acknowledgements.count().await, 1);
    let unknown = http::Request::post("/no.Such/Method").header(CONTENT_TYPE, "application/grpc");
    let unknown = unknown.body(Body::empty()).unwrap();
    rig.channel().await.oneshot(unknown).await.unwrap();
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.name() == "call" || metadata.is_event() && metadata.target() == LOG
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        assert!(
            span.metadata().fields().field("order_id").is_some(),
            "handlers record the order"
        );
        let recorded = &mut *self.0.lock().unwrap();
        span.record(&mut Method(&mut recorded.methods));
        Id::from_u64(recorded.methods.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        let recorded = &mut *self.0.lock().unwrap();
        let span = recorded.entered.last().map(Id::into_u64);
        let method = span.map(|span| recorded.methods[usize::try_from(span).unwrap() - 1].clone());
        recorded.logged_in.push(method);
    }

    fn enter(&self, id: &Id) {
        self.0.lock().unwrap().entered.push(id.clone());
    }

    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().entered.pop();
    }
}

/// Collects the field `method`.
struct Method<'a>(&'a mut Vec<String>);

impl Visit for Method<'_> {
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "method" {
            self.0.push(value.to_owned());
        }
    }
}
