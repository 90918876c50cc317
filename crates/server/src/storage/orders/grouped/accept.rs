//! New orders, each with the intent to charge it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::id::{OrderId, ProviderCustomer};
use waybill_domain::order::{Event, OrderRequest, State};
use waybill_domain::payment::{Operation, PaymentKey, ProviderKey};
use waybill_domain::payment_account::PaymentAccount;

use crate::crash_points::crash_point;
use crate::storage::StoreError;
use crate::storage::orders::{Confirmed, OrderStore};

/// An order to accept.
pub(in crate::storage::orders) struct NewOrder {
    pub id: OrderId,
    pub request: OrderRequest,
    pub account: PaymentAccount,
    pub payment_key: PaymentKey,
    pub requested_by: Option<Arc<str>>,
}

statements! {
    /// A key that is used already gives no row; nor does a payment that another order has, or a tenant whose account this server lacks.
    INSERT_ORDERS = "with r as materialized (
            select * from unnest($1::uuid[], $2::text[], $3::text[], $4::int8[], $5::text[], $6::text[],
                                 $7::float8[], $8::float8[], $9::float8[], $10::float8[], $11::bytea[], $12::text[],
                                 $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[])
                r (order_id, key, user_id, amount, currency, payment_method, pickup_lat, pickup_long, drop_off_lat, drop_off_long,
                   request_hash, provider_customer, payment_key, payment_mode, payment_account, tags, provider_key, requested_by)
         ), o as (
            insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status,
                                     pickup_lat, pickup_long, drop_off_lat, drop_off_long, request_hash,
                                     provider_customer, payment_key, payment_mode, payment_account, required_tags,
                                     fence, lease_owner, lease_until, next_run_at)
            select order_id, key, user_id, amount, currency, payment_method, $19,
                   pickup_lat, pickup_long, drop_off_lat, drop_off_long, request_hash,
                   provider_customer, payment_key, payment_mode, payment_account, string_to_array(tags, ','),
                   1, $20, now() + make_interval(secs => $21), now() + make_interval(secs => $21)
              from r
             where not exists (select from payment_attempts t where t.provider_key = r.provider_key)
               and not (payment_account is null and position('/' in user_id) > 0
                        and exists (select from payment_accounts where tenant = tenant_of(user_id) and new_orders))
            on conflict (user_id, idempotency_key) do nothing
            returning order_id, created_at
         ), a as (
            insert into payment_attempts (order_id, operation, number, provider_key, amount, currency,
                                          sends, first_sent_at, last_sent_at)
            select order_id, $22, $23, provider_key, amount, currency, 1, now(), now()
              from r join o using (order_id)
         ), s as (
            insert into order_saga_steps (order_id, step, status, detail, fence, actor, requested_by, round)
            select order_id, step, status, case number when 1 then '' else provider_key end, 1, $20, requested_by, 0
              from r join o using (order_id)
             cross join (values (1, 'create', 'succeeded'), (2, 'charge', 'started')) line (number, step, status)
             order by order_id, number)
         select order_id, created_at from o";
}

impl OrderStore {
    /// Accepts the order with those that come at the same time: when. `None`: it goes by itself.
    pub(in crate::storage::orders) async fn accept_in_group(
        &self,
        id: OrderId,
        request: &OrderRequest,
        account: &PaymentAccount,
        payment_key: &PaymentKey,
    ) -> Option<Result<Confirmed, StoreError>> {
        let new = NewOrder {
            id,
            request: request.clone(),
            account: account.clone(),
            payment_key: payment_key.clone(),
            requested_by: self.requested_by.clone(),
        };
        let begun = AtomicBool::new(false);
        let insert = |orders| self.postgres.call_together(&begun, self.insert_orders(orders, &begun));
        self.groups.accept.join(new, insert).await
    }

