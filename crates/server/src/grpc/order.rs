//! `waybill.order.v1.OrderService`: parse, call, render.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Extensions, Request, Response, Status};
use waybill_domain::access::{Method, Scope};
use waybill_domain::duty::Tags;
use waybill_domain::id::{DriverId, OrderId, UserId};
use waybill_domain::money::Money;
use waybill_domain::order::{OrderRequest, RefundRequest};
use waybill_domain::tenant::Tenant;
use waybill_domain::text::Reason;
use waybill_proto::Encoded;
use waybill_proto::order::v1 as pb;
use waybill_proto::order::v1::order_service_server::OrderService as Api;

use super::classes::class;
use super::edge::{CallDeadline, DeadlineSettings, IngressLimits};
use super::fields::{Violations, record_order};
use super::tracking::{parse_revoke, parse_share};
use super::{principal, render};
use crate::identity::Access;
use crate::orders::service::{OrderService, PlaceError, Placed};
use crate::orders::watch::Change;
use crate::resilience::Deadline;
use crate::storage::orders::ListFilter;
use crate::tracking::Tracking;

/// The page size where none is asked for, and the largest.
const PAGE: (i32, i32) = (50, 500);

/// The order service on the wire.
pub struct OrderApi {
    orders: OrderService,
    tracking: Tracking,
    limits: Arc<IngressLimits>,
}

impl OrderApi {
    /// Serves `orders` within `limits`.
    pub fn new(orders: OrderService, tracking: Tracking, limits: Arc<IngressLimits>) -> OrderApi {
        OrderApi {
            orders,
            tracking,
            limits,
        }
    }

    /// Within the limits of the caller, or of the order where callers are not known.
    async fn admit<T>(&self, method: Method, id: OrderId, request: &Request<T>) -> Result<Access, Status> {
        let access = principal::access(request)?;
        let principal = principal::of(&access, || principal::order(id));
        self.limits.admit_call(class(method), &principal, request).await?;
        Ok(access)
    }
}

#[tonic::async_trait]
impl Api for OrderApi {
    async fn create_order(&self, request: Request<pb::CreateOrderRequest>) -> Result<Response<Encoded>, Status> {
        let access = principal::access(&request)?;
        let order = parse_create(request.get_ref(), &access.tenant())?;
        principal::check_user(&access, &order.user)?;
        principal::check_provider_customer(&access, order.provider_customer.as_ref())?;
        let principal = principal::of(&access, || principal::user(&order.user));
        let class = class(Method::CreateOrder);
        self.limits.admit_call(class, &principal, &request).await?;
        let placed = self.orders.place(access.authority(), &order, deadline(&request)).await;
        if let Err(PlaceError::InProgress(id)) = placed {
            record_order(id);
        }
        replay(placed?)
    }

    async fn get_order(&self, request: Request<pb::GetOrderRequest>) -> Result<Response<pb::GetOrderResponse>, Status> {
        let id = parse_id(&request.get_ref().order_id)?;
        let access = self.admit(Method::GetOrder, id, &request).await?;
        let (order, refunds, steps) = self.orders.get(&access.scope, id).await?;
        let mut order = render::order_with_refunds(&order, refunds);
        order.steps = steps.into_iter().map(render::step).collect();
        let order = Some(render::for_scope(order, &access.scope));
        Ok(Response::new(pb::GetOrderResponse { order }))
    }

    async fn list_orders(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        let access = principal::access(&request)?;
        let (filter, size) = parse_list(request.get_ref(), &access.tenant())?;
        let principal = principal::of(&access, || match &filter.user {
            Some(user) => principal::user(user),
            None => principal::address(request.extensions()),
        });
        let class = class(Method::ListOrders);
        self.limits.admit_call(class, &principal, &request).await?;
        // One more than the page: whether there is a next one.
        let mut orders = self.orders.list(&access.scope, &filter, i64::from(size) + 1).await?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let more = orders.len() > size;
        orders.truncate(size);
        let next_page_token = match orders.last() {
            Some(last) if more => page_token(request.get_ref(), last.id),
            _ => String::new(),
        };
        Ok(Response::new(pb::ListOrdersResponse {
            orders: orders.iter().map(render::order).collect(),
            next_page_token,
        }))
    }

