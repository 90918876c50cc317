//! The calls of the order service, free of gRPC.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;
use uuid::Uuid;
use waybill_domain::access::{Authority, Scope};
use waybill_domain::id::{DriverId, OrderId, UserId};
use waybill_domain::money::Money;
use waybill_domain::order::{Order, OrderRequest, RefundRequest, RefundState, ReleaseReason};
use waybill_domain::payment_account::PaymentAccount;
use waybill_domain::tenant::Tenant;
use waybill_domain::text::Reason;

use super::Context;
use super::error::ACCEPT_TIME_MIN;
pub use super::error::{OrderError, PlaceError};
use super::in_flight::Waiter;
use crate::egress::payments::PaymentClient;
use crate::resilience::{Deadline, ExpectedCall, Place, Work};
use crate::storage::StoreError;
use crate::storage::orders::{
    Accepted, Cancelled, Completed, ExistingOrder, ListFilter, LogLine, RefundRequested, RequestedRefund, StoredAnswer,
    Unassigned,
};

/// How long before the caller's deadline the answer "in progress" leaves.
const ANSWER_MARGIN: Duration = Duration::from_millis(50);
/// How often another process's progress is polled: at first, and at most.
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// The answer to a placed order.
#[derive(Debug)]
pub struct Placed {
    /// As it is stored.
    pub answer: StoredAnswer,
    /// Whether another call made the order: before, or at the same time. A call whose own order is settled by a later
    /// worker gets its answer for the first time.
    pub replayed: bool,
}

/// What a request was admitted as.
enum Admission {
    /// A new order: its saga runs in this process, and notifies the waiter.
    Started(OrderId, Waiter),
    /// The key made an order before.
    Duplicate(ExistingOrder),
}

/// The room that a new order takes.
struct Room {
    /// For its saga, and of its tenant's share.
    permit: (OwnedSemaphorePermit, Place),
    /// In the line at the payment provider, until its saga stands there.
    charge: ExpectedCall,
    /// Until it is accepted.
    transaction: Work,
    /// Where it will be charged.
    account: PaymentAccount,
}

/// The calls on orders.
#[derive(Clone)]
pub struct OrderService {
    pub(super) context: Arc<Context>,
}

impl OrderService {
    /// A service over the sagas of `context`.
    pub fn new(context: Arc<Context>) -> OrderService {
        OrderService { context }
    }

    /// Places an order, or answers as the first call with its key was answered.
    pub async fn place(&self, by: Authority, request: &OrderRequest, deadline: Deadline) -> Result<Placed, PlaceError> {
        let existing = match self.preflight(&request.user, deadline).await {
            Ok(room) => match self.begin(by, request.clone(), room).await? {
                Admission::Started(id, waiter) => {
                    let answer = self.settle(id, waiter, request, deadline).await?;
                    return Ok(Placed {
                        answer,
                        replayed: false,
                    });
                }
                Admission::Duplicate(existing) => existing,
            },
            // Replays need none of what a new order needs.
            Err(refusal) => {
                // But a look costs as much as what there is too much of.
                let are_too_many = matches!(refusal, PlaceError::Overloaded | PlaceError::ChargesWait { .. });
                if are_too_many && self.context.replays.check().is_err() {
                    return Err(self.refused(refusal));
                }
                let existing = self.context.callers.find_by_key(request).await?;
                existing.ok_or_else(|| self.refused(refusal))?
            }
        };
        let answer = match existing.answer {
            _ if existing.hash != request.hash() => return Err(PlaceError::KeyReused),
            Some(answer) => answer,
            None => self.poll_stored(existing.order, request, deadline).await?,
        };
        Ok(Placed { answer, replayed: true })
    }

    /// Refuses an order of the tenant that [`place`](OrderService::place) would refuse for want of room, whatever is in it; unless it is to be read, since it
    /// may repeat an order that is there.
    pub fn check_room(&self, tenant: &Tenant, is_to_be_read: impl FnOnce() -> bool) -> Result<(), PlaceError> {
        let context = &self.context;
        let full = if context.capacity.available_permits() == 0 {
            "in_flight_max"
        } else if context.transactions.check(tenant).is_err() {
            "transactions"
        } else {
            return Ok(());
        };
        // Where orders are not taken at all, that is the answer.
        if context.draining.is_cancelled() || self.provider_of(tenant).is_err() || is_to_be_read() {
            return Ok(());
        }
        Err(self.overloaded(full))
    }

