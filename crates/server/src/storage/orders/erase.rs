//! Names in orders and their logs: a pseudonym takes their place. The triggers that keep logs and answers as they are let that
//! through, and nothing else, in a transaction that says that it erases.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::erasure::{Person, Renamed};
use waybill_domain::id::{DriverId, OrderId, UserId};
use waybill_domain::tenant::Tenant;

use super::OrderStore;
use super::row::get;
use crate::storage::StoreError;

/// Replaces the name of a driver in a stored answer: the bytes after that; `None`: the name is not in it. Storage does not look inside.
pub type RenameInAnswer = fn(&[u8], &Renamed) -> Option<Vec<u8>>;

/// What stands against erasing a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The saga is at work, or will be.
    #[error("is not settled")]
    NotSettled,
    /// A driver serves it.
    #[error("is being served")]
    BeingServed,
    /// It waits for an operator, who may have to ask the customer.
    #[error("is flagged for an operator")]
    Flagged,
    /// The customer's bank has to decide about its payment.
    #[error("has an open dispute")]
    Disputed,
    /// Without its keys, a repeated call would make another order or another refund, and the provider might know the first no more.
    #[error("was placed, charged or refunded within two days, and a repeated call would do so again")]
    Recent,
}

/// What a transaction erased of a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasedOrders {
    /// So many orders; there may be more, unless it is 0.
    Some(u64),
    /// Nothing: this order stands against it.
    Refused(OrderId, Obstacle),
}

/// Lines of the step log that are looked through at once, and orders of a customer that are renamed at once: either takes a small
/// part of the time of one statement.
const LINES: i64 = 20_000;
const ORDERS: i64 = 500;

/// What stands against it, of an order `s` with its assignment `a`; null if nothing does.
macro_rules! obstacle {
    () => {
        "case when s.finished_at is null then 'open'
              when a.order_id is not null and a.released_at is null then 'served'
              when s.needs_attention is not null then 'flagged'
              when exists (select from disputes d where d.order_id = s.order_id and d.is_open) then 'disputed'
              when s.created_at > now() - interval '2 days'
                   or exists (select from payment_attempts t
                               where t.order_id = s.order_id and t.last_sent_at > now() - interval '2 days')
              then 'recent' end"
    };
}