    async fn insert_orders(
        &self,
        mut orders: Vec<NewOrder>,
        begun: &AtomicBool,
    ) -> Result<Vec<Option<Confirmed>>, StoreError> {
        let begun_at = Timestamp::now();
        let ids: Vec<Uuid> = orders.iter().map(|order| order.id.uuid()).collect();
        // Two groups that insert the same keys in different orders would deadlock.
        orders.sort_unstable_by(|a, b| (&a.request.user, &a.request.key).cmp(&(&b.request.user, &b.request.key)));
        let columns = Columns::of(&orders);
        let charging = State::Started.next(Event::ChargeIntended)?;
        let (charge, instance) = (Operation::Charge, &self.settings.instance);
        let parameters: [&(dyn ToSql + Sync); 23] = [
            &columns.ids,
            &columns.keys,
            &columns.users,
            &columns.amounts,
            &columns.currencies,
            &columns.payment_methods,
            &columns.pickups.0,
            &columns.pickups.1,
            &columns.drop_offs.0,
            &columns.drop_offs.1,
            &columns.hashes,
            &columns.provider_customers,
            &columns.payment_keys,
            &columns.payment_modes,
            &columns.accounts,
            &columns.tags,
            &columns.provider_keys,
            &columns.requested_by,
            &charging.as_str(),
            instance,
            &self.settings.lease_secs,
            &charge.as_str(),
            &charge.number(),
        ];
        let client = self.postgres.client().await?;
        begun.store(true, Ordering::Relaxed);
        let rows = INSERT_ORDERS.run_alone(&client, &parameters).await?;
        crash_point!("accept_committed");
        let created: HashMap<Uuid, Timestamp> = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, StoreError>>()?;
        let confirmed = |id| Some(Confirmed::new(*created.get(id)?, begun_at));
        Ok(ids.iter().map(confirmed).collect())
    }
}

/// The orders as columns, for `unnest`.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<Uuid>,
    keys: Vec<&'a str>,
    users: Vec<&'a str>,
    amounts: Vec<i64>,
    currencies: Vec<&'a str>,
    payment_methods: Vec<&'a str>,
    pickups: (Vec<f64>, Vec<f64>),
    drop_offs: (Vec<Option<f64>>, Vec<Option<f64>>),
    hashes: Vec<Vec<u8>>,
    provider_customers: Vec<Option<&'a str>>,
    payment_keys: Vec<&'a str>,
    payment_modes: Vec<&'static str>,
    accounts: Vec<Option<&'a str>>,
    tags: Vec<String>,
    provider_keys: Vec<String>,
    requested_by: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn of(orders: &'a [NewOrder]) -> Columns<'a> {
        let mut columns = Columns::default();
        for order in orders {
            let request = &order.request;
            let drop_off = request.drop_off.map(|place| (place.lat_deg(), place.lon_deg())).unzip();
            let provider_key = ProviderKey::new(&order.payment_key, Operation::Charge);
            columns.ids.push(order.id.uuid());
            columns.keys.push(request.key.as_str());
            columns.users.push(request.user.as_str());
            columns.amounts.push(request.amount.minor_units());
            columns.currencies.push(request.amount.currency().code());
            columns.payment_methods.push(request.payment_method.as_str());
            columns.pickups.0.push(request.pickup.lat_deg());
            columns.pickups.1.push(request.pickup.lon_deg());
            columns.drop_offs.0.push(drop_off.0);
            columns.drop_offs.1.push(drop_off.1);
            columns.hashes.push(request.hash().0.to_vec());
            let customer = request.provider_customer.as_ref();
            columns.provider_customers.push(customer.map(ProviderCustomer::as_str));
            columns.payment_keys.push(order.payment_key.as_str());
            columns.payment_modes.push(request.payment_mode.as_str());
            columns.accounts.push(order.account.name());
            // No tag has a comma in it.
            columns
                .tags
                .push(request.required_tags.iter().collect::<Vec<_>>().join(","));
            columns.provider_keys.push(provider_key.as_str().to_owned());
            columns.requested_by.push(order.requested_by.as_deref());
        }
        columns
    }
}