    /// Accepts the order and starts its saga, in a task of its own: a caller that hangs up in between leaves no accepted
    /// order without its saga.
    async fn begin(&self, by: Authority, request: OrderRequest, room: Room) -> Result<Admission, StoreError> {
        let context = Arc::clone(&self.context);
        self.detached(async move {
            let store = context.callers.in_name_of(&by);
            let accepted = store.accept(OrderId::new(Uuid::now_v7()), &request, &room.account);
            let mut transaction = room.transaction;
            transaction.begin();
            match accepted.await? {
                // Takes a fraction of the time of a new one.
                Accepted::Duplicate(existing) => Ok(Admission::Duplicate(existing)),
                Accepted::New(order) => {
                    transaction.done();
                    let id = order.order.id;
                    let waiter = context.spawn(*order, room.permit);
                    // From here on its saga stands in the line.
                    drop(room.charge);
                    Ok(Admission::Started(id, waiter))
                }
            }
        })
        .await
    }

    /// The order as it is now, with its refunds and its log.
    pub async fn get(
        &self,
        scope: &Scope,
        id: OrderId,
    ) -> Result<(Order, Vec<RequestedRefund>, Vec<LogLine>), OrderError> {
        let reads = &self.context.reads;
        // One after the other: of the few places for reads a call takes one.
        let found = reads.read_after(scope, id, 0, usize::MAX).await?;
        let refunds = reads.requested_refunds(scope, id).await?;
        let (order, steps) = found.ok_or(OrderError::NotFound)?;
        Ok((order, refunds, steps))
    }

    /// Refunds a part of the order's payment, and waits until that succeeded or failed: the order, its refunds and this
    /// refund as they then are, or as they are when the time is up.
    pub async fn refund(
        &self,
        by: Authority,
        request: RefundRequest,
        deadline: Deadline,
    ) -> Result<(Order, Vec<RequestedRefund>, RequestedRefund), OrderError> {
        let (id, key) = (request.order, request.key.clone());
        let context = Arc::clone(&self.context);
        let scope = by.scope.clone();
        let requested = self.detached(async move {
            let store = context.store.in_name_of(&by);
            let requested = store.request_refund(&by.scope, &request).await?;
            if let RefundRequested::New(order) = requested {
                context.metrics.orders.step("refund", "requested");
                context.resume(*order);
                return Ok(None);
            }
            Ok(Some(requested))
        });
        match requested.await? {
            None | Some(RefundRequested::New(_) | RefundRequested::Duplicate) => {}
            Some(RefundRequested::NotFound) => return Err(OrderError::NotFound),
            Some(RefundRequested::NotRefundable(state)) => return Err(OrderError::NotRefundable(state)),
            Some(RefundRequested::WrongCurrency(expected)) => {
                let field = "amount.currency_code";
                return Err(OrderError::WrongCurrency { field, expected });
            }
            Some(RefundRequested::Disputed) => return Err(OrderError::Disputed),
            Some(RefundRequested::TooMuch(left_minor)) => return Err(OrderError::RefundTooLarge { left_minor }),
            Some(RefundRequested::KeyReused) => return Err(OrderError::KeyReused),
        }
        let callers = &self.context.callers;
        let settled = self.poll(id, || async {
            let refund = callers.find_refund(id, &key).await?;
            Ok(refund.filter(|refund| refund.state != RefundState::Open))
        });
        self.wait(deadline, settled).await.transpose()?;
        let (order, refunds) = tokio::try_join!(callers.read(&scope, id), callers.requested_refunds(&scope, id))?;
        let refund = callers.find_refund(id, &key).await?;
        order
            .zip(refund)
            .map(|(order, refund)| (order, refunds, refund))
            .ok_or(OrderError::NotFound)
    }

    /// Up to `limit` orders, the newest first.
    pub async fn list(&self, scope: &Scope, filter: &ListFilter, limit: i64) -> Result<Vec<Order>, OrderError> {
        Ok(self.context.reads.list(scope, filter, limit).await?)
    }

    /// Releases the order's driver: the service was rendered. `amount` is what it cost, if not all of the order's amount.
    pub async fn complete(
        &self,
        by: Authority,
        id: OrderId,
        driver: Option<DriverId>,
        amount: Option<Money>,
    ) -> Result<Order, OrderError> {
        // A task of its own: a caller that hangs up between two statements does not revert what it asked for. In the
        // sagas' partition of the pool: it releases a driver that an order may wait for.
        let context = Arc::clone(&self.context);
        let completed = self.detached(async move {
            let store = context.store.in_name_of(&by);
            let transaction = context.transactions.go_on();
            let completed = store.complete(&by.scope, id, driver.as_ref(), amount).await?;
            // The others wrote nothing.
            if let Completed::Done(_) | Completed::Unpaid(_) = completed {
                transaction.done();
            }
            if let Completed::Unpaid(order) = completed {
                let settling = order.order.clone();
                context.resume(*order);
                return Ok(Completed::Done(Box::new(settling)));
            }
            Ok(completed)
        });
        match completed.await? {
            Completed::Unpaid(order) => Ok(order.order),
            Completed::TooMuch(left_minor) => {
                let field = "final_amount";
                Err(OrderError::AmountTooLarge { field, left_minor })
            }
            Completed::WrongCurrency(expected) => {
                let field = "final_amount.currency_code";
                Err(OrderError::WrongCurrency { field, expected })
            }
            Completed::NotPayable(error) => {
                let field = "final_amount.minor_units";
                Err(OrderError::NotPayable { field, error })
            }
            Completed::Capturing => Err(OrderError::Capturing),
            Completed::Done(order) => {
                self.context.metrics.orders.step("complete", "succeeded");
                Ok(*order)
            }
            Completed::NotFound => Err(OrderError::NotFound),
            Completed::NotCompletable => Err(OrderError::NotCompletable),
            Completed::NotAssigned => Err(OrderError::DriverNotAssigned),
        }
    }

