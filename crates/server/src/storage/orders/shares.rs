//! Links by which anyone who has one follows an order.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::access::Scope;
use waybill_domain::id::OrderId;
use waybill_domain::order::Order;

use super::OrderStore;
use super::row::{get, in_scope, order, order_columns, order_tables, scope_values};
use crate::storage::StoreError;

/// A link that was made.
#[derive(Debug, Clone)]
pub struct Share {
    /// Its id.
    pub id: Uuid,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// A link to make.
#[derive(Debug, Clone)]
pub struct NewShare {
    /// The order.
    pub order: OrderId,
    /// SHA-256 of its secret.
    pub token_hash: Vec<u8>,
    /// For how long it is good at most.
    pub lifetime: Duration,
}

/// What became of a link that was asked for.
#[derive(Debug, Clone)]
#[must_use]
pub enum Shared {
    /// It is made.
    Made(Share),
    /// There is no such order in the caller's scope.
    NotFound,
    /// The order is over.
    Ended,
    /// It has as many links as it may have.
    TooMany,
}

/// When the order was over, or null while it is not. A refund or a dispute long after takes it up again, and changes none of
/// these times but the last two.
macro_rules! over_at {
    () => {
        "case when s.status = 'succeeded' then a.released_at
              when s.status in ('refunding', 'refunded', 'failed')
              then coalesce(a.released_at, s.cancel_requested_at, p.refunded_at, s.finished_at, s.updated_at) end"
    };
}

statements! {
    /// One line for an order in the scope, whether or not a link is made. Calls at one time may make some links too many.
    SHARE = concat!(
        "with shared as (
            select s.order_id, ", over_at!(), " is not null as is_over,
                   (select count(*) filter (where h.revoked_at is null and h.expires_at > now()) < $10
                           and count(*) < 20 * $10
                      from order_shares h where h.order_id = s.order_id) as is_room
              from ", order_tables!(), "
             where s.order_id = $1 and ", in_scope!("$2", "$3", "$4", "$5"), "
         ), made as (
            insert into order_shares (share_id, order_id, token_hash, created_by, expires_at)
            select $6, order_id, $7, $8, now() + make_interval(secs => $9)
              from shared where not is_over and is_room
            returning expires_at
         )
         select is_over, (select expires_at from made) as expires_at from shared");
    /// Without an id, all of them. A first revocation stays.
    REVOKE_SHARE = concat!(
        "update order_shares h
            set revoked_by = case when h.revoked_at is null then $7 else h.revoked_by end,
                revoked_at = coalesce(h.revoked_at, now())
           from ", order_tables!(), "
          where s.order_id = $1 and ", in_scope!("$2", "$3", "$4", "$5"), "
            and h.order_id = s.order_id
            and (h.share_id = $6 or $6::uuid is null and h.revoked_at is null and h.expires_at > now())");
    /// For a while after the order was over, its links show how it ended.
    READ_SHARED = concat!(
        "select ", order_columns!(), "
           from ", order_tables!(), "
           join order_shares h on h.order_id = s.order_id
          where h.token_hash = $1 and h.revoked_at is null and h.expires_at > now()
            and coalesce(", over_at!(), " + make_interval(secs => $2), 'infinity') > now()");
}

impl OrderStore {
    /// Makes a link, if the order has fewer than so many.
    pub async fn share(&self, scope: &Scope, new: &NewShare, links_max: i64) -> Result<Shared, StoreError> {
        let (tenant, user, only, driver) = scope_values(scope);
        let id = Uuid::now_v7();
        let seconds = new.lifetime.as_secs_f64();
        let by = self.requested_by.as_deref();
        let parameters: [&(dyn ToSql + Sync); 10] = [
            &new.order.uuid(),
            &tenant,
            &user,
            &only,
            &driver,
            &id,
            &new.token_hash,
            &by,
            &seconds,
            &links_max,
        ];
        let Some(row) = self.postgres.query_opt(SHARE, &parameters).await? else {
            return Ok(Shared::NotFound);
        };
        Ok(match get::<Option<Timestamp>>(&row, "expires_at")? {
            Some(expires_at) => Shared::Made(Share { id, expires_at }),
            None if get(&row, "is_over")? => Shared::Ended,
            None => Shared::TooMany,
        })
    }

    /// Ends a link of the order, or all of them; whether there is one.
    pub async fn revoke_share(&self, scope: &Scope, id: OrderId, share: Option<Uuid>) -> Result<bool, StoreError> {
        let (tenant, user, only, driver) = scope_values(scope);
        let by = self.requested_by.as_deref();
        let parameters: [&(dyn ToSql + Sync); 7] = [&id.uuid(), &tenant, &user, &only, &driver, &share, &by];
        Ok(self.postgres.execute(REVOKE_SHARE, &parameters).await? > 0)
    }

    /// The order to which a link with this hash leads; `None`: the link has ended, or there is none. It ends by itself so long
    /// after its order was over.
    pub async fn shared_order(&self, token_hash: &[u8], afterwards: Duration) -> Result<Option<Order>, StoreError> {
        let seconds = afterwards.as_secs_f64();
        let row = self.postgres.query_opt(READ_SHARED, &[&token_hash, &seconds]).await?;
        row.as_ref().map(order).transpose()
    }
}