    type WatchOrderStream = BoxStream<'static, Result<pb::WatchOrderResponse, Status>>;

    async fn watch_order(
        &self,
        request: Request<pb::WatchOrderRequest>,
    ) -> Result<Response<Self::WatchOrderStream>, Status> {
        let (id, after_step) = parse_watch(request.get_ref())?;
        let access = self.admit(Method::WatchOrder, id, &request).await?;
        let scope = access.scope.clone();
        let changes = self.orders.watch(scope.clone(), id, after_step).await?;
        let rendered = changes.map(move |change| Ok(render_change(change?, &scope)));
        Ok(Response::new(principal::until_ended(rendered, access).boxed()))
    }

    async fn complete_order(
        &self,
        request: Request<pb::CompleteOrderRequest>,
    ) -> Result<Response<pb::CompleteOrderResponse>, Status> {
        let tenant = principal::access(&request)?.tenant();
        let (id, driver, amount) = parse_complete(request.get_ref(), &tenant)?;
        let access = self.admit(Method::CompleteOrder, id, &request).await?;
        principal::check_business(&access, "final_amount", amount.is_some())?;
        let driver = principal::check_driver(&access, driver)?;
        let order = self.orders.complete(access.authority(), id, driver, amount).await?;
        Ok(Response::new(pb::CompleteOrderResponse {
            order: Some(render::for_scope(render::order(&order), &access.scope)),
        }))
    }

    async fn cancel_order(
        &self,
        request: Request<pb::CancelOrderRequest>,
    ) -> Result<Response<pb::CancelOrderResponse>, Status> {
        let (id, fee) = parse_cancel(request.get_ref())?;
        let access = self.admit(Method::CancelOrder, id, &request).await?;
        principal::check_business(&access, "cancellation_fee", fee.is_some())?;
        let order = self
            .orders
            .cancel(access.authority(), id, fee, deadline(&request))
            .await?;
        Ok(Response::new(pb::CancelOrderResponse {
            order: Some(render::order(&order)),
        }))
    }

    async fn refund_order(
        &self,
        request: Request<pb::RefundOrderRequest>,
    ) -> Result<Response<pb::RefundOrderResponse>, Status> {
        let refund = parse_refund(request.get_ref())?;
        let access = self.admit(Method::RefundOrder, refund.order, &request).await?;
        let (order, refunds, refund) = self
            .orders
            .refund(access.authority(), refund, deadline(&request))
            .await?;
        Ok(Response::new(pb::RefundOrderResponse {
            order: Some(render::order_with_refunds(&order, refunds)),
            refund: Some(render::refund(refund)),
        }))
    }

    async fn release_driver(
        &self,
        request: Request<pb::ReleaseDriverRequest>,
    ) -> Result<Response<pb::ReleaseDriverResponse>, Status> {
        let tenant = principal::access(&request)?.tenant();
        let (id, driver, reason) = parse_release(request.get_ref(), &tenant)?;
        let access = self.admit(Method::ReleaseDriver, id, &request).await?;
        principal::check_driver(&access, Some(driver.clone()))?;
        let order = self
            .orders
            .release_driver(access.authority(), id, driver, reason)
            .await?;
        Ok(Response::new(pb::ReleaseDriverResponse {
            order: Some(render::for_scope(render::order(&order), &access.scope)),
        }))
    }

    async fn share_order(
        &self,
        request: Request<pb::ShareOrderRequest>,
    ) -> Result<Response<pb::ShareOrderResponse>, Status> {
        let (id, lifetime) = parse_share(request.get_ref())?;
        let access = self.admit(Method::ShareOrder, id, &request).await?;
        let (token, share) = self.tracking.share(&access.authority(), id, lifetime).await?;
        Ok(Response::new(pb::ShareOrderResponse {
            share_id: share.id.to_string(),
            token,
            expires_at: Some(render::timestamp(share.expires_at)),
        }))
    }