statements! {
    /// Lets the triggers pass what erases, until the transaction ends.
    ERASING = "select set_config('waybill.erasing', 'on', true)";
    /// From here on it gets no order: an assignment looks at this under the lock of the row.
    SET_OFF_DUTY = "insert into drivers as d (driver_id, off_duty_since, duty_changed_at) values ($1, now(), now())
                    on conflict (driver_id) do update
                       set off_duty_since = coalesce(d.off_duty_since, now()), duty_changed_at = now()
                    returning active_order_id";
    LAST_LINE = "select coalesce(max(id), 0) from order_saga_steps";
    /// Lines that may name the driver, and those that it asked for; not of an order that it serves after all.
    LINES_ABOUT_DRIVER = "select t.id, t.order_id, t.step, t.status, t.detail, t.requested_by
                            from order_saga_steps t
                            join order_sagas s on s.order_id = t.order_id
                           where t.id > $1 and t.id <= $1 + $2
                             and (position($3 in t.detail) > 0
                                  and (t.status = 'requested' or t.step in ('assign', 'release', 'complete', 'cancel'))
                                  or t.requested_by = $4)
                             and tenant_of(s.user_id) = $5
                             and not exists (select from drivers d where d.driver_id = $6 and d.active_order_id = t.order_id)
                           order by t.id
                             for update of t";
    LINES_OF_ORDERS = "select id, order_id, step, status, detail, requested_by
                         from order_saga_steps
                        where order_id = any($1)
                          and (position($2 in detail) > 0 and (status = 'requested' or step = 'release') or requested_by = $3)
                        order by id
                          for update";
    RENAME_IN_LINES = "update order_saga_steps t
                          set detail = n.detail, requested_by = n.requested_by
                         from unnest($1::bigint[], $2::text[], $3::text[]) n (id, detail, requested_by)
                        where t.id = n.id";
    RENAME_IN_ASSIGNMENTS = "update order_assignments set driver_id = $3
                              where order_id = any($1) and driver_id = $2 and released_at is not null";
    RENAME_IN_PAST = "update past_assignments set driver_id = $3 where order_id = any($1) and driver_id = $2";
    ANSWERS_ABOUT_DRIVER = "select order_id, response_body
                              from order_sagas
                             where order_id = any($1) and position(convert_to($2, 'UTF8') in response_body) > 0
                             order by order_id
                               for update";
    RENAME_IN_ANSWERS = "update order_sagas s
                            set response_body = n.body
                           from unnest($1::uuid[], $2::bytea[]) n (order_id, body)
                          where s.order_id = n.order_id";
    /// One row: the order of a driver who was assigned after all, and stays.
    DELETE_DRIVER = "with deleted as (delete from drivers where driver_id = $1 and active_order_id is null)
                     select (select active_order_id from drivers where driver_id = $1) as active_order_id";
    /// Whether anything stands against it, before anything is changed.
    FIND_OBSTACLE = concat!(
        "select order_id, obstacle
           from (select s.order_id, ", obstacle!(), " as obstacle
                   from order_sagas s
                   left join order_assignments a on a.order_id = s.order_id
                  where s.user_id = $1) o
          where obstacle is not null
          order by uuid_send(order_id)
          limit 1");
    /// Some of the user's, in the order in which all who lock several do it.
    LOCK_ORDERS = concat!(
        "select s.order_id, ", obstacle!(), " as obstacle
           from order_sagas s
           left join order_assignments a on a.order_id = s.order_id
          where s.order_id = any(array(select order_id from order_sagas where user_id = $1 limit $2))
            and ", of_found!("s.user_id = $1"), "
          order by s.order_id
            for update of s");
    /// A tenth of a degree is a part of a town, and no address.
    RENAME_ORDERS = "update order_sagas
                        set user_id = $2, payment_method = 'erased', provider_customer = null, request_hash = '',
                            pickup_lat = round(pickup_lat::numeric, 1), pickup_long = round(pickup_long::numeric, 1),
                            drop_off_lat = round(drop_off_lat::numeric, 1), drop_off_long = round(drop_off_long::numeric, 1),
                            idempotency_key = null,
                            response_code = null, response_message = null, response_details = null, response_body = null
                      where order_id = any($1)";
    DELETE_LINKS = "delete from order_shares where order_id = any($1)";
    /// What people wrote.
    REFUNDS_OF_ORDERS = "select order_id, number, reason, idempotency_key from refunds
                          where order_id = any($1) and (idempotency_key is not null or origin = 'again')
                            and (position($2 in reason) > 0 or position($2 in idempotency_key) > 0)";
    RENAME_IN_REFUNDS = "update refunds r
                            set reason = n.reason, idempotency_key = n.key
                           from unnest($1::uuid[], $2::integer[], $3::text[], $4::text[]) n (order_id, number, reason, key)
                          where r.order_id = n.order_id and r.number = n.number";
}

impl OrderStore {
    /// Takes the driver off duty for good; the order that it serves, if it serves one: then nothing is changed.
    pub async fn retire_driver(&self, driver: &DriverId) -> Result<Option<OrderId>, StoreError> {
        let work = async {
            let mut client = self.postgres.client().await?;
            let tx = client.transaction().await?;
            let row = SET_OFF_DUTY.query_one(&tx, &[&driver.as_str()]).await?;
            let active: Option<Uuid> = get(&row, "active_order_id")?;
            if active.is_none() {
                tx.commit().await?;
            }
            Ok(active.map(OrderId::new))
        };
        self.postgres.call(work).await
    }

    /// The last line of the step log, of all orders; 0: there is none.
    pub async fn last_line(&self) -> Result<i64, StoreError> {
        let row = self.postgres.query_opt(LAST_LINE, &[]).await?;
        row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }

    /// Renames a driver in the orders to which the next lines of the step log after this one belong, where those name it: in the lines, in
    /// assignments and in answers. The last line that was looked at, and in how many orders.
    pub async fn rename_driver(
        &self,
        renamed: &Renamed,
        tenant: &Tenant,
        after_line: i64,
        in_answer: RenameInAnswer,
    ) -> Result<(i64, u64), StoreError> {
        let work = async {
            let mut client = self.postgres.client().await?;
            let tx = client.transaction().await?;
            let (asked, _) = renamed.requested_by();
            let parameters: [&(dyn ToSql + Sync); 6] = [
                &after_line,
                &LINES,
                &renamed.name(),
                &asked,
                &tenant.as_str(),
                &renamed.stored,
            ];
            let rows = LINES_ABOUT_DRIVER.query(&tx, &parameters).await?;
            let orders = rename_lines(&tx, &rows, renamed).await?;
            if !orders.is_empty() {
                rename_answers(&tx, &orders, renamed, in_answer).await?;
                let (from, to) = (&renamed.stored, &renamed.pseudonym);
                RENAME_IN_ASSIGNMENTS.execute(&tx, &[&orders, from, to]).await?;
                RENAME_IN_PAST.execute(&tx, &[&orders, from, to]).await?;
                rename_refunds(&tx, &orders, renamed).await?;
            }
            tx.commit().await?;
            Ok((after_line.saturating_add(LINES), orders.len() as u64))
        };
        self.postgres.call(work).await
    }

    /// Deletes what is known of a driver; the order that it serves, if it was assigned to one after all: then nothing is deleted.
    pub async fn delete_driver(&self, driver: &DriverId) -> Result<Option<OrderId>, StoreError> {
        let row = self.postgres.query_opt(DELETE_DRIVER, &[&driver.as_str()]).await?;
        let active = row.map_or(Ok(None), |row| get::<Option<Uuid>>(&row, "active_order_id"))?;
        Ok(active.map(OrderId::new))
    }

    /// What stands against erasing this customer, if anything does.
    pub async fn obstacle_to_erase(&self, user: &UserId) -> Result<Option<(OrderId, Obstacle)>, StoreError> {
        let row = self.postgres.query_opt(FIND_OBSTACLE, &[&user.as_str()]).await?;
        row.map_or(Ok(None), |row| obstacle(&row))
    }

    /// Renames a customer in some of its orders, and deletes what else is known of it there.
    pub async fn rename_user(&self, user: &UserId, renamed: &Renamed) -> Result<ErasedOrders, StoreError> {
        let work = async {
            let mut client = self.postgres.client().await?;
            let tx = client.transaction().await?;
            let rows = LOCK_ORDERS.query(&tx, &[&user.as_str(), &ORDERS]).await?;
            for row in &rows {
                if let Some((order, obstacle)) = obstacle(row)? {
                    return Ok(ErasedOrders::Refused(order, obstacle));
                }
            }
            let orders: Vec<Uuid> = rows
                .iter()
                .map(|row| row.try_get("order_id"))
                .collect::<Result<_, _>>()?;
            let (asked, _) = renamed.requested_by();
            let lines = LINES_OF_ORDERS.query(&tx, &[&orders, &renamed.name(), &asked]).await?;
            rename_lines(&tx, &lines, renamed).await?;
            rename_refunds(&tx, &orders, renamed).await?;
            DELETE_LINKS.execute(&tx, &[&orders]).await?;
            let changed = RENAME_ORDERS.execute(&tx, &[&orders, &renamed.pseudonym]).await?;
            tx.commit().await?;
            Ok(ErasedOrders::Some(changed))
        };
        self.postgres.call(work).await
    }
}

fn obstacle(row: &Row) -> Result<Option<(OrderId, Obstacle)>, StoreError> {
    let found = match get::<Option<&str>>(row, "obstacle")? {
        None => return Ok(None),
        Some("open") => Obstacle::NotSettled,
        Some("served") => Obstacle::BeingServed,
        Some("flagged") => Obstacle::Flagged,
        Some("disputed") => Obstacle::Disputed,
        Some(_) => Obstacle::Recent,
    };
    Ok(Some((OrderId::new(row.try_get("order_id")?), found)))
}

/// In those of these lines in which the name stands; their orders.
async fn rename_lines(tx: &Transaction<'_>, rows: &[Row], renamed: &Renamed) -> Result<Vec<Uuid>, StoreError> {
    ERASING.query_one(tx, &[]).await?;
    let (own, new) = renamed.requested_by();
    let (mut ids, mut details, mut requested) = (Vec::new(), Vec::new(), Vec::new());
    let mut orders = BTreeSet::new();
    for row in rows {
        let detail: &str = row.try_get("detail")?;
        let by: Option<&str> = row.try_get("requested_by")?;
        // Of who only asked for it, the line may name another.
        let in_detail = renamed.in_detail(row.try_get("step")?, row.try_get("status")?, detail);
        let is_own = by == Some(own.as_str());
        if in_detail.is_none() && !is_own {
            continue;
        }
        ids.push(row.try_get::<_, i64>("id")?);
        details.push(in_detail.unwrap_or_else(|| detail.to_owned()));
        requested.push(if is_own {
            Some(new.clone())
        } else {
            by.map(str::to_owned)
        });
        orders.insert(row.try_get::<_, Uuid>("order_id")?);
    }
    if !ids.is_empty() {
        RENAME_IN_LINES.execute(tx, &[&ids, &details, &requested]).await?;
    }
    Ok(orders.into_iter().collect())
}

async fn rename_answers(
    tx: &Transaction<'_>,
    orders: &[Uuid],
    renamed: &Renamed,
    in_answer: RenameInAnswer,
) -> Result<(), StoreError> {
    let (mut changed, mut bodies) = (Vec::new(), Vec::new());
    for row in ANSWERS_ABOUT_DRIVER.query(tx, &[&orders, &renamed.name()]).await? {
        if let Some(body) = in_answer(row.try_get("response_body")?, renamed) {
            changed.push(row.try_get::<_, Uuid>("order_id")?);
            bodies.push(body);
        }
    }
    RENAME_IN_ANSWERS.execute(tx, &[&changed, &bodies]).await.map(drop)
}

/// In the reasons of refunds. A key with the name of its customer in it becomes another one; it is two days old by then.
async fn rename_refunds(tx: &Transaction<'_>, orders: &[Uuid], renamed: &Renamed) -> Result<(), StoreError> {
    let (mut changed, mut numbers, mut reasons, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in REFUNDS_OF_ORDERS.query(tx, &[&orders, &renamed.name()]).await? {
        let number: i32 = row.try_get("number")?;
        let reason: &str = row.try_get("reason")?;
        let key: Option<&str> = row.try_get("idempotency_key")?;
        changed.push(row.try_get::<_, Uuid>("order_id")?);
        reasons.push(renamed.in_text(reason).unwrap_or_else(|| reason.to_owned()));
        keys.push(key.map(|key| {
            if renamed.person == Person::Customer && renamed.in_text(key).is_some() {
                format!("{}-{number}", renamed.new_name())
            } else {
                key.to_owned()
            }
        }));
        numbers.push(number);
    }
    let parameters: [&(dyn ToSql + Sync); 4] = [&changed, &numbers, &reasons, &keys];
    RENAME_IN_REFUNDS.execute(tx, &parameters).await.map(drop)
}