    /// Cancels the order and waits for its end; the order as it then is, or as it is when the time is up.
    /// Of an order with a driver, `fee` is kept of the payment.
    pub async fn cancel(
        &self,
        by: Authority,
        id: OrderId,
        fee: Option<Money>,
        deadline: Deadline,
    ) -> Result<Order, OrderError> {
        let context = Arc::clone(&self.context);
        let scope = by.scope.clone();
        let cancelled = self.detached(async move {
            let cancelled = context.store.in_name_of(&by).cancel(&by.scope, id, fee).await?;
            if let Cancelled::Refunding(order) = cancelled {
                context.resume(*order);
                return Ok(Cancelled::Requested);
            }
            Ok(cancelled)
        });
        match cancelled.await? {
            Cancelled::NotFound => Err(OrderError::NotFound),
            Cancelled::NotCancellable => Err(OrderError::NotCancellable),
            Cancelled::NoFee => Err(OrderError::NoFee),
            Cancelled::DriverAssigned => Err(OrderError::DriverAssigned),
            Cancelled::WrongCurrency(expected) => {
                let field = "cancellation_fee.currency_code";
                Err(OrderError::WrongCurrency { field, expected })
            }
            Cancelled::NotPayable(error) => {
                let field = "cancellation_fee.minor_units";
                Err(OrderError::NotPayable { field, error })
            }
            Cancelled::FeeTooLarge(left_minor) => {
                let field = "cancellation_fee";
                Err(OrderError::AmountTooLarge { field, left_minor })
            }
            Cancelled::Requested | Cancelled::Compensated | Cancelled::Refunding(_) => {
                self.context.metrics.orders.step("cancel", "requested");
                self.until_settled(&scope, id, deadline).await
            }
        }
    }

    /// Unassigns the driver of an order because they will not serve it, and lets the order search for another. The order
    /// as it then is.
    pub async fn release_driver(
        &self,
        by: Authority,
        id: OrderId,
        driver: DriverId,
        reason: Reason,
    ) -> Result<Order, OrderError> {
        let context = Arc::clone(&self.context);
        let unassigned = self.detached(async move {
            let declined = ReleaseReason::Declined;
            let unassigned = context
                .store
                .in_name_of(&by)
                .unassign_driver(&by.scope, id, &driver, declined, reason.as_str())
                .await?;
            if let Unassigned::Searching(order) = &unassigned {
                context.metrics.orders.step("release", declined.as_str());
                context.resume(order.as_ref().clone());
            }
            Ok(unassigned)
        });
        match unassigned.await? {
            Unassigned::Searching(leased) => Ok(leased.order),
            Unassigned::Earlier(order) => Ok(*order),
            Unassigned::NotFound => Err(OrderError::NotFound),
            Unassigned::NotAssigned => Err(OrderError::DriverNotAssigned),
        }
    }

    /// Checks what must be available before an order is begun, and takes the room for it.
    async fn preflight(&self, user: &UserId, deadline: Deadline) -> Result<Room, PlaceError> {
        let context = &self.context;
        if deadline.remaining() < ACCEPT_TIME_MIN {
            return Err(PlaceError::TooLate);
        }
        if context.draining.is_cancelled() {
            return Err(PlaceError::NotReady("the server is draining"));
        }
        let tenant = user.tenant();
        let (account, payments) = self.provider_of(&tenant)?;
        // What is refused in any case waits for no place, and keeps none from others.
        let permit = Arc::clone(&context.capacity).try_acquire_owned();
        let permit = permit.map_err(|_| self.overloaded("in_flight_max"))?;
        let of_tenant = context.new_orders.take(&tenant, None);
        let permit = (permit, of_tenant.ok_or_else(|| self.overloaded("tenant"))?);
        let charge = context
            .charge_admission
            .admit(&account, payments)
            .map_err(|retry_after| PlaceError::ChargesWait { retry_after })?;
        // Before whatever costs a store something: there may be many more calls than it could do that for.
        let transaction = context.transactions.admit(&tenant).await;
        let transaction = transaction.map_err(|_| self.overloaded("transactions"))?;
        // A charge without a way to find a driver would only be refunded.
        if context.dispatch.check().await.is_err() {
            return Err(PlaceError::NotReady("the drivers' positions are not available"));
        }
        Ok(Room {
            permit,
            charge,
            transaction,
            account,
        })
    }

