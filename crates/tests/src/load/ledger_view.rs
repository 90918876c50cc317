//! The rig's own view of the database, past all proxies: what is unfinished, who had it, and how an order came to be as
//! it is.

use crate::sql::{column, one};
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use super::findings::OwnerKill;

/// Numbers of a moment.
#[derive(Debug, Default)]
pub struct Counts {
    /// Orders that are not settled.
    pub unfinished: i64,
    /// Of those, flagged for people.
    pub flagged: i64,
    /// Charges and refunds of which it was not known whether they happened.
    pub ambiguous: i64,
    /// Orders that changed hands.
    pub taken_over: i64,
}

/// The numbers as they are now.
pub async fn counts(sql: &Client) -> Result<Counts, Error> {
    let query = "select (select count(*) from order_sagas where finished_at is null),
                        (select count(*) from order_sagas where finished_at is null and needs_attention is not null),
                        (select count(*) from order_saga_steps where status = 'unknown'),
                        (select count(*) from order_sagas where fence > 1)";
    let row = sql.query_one(query, &[]).await?;
    Ok(Counts {
        unfinished: row.get(0),
        flagged: row.get(1),
        ambiguous: row.get(2),
        taken_over: row.get(3),
    })
}

/// Has orders that wait for their next try, within the longest back-off that there is, tried at once.
pub async fn hurry(sql: &Client) -> Result<u64, Error> {
    let update = "update order_sagas set next_run_at = now()
                   where finished_at is null and lease_until is null
                     and next_run_at between now() + interval '1 second' and now() + interval '60 seconds'";
    sql.execute(update, &[]).await
}

/// The orders that are not settled. A flag is no excuse but for a refund that failed for good, which waits for a person.
pub async fn unsettled(sql: &Client) -> Result<Vec<Uuid>, Error> {
    let query = "select order_id from order_sagas s
                  where finished_at is null
                    and not (needs_attention is not null and status = 'refunding' and lease_owner is null
                             and exists (select from refunds r where r.order_id = s.order_id and r.state = 'failed'))";
    column(sql, query, &[]).await
}

/// Those of the provider's refunds that the ledger has as made.
pub async fn made_by_the_ledger(sql: &Client, refunds: &[String]) -> Result<Vec<String>, Error> {
    let query = "select provider_refund_id from refunds where state = 'succeeded' and provider_refund_id = any($1)";
    column(sql, query, &[&refunds]).await
}

/// The database's clock, in seconds since 1970.
pub async fn now(sql: &Client) -> Result<f64, Error> {
    one(sql, "select extract(epoch from clock_timestamp())::float8", &[]).await
}

/// Which order that was unfinished at this moment settled last, and how long after it, in seconds; `None` if none was.
pub async fn last_settled(sql: &Client, moment_secs: f64) -> Result<Option<(Uuid, f64)>, Error> {
    let query = "select order_id, extract(epoch from finished_at)::float8 - $1 from order_sagas
                  where finished_at > to_timestamp($1) order by finished_at desc limit 1";
    let row = sql.query_opt(query, &[&moment_secs]).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// The orders that the server with this pid held when it was killed a moment ago.
pub async fn owned_by(sql: &Client, pid: i32) -> Result<OwnerKill, Error> {
    // The name of an instance begins with its pid.
    let query = "select order_id, fence from order_sagas
                  where finished_at is null and lease_until > now() and lease_owner like $1::text || '-%'";
    let rows = sql.query(query, &[&pid.to_string()]).await?;
    Ok(OwnerKill {
        at_secs: now(sql).await?,
        orders: rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
    })
}

/// When an order was first settled by a worker after that of this fence, in seconds since 1970: with a driver, by a
/// decline or a cancellation. `None` for one that found no driver, which rightly takes the whole window.
pub async fn settled_after(sql: &Client, order: Uuid, fence: i64) -> Result<Option<f64>, Error> {
    let query = "select extract(epoch from min(created_at))::float8
                   from order_saga_steps
                  where order_id = $1 and fence > $2
                    and (step, status) in (('assign', 'succeeded'), ('charge', 'failed'), ('cancel', 'succeeded'))";
    one(sql, query, &[&order, &fence]).await
}

/// How many orders were given a driver.
pub async fn served(sql: &Client) -> Result<i64, Error> {
    let query = "select count(distinct order_id) from order_saga_steps where step = 'assign' and status = 'succeeded'";
    one(sql, query, &[]).await
}

/// How many assignments there were, and how old the newest fix of a driver was at most when it was assigned, in seconds. By the time in the fix, which
/// is before its arrival: so it counts as older than D2 does.
pub async fn assigned_fix_age(sql: &Client) -> Result<(i64, f64), Error> {
    let query = "select count(f.newest), coalesce(max(extract(epoch from a.assigned_at - f.newest)), 0)::float8
                   from (select driver_id, assigned_at from order_assignments
                         union all
                         select driver_id, assigned_at from past_assignments) a
                  cross join lateral (select max(l.recorded_at) as newest from driver_locations l
                                       where l.driver_id = a.driver_id and l.recorded_at <= a.assigned_at) f";
    let row = sql.query_one(query, &[]).await?;
    Ok((row.get(0), row.get(1)))
}

/// Drivers that hold two orders.
pub async fn drivers_with_two_orders(sql: &Client) -> Result<Vec<String>, Error> {
    let query = "select driver_id from order_assignments
                  where released_at is null group by driver_id having count(*) > 1";
    column(sql, query, &[]).await
}

/// Watches every line that is written into an order's log: one whose worker has lost the order is set aside. It sees
/// the fence as it is in that very transaction, and changes nothing.
pub async fn watch_fences(sql: &Client) -> Result<(), Error> {
    sql.batch_execute(
        "create table torture_stale_lines (line text);
         create function torture_watch_fence() returns trigger language plpgsql as $$
         begin
             insert into torture_stale_lines
             select new.order_id::text || ': ' || new.step || ' ' || new.status || ' under fence ' || new.fence
                        || ', which is ' || fence || ' by now'
               from order_sagas where order_id = new.order_id and fence <> new.fence;
             return new;
         end $$;
         create trigger torture_watch_fence after insert on order_saga_steps
             for each row execute function torture_watch_fence();",
    )
    .await
}

/// What that watch has set aside.
pub async fn stale_lines(sql: &Client) -> Result<Vec<String>, Error> {
    column(sql, "select line from torture_stale_lines", &[]).await
}

/// The status and log of an order, for people.
pub async fn story(sql: &Client, order: Uuid) -> Result<String, Error> {
    let order_row =
        "select concat_ws(' | ', 'order ' || order_id, user_id, status, 'fence ' || fence, 'attempts ' || attempts,
                          'owner ' || lease_owner, 'next run ' || next_run_at, needs_attention)
           from order_sagas where order_id = $1";
    let steps = "select concat_ws(' | ', '  ' || step, status, detail, fence, actor, created_at)
                   from order_saga_steps where order_id = $1 order by id";
    let mut lines: Vec<String> = column(sql, order_row, &[&order]).await?;
    lines.extend(column::<String>(sql, steps, &[&order]).await?);
    Ok(lines.join("\n"))
}

/// Orders with a key, whose user may ask for them again.
pub async fn users_with_orders(sql: &Client) -> Result<Vec<(String, String)>, Error> {
    let query = "select user_id, idempotency_key from order_sagas
                  where response_code is not null and idempotency_key is not null";
    let rows = sql.query(query, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
