//! Inserts the order under the user's key, and records the intent to charge. One commit: between the two there
//! is nothing to do, and nothing that a crash could leave half done.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use uuid::Uuid;
use waybill_domain::id::{OrderId, ProviderCustomer};
use waybill_domain::order::{Event, Order, OrderRequest, RequestHash, State};
use waybill_domain::payment::{Operation, PaymentKey};
use waybill_domain::payment_account::PaymentAccount;

use super::answer::answer;
use super::{Confirmed, Lease, LeasedOrder, OrderStore, StoredAnswer};
use crate::storage::StoreError;

/// What became of a request.
#[derive(Debug)]
pub enum Accepted {
    /// A new order, leased to this instance.
    New(Box<LeasedOrder>),
    /// The user sent this key before.
    Duplicate(ExistingOrder),
}

/// The order that this key made before.
#[derive(Debug, Clone)]
pub struct ExistingOrder {
    /// The order.
    pub order: OrderId,
    /// The hash of the request that made it.
    pub hash: RequestHash,
    /// Its answer, once it is settled.
    pub answer: Option<StoredAnswer>,
}

/// What an insert came to.
enum Inserted {
    /// A new order.
    Order(Box<LeasedOrder>),
    /// The user's key has an order.
    KeyExists,
    /// The key is free, and the payment's name is that of an order whose key expired.
    PaymentExists,
}

/// One more than the times that a client may use one key again after it expired, for the same request.
const TRIES_MAX: u32 = 100;

statements! {
    /// Two calls with one key meet here: the second waits for the first's commit, then gets no row.
    INSERT_ORDER = "insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status,
                                      pickup_lat, pickup_long, drop_off_lat, drop_off_long, request_hash,
                                      provider_customer, payment_key, payment_mode, payment_account, required_tags, fence, lease_owner, lease_until, next_run_at)
             values ($1, $2, $3, $4, $5, $6, 'started', $7, $8, $9, $10, $11, $14, $15, $16, $17, $18,
                     1, $12, now() + make_interval(secs => $13), now() + make_interval(secs => $13))
             on conflict (user_id, idempotency_key) do nothing
             returning created_at";
    SET_CHARGING = "update order_sagas set status = $2 where order_id = $1 and fence = 1 and status = 'started'";
    FIND_BY_KEY = "select order_id, request_hash,
                           response_code, response_message, response_details, response_body
                      from order_sagas
                     where user_id = $1 and idempotency_key = $2";
}

impl OrderStore {
    /// Accepts the request as order `id`, paid into this account, unless its key was used before.
    pub async fn accept(
        &self,
        id: OrderId,
        request: &OrderRequest,
        account: &PaymentAccount,
    ) -> Result<Accepted, StoreError> {
        let payment_key = PaymentKey::of_request(request, 0);
        if let Some(accepted) = self.accept_in_group(id, request, account, &payment_key).await {
            let new = new_order(id, request, account, payment_key, accepted?)?;
            return Ok(Accepted::New(Box::new(new)));
        }
        let mut generation = 0;
        for _ in 0..TRIES_MAX {
            match self
                .postgres
                .call(self.insert(id, request, account, generation))
                .await?
            {
                Inserted::Order(order) => return Ok(Accepted::New(order)),
                // The client used the key before, and it expired: its payment is another one.
                Inserted::PaymentExists => generation += 1,
                // A key that conflicts with the insert may expire before its order is read, and is free then.
                Inserted::KeyExists => {
                    if let Some(existing) = self.find_by_key(request).await? {
                        return Ok(Accepted::Duplicate(existing));
                    }
                }
            }
        }
        Err(StoreError::unexpected("the key was used and expired too often"))
    }