    /// Where a new order of the tenant is charged, and through which client, if that is to be expected to work.
    fn provider_of(&self, tenant: &Tenant) -> Result<(PaymentAccount, &PaymentClient), PlaceError> {
        let account = self.context.payments.of_new_order(tenant);
        let payments = self.context.payments.client(&account);
        let Some(payments) = payments.ok().filter(|payments| payments.retry_after().is_none()) else {
            return Err(PlaceError::NotReady("the payment provider is not available"));
        };
        if payments.rejects_us().is_some() {
            return Err(PlaceError::NotReady(
                "the payment provider rejects the server's requests",
            ));
        }
        Ok((account, payments))
    }

    /// Counts a refusal for want of room.
    fn overloaded(&self, reason: &'static str) -> PlaceError {
        self.context.metrics.orders.overloaded(reason);
        PlaceError::Overloaded
    }

    /// Counts a refusal of a new order where no other part does.
    fn refused(&self, refusal: PlaceError) -> PlaceError {
        if let PlaceError::ChargesWait { .. } = refusal {
            self.context.metrics.orders.charge_refused();
        }
        refusal
    }

    /// Waits for the order that this call began.
    async fn settle(
        &self,
        id: OrderId,
        waiter: Waiter,
        request: &OrderRequest,
        deadline: Deadline,
    ) -> Result<StoredAnswer, PlaceError> {
        match self.wait(deadline, waiter.settled()).await {
            Some(Some(answer)) => Ok(answer),
            // Deferred: the worker that claims it next settles it.
            Some(None) => self.poll_stored(id, request, deadline).await,
            None => Err(PlaceError::InProgress(id)),
        }
    }

    /// Waits for the stored answer of an order that a later worker settles, in this process or another.
    async fn poll_stored(
        &self,
        id: OrderId,
        request: &OrderRequest,
        deadline: Deadline,
    ) -> Result<StoredAnswer, PlaceError> {
        let stored = self.poll(id, || async {
            let existing = self.context.callers.find_by_key(request).await?;
            Ok(existing.and_then(|existing| existing.answer))
        });
        match self.wait(deadline, stored).await.transpose()?.flatten() {
            Some(answer) => Ok(answer),
            None => Err(PlaceError::InProgress(id)),
        }
    }

    async fn until_settled(&self, scope: &Scope, id: OrderId, deadline: Deadline) -> Result<Order, OrderError> {
        let settled = self.poll(id, || async {
            let order = self.context.callers.read(scope, id).await?;
            Ok(order.filter(|order| order.state.is_terminal()))
        });
        match self.wait(deadline, settled).await.transpose()?.flatten() {
            Some(order) => Ok(order),
            None => self.context.callers.read(scope, id).await?.ok_or(OrderError::NotFound),
        }
    }

    /// Asks until there is an answer: at once when this process settles the order, else now and then. `None`: this
    /// process ends, and no saga in it holds the order any more.
    async fn poll<T, F>(&self, id: OrderId, ask: impl Fn() -> F) -> Result<Option<T>, StoreError>
    where
        F: Future<Output = Result<Option<T>, StoreError>>,
    {
        let Context {
            in_flight, draining, ..
        } = self.context.as_ref();
        let mut pause = POLL.0;
        loop {
            if let Some(found) = ask().await? {
                return Ok(Some(found));
            }
            if draining.is_cancelled() && !in_flight.has(id) {
                return Ok(None);
            }
            tokio::select! {
                Some(_) = in_flight.settled(id) => {}
                () = draining.cancelled(), if !draining.is_cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(POLL.1);
        }
    }

    /// Waits until shortly before the deadline, so that there is time left to answer that it was too short.
    async fn wait<T>(&self, deadline: Deadline, future: impl Future<Output = T>) -> Option<T> {
        let until = Deadline::after(deadline.remaining().saturating_sub(ANSWER_MARGIN));
        until.bound(future).await.ok()
    }

    /// Runs it in a task of its own, in the span of the call: a caller that hangs up does not cut it off.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let task = self.context.tasks.spawn(work.in_current_span());
        // A panic in it was logged; the caller gets an error, the process goes on.
        task.await
            .unwrap_or_else(|_| Err(StoreError::Unexpected("the task did not finish".to_owned())))
    }
}
