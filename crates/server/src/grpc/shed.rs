//! Sheds load: where there is no room for another order, a call that asks for one is refused before its message is read. That costs a
//! fraction of what it costs to read it, check it and count it, and there may be ten times as many of them as of those that are served.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;
use waybill_domain::access::Method;

use super::edge::IngressLimits;
use super::{method, principal};
use crate::identity::Access;
use crate::orders::service::OrderService;

/// The order service on the wire, behind a look at whether there is room.
#[derive(Clone)]
pub struct ShedsLoad<S> {
    service: S,
    orders: OrderService,
    limits: Arc<IngressLimits>,
}

impl<S> ShedsLoad<S> {
    /// Asks `orders` whether there is room, and sends what there is room for to `service`; and a few others, each caller its part of what `limits` has for
    /// those who may repeat an order that is there.
    pub fn new(service: S, orders: OrderService, limits: Arc<IngressLimits>) -> ShedsLoad<S> {
        ShedsLoad {
            service,
            orders,
            limits,
        }
    }

    /// Refuses what there is no room for.
    fn check(&self, request: &Request<Body>) -> Result<(), Status> {
        let (path, extensions) = (request.uri().path(), request.extensions());
        let access = extensions.get::<Access>();
        if let Some(access) = access.filter(|_| method(path) == Some(Method::CreateOrder)) {
            let may_be_a_repeat = || self.limits.may_be_a_repeat(&principal::caller(access, extensions));
            self.orders.check_room(&access.tenant(), may_be_a_repeat)?;
        }
        Ok(())
    }
}

impl<S: NamedService> NamedService for ShedsLoad<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for ShedsLoad<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response<Body>, Infallible>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.check(&request) {
            Ok(()) => Either::Right(self.service.call(request)),
            Err(refusal) => Either::Left(ready(Ok(refusal.into_http()))),
        }
    }
}