    /// The order that this user made with this key before, if there is one.
    pub async fn find_by_key(&self, request: &OrderRequest) -> Result<Option<ExistingOrder>, StoreError> {
        let found = self
            .postgres
            .query_opt(FIND_BY_KEY, &[&request.user.as_str(), &request.key.as_str()])
            .await?;
        let Some(row) = found else { return Ok(None) };
        let hash: &[u8] = row.try_get("request_hash")?;
        let hash = hash
            .try_into()
            .map_err(|_| StoreError::unexpected("a stored hash has another length"))?;
        Ok(Some(ExistingOrder {
            order: OrderId::new(row.try_get::<_, Uuid>("order_id")?),
            hash: RequestHash(hash),
            answer: answer(&row)?,
        }))
    }

    async fn insert(
        &self,
        id: OrderId,
        request: &OrderRequest,
        account: &PaymentAccount,
        generation: u32,
    ) -> Result<Inserted, StoreError> {
        let begun_at = Timestamp::now();
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let payment_key = PaymentKey::of_request(request, generation);
        let drop_off = request.drop_off.map(|place| (place.lat_deg(), place.lon_deg())).unzip();
        let inserted = INSERT_ORDER
            .query_opt(
                &tx,
                &[
                    &id.uuid(),
                    &request.key.as_str(),
                    &request.user.as_str(),
                    &request.amount.minor_units(),
                    &request.amount.currency().code(),
                    &request.payment_method.as_str(),
                    &request.pickup.lat_deg(),
                    &request.pickup.lon_deg(),
                    &drop_off.0,
                    &drop_off.1,
                    &request.hash().0.as_slice(),
                    &self.settings.instance,
                    &self.settings.lease_secs,
                    &request.provider_customer.as_ref().map(ProviderCustomer::as_str),
                    &payment_key.as_str(),
                    &request.payment_mode.as_str(),
                    &account.name(),
                    &request.required_tags.iter().collect::<Vec<_>>(),
                ],
            )
            .await?;
        let Some(row) = inserted else {
            return Ok(Inserted::KeyExists);
        };
        let created_at: Timestamp = row.try_get(0)?;

        let state = State::Started.next(Event::ChargeIntended)?;
        let lease = Lease { order: id, fence: 1 };
        // Sent together: one round trip.
        let ((), (), is_new) = pipelined!(
            self.log_step(&tx, lease, "create", "succeeded", ""),
            set_charging(&tx, id, state),
            self.try_intend(&tx, lease, &payment_key, Operation::Charge, request.amount),
        )?;
        if !is_new {
            return Ok(Inserted::PaymentExists);
        }
        tx.commit().await?;

        let confirmed = Confirmed::new(created_at, begun_at);
        let new = new_order(id, request, account, payment_key, confirmed)?;
        Ok(Inserted::Order(Box::new(new)))
    }
}

/// The order of this request that was inserted just now, which is leased to this instance.
fn new_order(
    id: OrderId,
    request: &OrderRequest,
    account: &PaymentAccount,
    payment_key: PaymentKey,
    confirmed: Confirmed,
) -> Result<LeasedOrder, StoreError> {
    let created_at = confirmed.database;
    let order = Order {
        id,
        user: request.user.clone(),
        amount: request.amount,
        payment_mode: request.payment_mode,
        pickup: request.pickup,
        drop_off: request.drop_off,
        required_tags: request.required_tags.clone(),
        state: State::Started.next(Event::ChargeIntended)?,
        failure_reason: None,
        created_at,
        updated_at: created_at,
        payment: None,
        assignment: None,
    };
    Ok(LeasedOrder {
        order,
        lease: Lease { order: id, fence: 1 },
        confirmed,
        unsent: true,
        payment_account: account.clone(),
        transfer_group: Some(payment_key.as_str().to_owned()),
        payment_key,
        payment_method: request.payment_method.clone(),
        provider_customer: request.provider_customer.clone(),
        cancel_requested: false,
        attempts: 1,
        needs_attention: None,
        reassignments: 0,
        search_from: None,
        reconcile_requested_at: None,
        open_refund: None,
        answer: None,
    })
}

async fn set_charging(tx: &Transaction<'_>, id: OrderId, state: State) -> Result<(), StoreError> {
    SET_CHARGING.execute(tx, &[&id.uuid(), &state.as_str()]).await.map(drop)
}
