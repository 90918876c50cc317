//! `waybill.admin.v1.AdminService`, for operators: parse, call, render.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use waybill_domain::access::{Caller, Method};
use waybill_domain::id::OrderId;
use waybill_domain::operator::{AssertedOutcome, Assertion, AssertionError, Operator};
use waybill_domain::order::State;
use waybill_domain::tenant::name_of;
use waybill_domain::text::Reason;
use waybill_proto::admin::v1 as pb;
use waybill_proto::admin::v1::admin_service_server::AdminService as Api;
use waybill_proto::order::v1::{Money, OrderStatus};

use super::classes::class;
use super::edge::IngressLimits;
use super::erasure;
use super::fields::Violations;
use super::health::ServerHealth;
use super::order::deadline;
use super::principal;
use super::render::{self, timestamp};
use crate::erasure::Erasure;
use crate::identity::Access;
use crate::operator::OperatorService;
use crate::storage::orders::{LeaseHolder, OrderDetails, UnfinishedOrder};

/// The page size where none is asked for, and the largest.
const PAGE: (i32, i32) = (100, 500);

/// The operator service on the wire.
pub struct OperatorApi {
    operator: OperatorService,
    erasure: Erasure,
    health: ServerHealth,
    limits: Arc<IngressLimits>,
}

impl OperatorApi {
    /// Serves `operator` and `erasure`, and shows `health`, within `limits`.
    pub fn new(
        operator: OperatorService,
        erasure: Erasure,
        health: ServerHealth,
        limits: Arc<IngressLimits>,
    ) -> OperatorApi {
        OperatorApi {
            operator,
            erasure,
            health,
            limits,
        }
    }

    /// The calls within what the caller may reach. Its limits count by the caller, or its address: the order that a call is about
    /// does not identify the operator.
    async fn admit<T>(&self, method: Method, request: &Request<T>) -> Result<(OperatorService, Access), Status> {
        let access = principal::access(request)?;
        let principal = principal::of(&access, || principal::address(request.extensions()));
        self.limits.admit_call(class(method), &principal, request).await?;
        Ok((self.operator.within(access.scope.clone()), access))
    }
}

#[tonic::async_trait]
impl Api for OperatorApi {
    async fn list_stuck_orders(
        &self,
        request: Request<pb::ListStuckOrdersRequest>,
    ) -> Result<Response<pb::ListStuckOrdersResponse>, Status> {
        let limit = parse_page(request.get_ref().page_size)?;
        let (operator, _) = self.admit(Method::ListStuckOrders, &request).await?;
        let stuck = operator.unfinished(true, i64::from(limit)).await?;
        Ok(Response::new(pb::ListStuckOrdersResponse {
            orders: stuck.orders.into_iter().map(render_unfinished).collect(),
            more_count: stuck.more,
            now: Some(timestamp(stuck.now)),
        }))
    }

    async fn show_order(
        &self,
        request: Request<pb::ShowOrderRequest>,
    ) -> Result<Response<pb::ShowOrderResponse>, Status> {
        let mut bad = Violations::default();
        let Some(id) = bad.order_id(&request.get_ref().order_id) else {
            return Err(bad.into_status());
        };
        let (operator, _) = self.admit(Method::ShowOrder, &request).await?;
        let order = operator.show(id).await?;
        Ok(Response::new(pb::ShowOrderResponse {
            order: Some(render_details(order)),
        }))
    }

    async fn retry_order(
        &self,
        request: Request<pb::RetryOrderRequest>,
    ) -> Result<Response<pb::RetryOrderResponse>, Status> {
        let (id, by, reason) = parse_retry(request.get_ref(), own_name(&principal::access(&request)?))?;
        let (operator, access) = self.admit(Method::RetryOrder, &request).await?;
        principal::check_operator(&access, &by)?;
        let lease = operator.retry(id, &by, reason.as_ref()).await?;
        Ok(Response::new(pb::RetryOrderResponse {
            lease_until: lease.map(|lease| timestamp(lease.until)),
        }))
    }