    async fn revoke_share(
        &self,
        request: Request<pb::RevokeShareRequest>,
    ) -> Result<Response<pb::RevokeShareResponse>, Status> {
        let (id, share) = parse_revoke(request.get_ref())?;
        let access = self.admit(Method::RevokeShare, id, &request).await?;
        self.tracking.revoke(&access.authority(), id, share).await?;
        Ok(Response::new(pb::RevokeShareResponse {}))
    }
}

fn render_change(change: Change, scope: &Scope) -> pb::WatchOrderResponse {
    pb::WatchOrderResponse {
        order: Some(render::for_scope(render::order(&change.order), scope)),
        steps: render::steps_for_scope(change.steps.into_iter().map(render::step).collect(), scope),
        last_step_id: change.last_step,
    }
}

/// The stored answer, to the byte. It is not decoded here, since another version may have written it.
fn replay(Placed { answer, replayed }: Placed) -> Result<Response<Encoded>, Status> {
    let mut metadata = MetadataMap::new();
    if replayed {
        metadata.insert("idempotent-replayed", MetadataValue::from_static("true"));
    }
    match Code::from(i32::from(answer.code)) {
        Code::Ok => Ok(Response::from_parts(
            metadata,
            Encoded(answer.body),
            Extensions::default(),
        )),
        code => Err(Status::with_details_and_metadata(
            code,
            answer.message,
            answer.details.into(),
            metadata,
        )),
    }
}

/// The caller's deadline. The layers give every unary call one.
pub(super) fn deadline<T>(request: &Request<T>) -> Deadline {
    match CallDeadline::of(request) {
        Some(CallDeadline(at)) => Deadline::at(at),
        None => Deadline::after(DeadlineSettings::default().default),
    }
}

pub(super) fn parse_create(request: &pb::CreateOrderRequest, tenant: &Tenant) -> Result<OrderRequest, Status> {
    let mut bad = Violations::default();
    let key = bad.parse("idempotency_key", &request.idempotency_key);
    let user: Option<UserId> = bad.parse("user_id", &request.user_id);
    let user = user.map(|user| user.of(tenant));
    let amount = bad.money("amount", request.amount.as_ref());
    let payment_method = bad.parse("payment_method", &request.payment_method);
    let provider_customer = match request.provider_customer_id.as_str() {
        "" => Some(None),
        customer => bad.parse("provider_customer_id", customer).map(Some),
    };
    let pickup = bad.position("pickup", request.pickup.as_ref());
    let drop_off = match &request.drop_off {
        Some(given) => bad.position("drop_off", Some(given)).map(Some),
        None => Some(None),
    };
    let payment_mode = pb::PaymentMode::try_from(request.payment_mode).map_err(|_| "is not a known mode");
    let payment_mode = bad.check("payment_mode", payment_mode).map(render::payment_mode_of);
    let required_tags = bad.check("required_tags", Tags::new(&request.required_tags));
    let payment = payment_method.zip(provider_customer).zip(payment_mode);
    let service = pickup.zip(drop_off).zip(required_tags);
    match (key, user, amount, payment, service) {
        (
            Some(key),
            Some(user),
            Some(amount),
            Some(((payment_method, provider_customer), payment_mode)),
            Some(((pickup, drop_off), required_tags)),
        ) => Ok(OrderRequest {
            key,
            user,
            amount,
            payment_method,
            provider_customer,
            payment_mode,
            pickup,
            drop_off,
            required_tags,
        }),
        _ => Err(bad.into_status()),
    }
}

pub(super) fn parse_cancel(request: &pb::CancelOrderRequest) -> Result<(OrderId, Option<Money>), Status> {
    let mut bad = Violations::default();
    let id = bad.order_id(&request.order_id);
    let fee = match &request.cancellation_fee {
        Some(fee) => bad.refund("cancellation_fee", Some(fee)).map(Some),
        None => Some(None),
    };
    match (id, fee) {
        (Some(id), Some(fee)) => Ok((id, fee)),
        _ => Err(bad.into_status()),
    }
}

pub(super) type Completion = (OrderId, Option<DriverId>, Option<Money>);

