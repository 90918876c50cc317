//! Traces: which spans belong to one trace, across calls, sagas and instances.
//!
//! A saga's trace has the order's id: whichever instance resumes the order continues the same trace, and an operator finds
//! it by the id that is in every log line. A call's span continues the trace that its client sent; the saga that the call
//! began links to it. Without an exporter (`[telemetry]` in `config/waybill.toml`) all of this costs nothing: spans have no
//! trace then, and no header is sent.

use std::collections::HashMap;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use waybill_domain::id::OrderId;

/// W3C Trace Context, <https://www.w3.org/TR/trace-context/>.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

static PROPAGATOR: LazyLock<TraceContextPropagator> = LazyLock::new(TraceContextPropagator::new);

/// The span of a saga under this fence. It belongs to the order's own trace and links to the span that it is made in.
pub fn saga_span(order: OrderId, fence: i64) -> Span {
    let begun_by = Span::current().context();
    let span = info_span!(parent: None, "saga", order_id = %order, fence);
    // Without an exporter there is no parent to set.
    if span.set_parent(order_context(order)).is_ok() {
        let call = begun_by.span().span_context().clone();
        if call.is_valid() {
            span.add_link(call);
        }
    }
    span
}

/// Lets a call's span continue the trace of its client, if the client sent one.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    let Some(traceparent) = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()) else {
        return;
    };
    let carrier = HashMap::from([(TRACEPARENT.as_str().to_owned(), traceparent.to_owned())]);
    // A header that is no trace context gives an empty one. Without an exporter there is no parent to set.
    let _ = span.set_parent(PROPAGATOR.extract(&carrier));
}

/// The header that lets another service continue the trace of the span that we are in; `None` without a trace.
pub fn traceparent() -> Option<HeaderValue> {
    let mut carrier = HashMap::new();
    PROPAGATOR.inject_context(&Span::current().context(), &mut carrier);
    HeaderValue::try_from(carrier.remove(TRACEPARENT.as_str())?).ok()
}

/// The order's trace, with a span that stands for the order itself: the parent of its sagas in every instance.
fn order_context(order: OrderId) -> Context {
    let bytes = order.uuid().into_bytes();
    let (_, low) = bytes.split_at(8);
    let span_id = low.try_into().map_or(SpanId::INVALID, SpanId::from_bytes);
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_bytes(bytes),
        span_id,
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instance_puts_an_order_into_the_trace_of_its_id() {
        let order: OrderId = "01a20315-5e19-7147-aacf-821719f49b3a".parse().unwrap();
        let context = order_context(order);
        let span = context.span().span_context().clone();
        assert!(span.is_valid() && span.is_sampled());
        assert_eq!(span.trace_id().to_string(), "01a203155e197147aacf821719f49b3a");
    }

    #[test]
    fn without_an_exporter_there_is_no_header() {
        let span = saga_span("01a20315-5e19-7147-aacf-821719f49b3a".parse().unwrap(), 1);
        assert_eq!(span.in_scope(traceparent), None);
    }
}