    async fn resolve_order(
        &self,
        request: Request<pb::ResolveOrderRequest>,
    ) -> Result<Response<pb::ResolveOrderResponse>, Status> {
        let (id, assertion, by, reason) = parse_resolve(request.get_ref(), own_name(&principal::access(&request)?))?;
        let (operator, access) = self.admit(Method::ResolveOrder, &request).await?;
        principal::check_operator(&access, &by)?;
        let deadline = deadline(&request);
        let order = operator.resolve(id, &assertion, &by, &reason, deadline).await?;
        Ok(Response::new(pb::ResolveOrderResponse {
            order: Some(render::order(&order)),
        }))
    }

    async fn refund_again(
        &self,
        request: Request<pb::RefundAgainRequest>,
    ) -> Result<Response<pb::RefundAgainResponse>, Status> {
        let (id, by, reason) = parse_refund_again(request.get_ref(), own_name(&principal::access(&request)?))?;
        let (operator, access) = self.admit(Method::RefundAgain, &request).await?;
        principal::check_operator(&access, &by)?;
        let order = operator.refund_again(id, &by, &reason, deadline(&request)).await?;
        Ok(Response::new(pb::RefundAgainResponse {
            order: Some(render::order(&order)),
        }))
    }

    async fn show_health(
        &self,
        request: Request<pb::ShowHealthRequest>,
    ) -> Result<Response<pb::ShowHealthResponse>, Status> {
        let (_, access) = self.admit(Method::ShowHealth, &request).await?;
        principal::check_all_businesses(&access)?;
        Ok(Response::new(self.health.shown().await))
    }

    async fn erase_driver(
        &self,
        request: Request<pb::EraseDriverRequest>,
    ) -> Result<Response<pb::EraseDriverResponse>, Status> {
        let (driver, from) = erasure::parse_driver(request.get_ref())?;
        let (_, access) = self.admit(Method::EraseDriver, &request).await?;
        let driver = driver.of(&access.tenant());
        let deadline = deadline(&request);
        let erased = self
            .erasure
            .driver(&driver, from, &access.authority(), deadline)
            .await?;
        Ok(Response::new(erasure::render_driver(&driver, &erased)))
    }

    async fn erase_user(
        &self,
        request: Request<pb::EraseUserRequest>,
    ) -> Result<Response<pb::EraseUserResponse>, Status> {
        let (user, from) = erasure::parse_user(request.get_ref())?;
        let (_, access) = self.admit(Method::EraseUser, &request).await?;
        let user = user.of(&access.tenant());
        let deadline = deadline(&request);
        let erased = self.erasure.user(&user, from, &access.authority(), deadline).await?;
        Ok(Response::new(erasure::render_user(&user, &erased)))
    }
}

pub(super) fn parse_page(size: i32) -> Result<i32, Status> {
    match size {
        0 => Ok(PAGE.0),
        size @ 1.. => Ok(size.min(PAGE.1)),
        _ => {
            let mut bad = Violations::default();
            bad.add("page_size", "must not be negative");
            Err(bad.into_status())
        }
    }
}

/// The name by which the caller is known.
fn own_name(access: &Access) -> Option<&str> {
    access.caller().map(Caller::subject)
}

/// The operator who is named. Who names itself is taken by the name of its key, which may have been made under older rules.
fn parse_operator(bad: &mut Violations, named: &str, own: Option<&str>) -> Option<Operator> {
    match own {
        Some(own) if own == named => Some(Operator::stored(own)),
        _ => bad.parse("operator", named),
    }
}

pub(super) fn parse_retry(
    request: &pb::RetryOrderRequest,
    own: Option<&str>,
) -> Result<(OrderId, Operator, Option<Reason>), Status> {
    let mut bad = Violations::default();
    let id = bad.order_id(&request.order_id);
    let by = parse_operator(&mut bad, &request.operator, own);
    let reason = match request.reason.as_str() {
        "" => Some(None),
        reason => bad.parse("reason", reason).map(Some),
    };
    match (id, by, reason) {
        (Some(id), Some(by), Some(reason)) => Ok((id, by, reason)),
        _ => Err(bad.into_status()),
    }
}