pub(super) fn parse_complete(request: &pb::CompleteOrderRequest, tenant: &Tenant) -> Result<Completion, Status> {
    let mut bad = Violations::default();
    let id = bad.order_id(&request.order_id);
    let driver = match request.driver_id.as_str() {
        "" => Some(None),
        driver => bad
            .parse("driver_id", driver)
            .map(|driver: DriverId| Some(driver.of(tenant))),
    };
    let amount = match &request.final_amount {
        Some(amount) => bad.refund("final_amount", Some(amount)).map(Some),
        None => Some(None),
    };
    match (id, driver, amount) {
        (Some(id), Some(driver), Some(amount)) => Ok((id, driver, amount)),
        _ => Err(bad.into_status()),
    }
}

pub(super) fn parse_release(
    request: &pb::ReleaseDriverRequest,
    tenant: &Tenant,
) -> Result<(OrderId, DriverId, Reason), Status> {
    let mut bad = Violations::default();
    let id = bad.order_id(&request.order_id);
    let driver: Option<DriverId> = bad.parse("driver_id", &request.driver_id);
    let driver = driver.map(|driver| driver.of(tenant));
    let reason = bad.parse("reason", &request.reason);
    match (id, driver, reason) {
        (Some(id), Some(driver), Some(reason)) => Ok((id, driver, reason)),
        _ => Err(bad.into_status()),
    }
}

pub(super) fn parse_refund(request: &pb::RefundOrderRequest) -> Result<RefundRequest, Status> {
    let mut bad = Violations::default();
    let order = bad.order_id(&request.order_id);
    let key = bad.parse("idempotency_key", &request.idempotency_key);
    let amount = bad.refund("amount", request.amount.as_ref());
    let reason = bad.parse("reason", &request.reason);
    match (order, key, amount, reason) {
        (Some(order), Some(key), Some(amount), Some(reason)) => Ok(RefundRequest {
            order,
            key,
            amount,
            reason,
        }),
        _ => Err(bad.into_status()),
    }
}

pub(super) fn parse_id(text: &str) -> Result<OrderId, Status> {
    let mut bad = Violations::default();
    bad.order_id(text).ok_or_else(|| bad.into_status())
}

pub(super) fn parse_watch(request: &pb::WatchOrderRequest) -> Result<(OrderId, Option<i64>), Status> {
    let mut bad = Violations::default();
    let id = bad.order_id(&request.order_id);
    if request.after_step_id.is_some_and(i64::is_negative) {
        bad.add("after_step_id", "must not be negative");
        return Err(bad.into_status());
    }
    match id {
        Some(id) => Ok((id, request.after_step_id)),
        None => Err(bad.into_status()),
    }
}

pub(super) fn parse_list(request: &pb::ListOrdersRequest, tenant: &Tenant) -> Result<(ListFilter, i32), Status> {
    let mut bad = Violations::default();
    let user = match request.user_id.as_str() {
        "" => Some(None),
        user => bad.parse("user_id", user).map(|user: UserId| Some(user.of(tenant))),
    };
    let state = match pb::OrderStatus::try_from(request.status) {
        Ok(pb::OrderStatus::Unspecified) => Some(None),
        Ok(status) => Some(render::state(status)),
        Err(_) => {
            bad.add("status", "is not a known status");
            None
        }
    };
    let before = match request.page_token.as_str() {
        "" => Some(None),
        token => bad.check("page_token", parse_page_token(request, token)).map(Some),
    };
    if request.page_size < 0 {
        bad.add("page_size", "must not be negative");
    }
    match (user, state, before, request.page_size) {
        (Some(user), Some(state), Some(before), 0..) => {
            let size = if request.page_size == 0 {
                PAGE.0
            } else {
                request.page_size.min(PAGE.1)
            };
            Ok((ListFilter { user, state, before }, size))
        }
        _ => Err(bad.into_status()),
    }
}

/// Where the next page begins, and of which listing it is a page. Opaque to callers.
fn page_token(request: &pb::ListOrdersRequest, last: OrderId) -> String {
    format!("1.{}.{}.{last}", request.status, request.user_id)
}

fn parse_page_token(request: &pb::ListOrdersRequest, token: &str) -> Result<OrderId, &'static str> {
    let listing = format!("1.{}.{}.", request.status, request.user_id);
    token
        .strip_prefix(&listing)
        .and_then(|id| id.parse().ok())
        .ok_or("is not a token of this listing")
}
