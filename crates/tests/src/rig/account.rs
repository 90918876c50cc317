//! An account with a past: payments that are settled, alike at the provider and in the ledger.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use waybill_sandbox::payments::{PastCharge, PastRefund};

use super::Rig;

/// Orders that are written to the ledger in one statement.
const ORDERS_AT_ONCE: usize = 20_000;
/// What each of them costs, in US cents.
const AMOUNT_MINOR: i64 = 1_999;

/// A settled order, and when its money moved.
#[derive(Debug, Clone, Copy)]
pub struct PastPayment {
    /// The order.
    pub order: Uuid,
    /// When it was charged, in whole seconds.
    pub charged_at: Timestamp,
    /// When it was refunded, if it was.
    pub refunded_at: Option<Timestamp>,
}

impl PastPayment {
    /// A payment of this time that was not refunded.
    pub fn at(charged_at: Timestamp) -> PastPayment {
        PastPayment {
            order: Uuid::now_v7(),
            charged_at,
            refunded_at: None,
        }
    }

    /// So many, the first at `first`, and the others so far apart.
    pub fn series(count: usize, first: Timestamp, apart: SignedDuration) -> Vec<PastPayment> {
        let times = std::iter::successors(Some(first), |time| Some(*time + apart));
        times.take(count).map(PastPayment::at).collect()
    }

    /// The provider's id of its charge.
    pub fn charge_id(&self) -> String {
        format!("pi_{}", self.order.simple())
    }

    /// The provider's id of its refund.
    pub fn refund_id(&self) -> String {
        format!("re_{}", self.order.simple())
    }
}

impl Rig {
    /// Enters these payments on both sides. The oldest first, and before the provider has later ones.
    pub async fn add_past_payments(&self, payments: &[PastPayment]) {
        self.add_to_provider(payments);
        self.add_to_ledger(payments).await;
    }

    /// Enters these payments at the provider alone.
    pub fn add_to_provider(&self, payments: &[PastPayment]) {
        let charges = payments
            .iter()
            .map(|payment| past_charge(payment, payment.charge_id(), payment.charged_at));
        self.payments().add_past_charges(charges).expect("charges");
        let mut refunds: Vec<_> = payments.iter().filter_map(past_refund).collect();
        refunds.sort_by_key(|refund| refund.created);
        self.payments().add_past_refunds(refunds).expect("refunds");
    }

    /// Enters another charge of this order at the provider alone.
    pub fn charge_again(&self, payment: &PastPayment, id: &str, charged_at: Timestamp) {
        let charge = past_charge(payment, id.to_owned(), charged_at);
        self.payments().add_past_charges([charge]).expect("a charge");
    }

    /// Enters these payments in the ledger alone.
    pub async fn add_to_ledger(&self, payments: &[PastPayment]) {
        let sql = self.sql().await;
        // Past the triggers and keys that see to orders that are not settled yet.
        sql.batch_execute("set session_replication_role = replica")
            .await
            .expect("a session");
        for part in payments.chunks(ORDERS_AT_ONCE) {
            let orders: Vec<Uuid> = part.iter().map(|payment| payment.order).collect();
            let charged: Vec<Timestamp> = part.iter().map(|payment| payment.charged_at).collect();
            let refunded: Vec<Option<Timestamp>> = part.iter().map(|payment| payment.refunded_at).collect();
            for insert in [ORDERS, PAYMENTS] {
                sql.execute(insert, &[&orders, &charged, &refunded, &AMOUNT_MINOR])
                    .await
                    .expect(insert);
            }
        }
    }
}

const ORDERS: &str = "
    insert into order_sagas (order_id, user_id, amount, currency, payment_method, status, failure_reason, pickup_lat,
                             pickup_long, request_hash, fence, created_at, updated_at, finished_at)
    select order_id, 'user-1', $4::bigint, 'USD', 'pm_card_visa',
           case when refunded_at is null then 'succeeded' else 'refunded' end,
           case when refunded_at is null then null else 'no_driver' end,
           41.15, -8.61, '', 1, charged_at, coalesce(refunded_at, charged_at), coalesce(refunded_at, charged_at)
      from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) past (order_id, charged_at, refunded_at)";
const PAYMENTS: &str = "
    with paid as (
        insert into payments (order_id, amount, currency, charged_at, provider_charge_id, captured_amount, captured_at,
                              refund_amount, refunded_at)
        select order_id, $4::bigint, 'USD', charged_at, 'pi_' || replace(order_id::text, '-', ''), $4::bigint, charged_at,
               case when refunded_at is null then null else $4::bigint end, refunded_at
          from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) past (order_id, charged_at, refunded_at)
        returning order_id, amount, currency, refunded_at)
    insert into refunds (order_id, number, amount, currency, origin, state, provider_refund_id, created_at, settled_at)
    select order_id, 1, amount, currency, 'compensation', 'succeeded', 're_' || replace(order_id::text, '-', ''),
           refunded_at, refunded_at
      from paid
     where refunded_at is not null";

fn past_charge(payment: &PastPayment, id: String, charged_at: Timestamp) -> PastCharge {
    PastCharge {
        id,
        order_id: Some(payment.order.to_string()),
        transfer_group: None,
        amount_minor: AMOUNT_MINOR,
        currency: "usd".to_owned(),
        created: charged_at.as_second(),
    }
}

fn past_refund(payment: &PastPayment) -> Option<PastRefund> {
    Some(PastRefund {
        id: payment.refund_id(),
        payment: payment.charge_id(),
        order_id: Some(payment.order.to_string()),
        amount_minor: AMOUNT_MINOR,
        currency: "usd".to_owned(),
        created: payment.refunded_at?.as_second(),
    })
}