pub(super) fn parse_resolve(
    request: &pb::ResolveOrderRequest,
    own: Option<&str>,
) -> Result<(OrderId, Assertion, Operator, Reason), Status> {
    let mut bad = Violations::default();
    let id = bad.order_id(&request.order_id);
    let assertion = parse_assertion(&mut bad, request);
    let by = parse_operator(&mut bad, &request.operator, own);
    let reason = bad.parse("reason", &request.reason);
    match (id, assertion, by, reason) {
        (Some(id), Some(assertion), Some(by), Some(reason)) => Ok((id, assertion, by, reason)),
        _ => Err(bad.into_status()),
    }
}

pub(super) fn parse_refund_again(
    request: &pb::RefundAgainRequest,
    own: Option<&str>,
) -> Result<(OrderId, Operator, Reason), Status> {
    let mut bad = Violations::default();
    let id = bad.order_id(&request.order_id);
    let by = parse_operator(&mut bad, &request.operator, own);
    let reason = bad.parse("reason", &request.reason);
    match (id, by, reason) {
        (Some(id), Some(by), Some(reason)) => Ok((id, by, reason)),
        _ => Err(bad.into_status()),
    }
}

fn parse_assertion(bad: &mut Violations, request: &pb::ResolveOrderRequest) -> Option<Assertion> {
    let outcome = match pb::Outcome::try_from(request.outcome) {
        Ok(pb::Outcome::Charged) => AssertedOutcome::Charged,
        Ok(pb::Outcome::NotCharged) => AssertedOutcome::NotCharged,
        Ok(pb::Outcome::Refunded) => AssertedOutcome::Refunded,
        Ok(pb::Outcome::Unspecified) => {
            bad.add("outcome", "is required");
            return None;
        }
        Err(_) => {
            bad.add("outcome", "is not a known outcome");
            return None;
        }
    };
    let amount = Some(request.amount_minor_units).filter(|amount| *amount != 0);
    let assertion = Assertion::new(outcome, &request.provider_id, request.unverified, amount);
    let field = match &assertion {
        Err(AssertionError::MustBeVerified) => "unverified",
        Err(AssertionError::NoAmount | AssertionError::AmountIsTheProviders) => "amount_minor_units",
        _ => "provider_id",
    };
    bad.check(field, assertion)
}

fn render_unfinished(order: UnfinishedOrder) -> pb::UnfinishedOrder {
    let (lease_owner, lease_until) = render_lease(order.lease);
    pb::UnfinishedOrder {
        order_id: order.order.to_string(),
        status: parse_status(&order.status).into(),
        since: Some(timestamp(order.since)),
        attempts: order.attempts,
        sends: order.sends,
        needs_attention: order.needs_attention.unwrap_or_default(),
        lease_owner,
        lease_until,
        next_run_at: Some(timestamp(order.next_run_at)),
    }
}

/// Unspecified for a status that this version does not know.
fn parse_status(name: &str) -> OrderStatus {
    let state = State::ALL.into_iter().find(|state| state.as_str() == name);
    state.map_or(OrderStatus::Unspecified, render::status)
}

fn render_lease(lease: Option<LeaseHolder>) -> (String, Option<prost_types::Timestamp>) {
    lease
        .map(|lease| (lease.owner, timestamp(lease.until)))
        .map_or_else(Default::default, |(owner, until)| (owner, Some(until)))
}

fn render_details(order: OrderDetails) -> pb::OrderFile {
    let (lease_owner, lease_until) = render_lease(order.lease);
    let money = |currency: &str, minor_units| Money {
        currency_code: currency.to_owned(),
        minor_units,
    };
    pb::OrderFile {
        order_id: order.order.to_string(),
        user_id: name_of(&order.user).to_owned(),
        idempotency_key: order.idempotency_key.unwrap_or_default(),
        amount: Some(money(&order.currency, order.amount_minor)),
        status: order.status,
        failure_reason: order.failure_reason.unwrap_or_default(),
        created_at: Some(timestamp(order.created_at)),
        updated_at: Some(timestamp(order.updated_at)),
        finished_at: order.finished_at.map(timestamp),
        cancel_requested_at: order.cancel_requested_at.map(timestamp),
        fence: order.fence,
        attempts: order.attempts,
        reassignments: order.reassignments,
        lease_owner,
        lease_until,
        next_run_at: Some(timestamp(order.next_run_at)),
        needs_attention: order.needs_attention.unwrap_or_default(),
        payment_account: order.payment_account.unwrap_or_default(),
        required_tags: order.required_tags,
        steps: (order.steps.into_iter())
            .map(|line| pb::LogLine {
                created_at: Some(timestamp(line.created_at)),
                step: line.step,
                status: line.status,
                detail: line.detail,
                fence: line.fence,
                actor: line.actor,
                requested_by: line.requested_by.unwrap_or_default(),
                round: line.round,
            })
            .collect(),
        attempts_at_provider: (order.provider_attempts.into_iter())
            .map(|attempt| pb::PaymentAttempt {
                operation: attempt.operation,
                state: attempt.state,
                provider_key: attempt.provider_key,
                sends: attempt.sends,
                first_sent_at: attempt.first_sent_at.map(timestamp),
                last_sent_at: attempt.last_sent_at.map(timestamp),
                provider_id: attempt.provider_id.unwrap_or_default(),
                last_error: attempt.last_error.unwrap_or_default(),
                server_errors: attempt.server_errors,
                number: attempt.number,
            })
            .collect(),
        payment: order.payment.map(|payment| pb::ConfirmedPayment {
            amount: Some(money(&payment.currency, payment.amount_minor)),
            charged_at: Some(timestamp(payment.charged_at)),
            provider_charge_id: payment.provider_charge_id,
            refund_amount: payment.refund_amount_minor.map(|minor| money(&payment.currency, minor)),
            refunded_at: payment.refunded_at.map(timestamp),
            captured_amount: payment
                .captured_amount_minor
                .map(|minor| money(&payment.currency, minor)),
            to_capture: payment.to_capture_minor.map(|minor| money(&payment.currency, minor)),
            kept_amount: Some(payment.kept_amount_minor)
                .filter(|minor| *minor > 0)
                .map(|minor| money(&payment.currency, minor)),
        }),
        refunds: (order.refunds.into_iter())
            .map(|refund| pb::PaymentRefund {
                number: refund.number,
                amount: Some(money(&refund.currency, refund.amount_minor)),
                origin: refund.origin,
                state: refund.state,
                provider_id: refund.provider_id.unwrap_or_default(),
                reason: refund.reason,
                failure: refund.failure.unwrap_or_default(),
                created_at: Some(timestamp(refund.created_at)),
                settled_at: refund.settled_at.map(timestamp),
            })
            .collect(),
        disputes: (order.disputes.into_iter())
            .map(|dispute| pb::PaymentDispute {
                provider_id: dispute.provider_id,
                amount: Some(money(&dispute.currency, dispute.amount_minor)),
                reason: dispute.reason,
                status: dispute.status,
                is_open: dispute.is_open,
                opened_at: Some(timestamp(dispute.opened_at)),
                changed_at: Some(timestamp(dispute.changed_at)),
            })
            .collect(),
        assignments: (order.assignments.into_iter())
            .map(|assignment| pb::DriverAssignment {
                driver_id: name_of(&assignment.driver).to_owned(),
                assigned_at: Some(timestamp(assignment.assigned_at)),
                released_at: assignment.released_at.map(timestamp),
                release_reason: assignment.release_reason.unwrap_or_default(),
            })
            .collect(),
        events: (order.events.into_iter())
            .map(|event| pb::PaymentEvent {
                event_id: name_of(&event.event).to_owned(),
                r#type: event.kind,
                received_at: Some(timestamp(event.received_at)),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_itself_is_taken_by_the_name_of_its_key_and_no_other_older_name_is() {
        let older = "an\u{ad}na";
        let named = |operator: &str, own: Option<&str>| {
            let request = pb::RetryOrderRequest {
                order_id: "01a20315-5e19-7147-aacf-821719f49b3a".to_owned(),
                operator: operator.to_owned(),
                reason: String::new(),
            };
            parse_retry(&request, own).map(|(_, by, _)| by)
        };
        assert_eq!(named(older, Some(older)).unwrap().as_str(), older);
        assert_eq!(named("olga", Some(older)).unwrap().as_str(), "olga");
        for own in [None, Some("anna")] {
            let refused = named(older, own).unwrap_err();
            assert!(
                refused.message().starts_with("operator has a control character"),
                "{refused:?}"
            );
        }
    }
}
