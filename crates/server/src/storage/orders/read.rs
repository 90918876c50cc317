//! Orders as callers see them: one with its steps, or a page of many.

use jiff::Timestamp;
use uuid::Uuid;
use waybill_domain::id::{OrderId, UserId};
use waybill_domain::order::{Order, State};

use super::OrderStore;
use super::row::{get, order, order_columns, order_tables};
use crate::storage::StoreError;

/// A line of an order's log.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// Its place in the log: greater than that of every earlier step of the order.
    pub id: i64,
    /// What was done.
    pub step: String,
    /// How it went.
    pub status: String,
    /// More, for people.
    pub detail: String,
    /// When, by the database's clock.
    pub created_at: Timestamp,
}

/// Which orders to list.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Of this user only.
    pub user: Option<UserId>,
    /// In this state only.
    pub state: Option<State>,
    /// Older than this order only.
    pub before: Option<OrderId>,
}

statements! {
    READ_ORDER = concat!("select ", order_columns!(), " from ", order_tables!(), " where s.order_id = $1");
    READ_STEPS = "select id, step, status, detail, created_at from order_saga_steps where order_id = $1 order by id";
    LAST_STEP = "select coalesce(max(id), 0) from order_saga_steps where order_id = $1";
    /// The order, on a line for each of its steps after the one given; on one line without a step if there is none. One
    /// statement, so that order and steps are of one moment.
    ///
    /// No step is missed by asking for those after the last one seen: ids are drawn one by one (the sequence has no
    /// cache), and a step is only ever written by a transaction that holds its order's row, the one that makes the order
    /// included. So the steps of one order become visible in the order of their ids.
    READ_AFTER = concat!(
        "select ", order_columns!(), ",
                t.id as step_id, t.step, t.status as step_status, t.detail, t.created_at as step_created_at
           from ", order_tables!(), "
           left join lateral (
                select id, step, status, detail, created_at
                  from order_saga_steps
                 where order_id = s.order_id and id > $2
                 order by id
                 limit $3) t on true
          where s.order_id = $1
          order by t.id");
    /// A UUIDv7 sorts by its time, so the id is the page key.
    LIST = concat!(
        "select ", order_columns!(), "
           from ", order_tables!(), "
          where ($1::text is null or s.status = $1)
            and ($2::uuid is null or s.order_id < $2)
          order by s.order_id desc
          limit $3");
    /// A statement of its own, since `is null or` would keep the planner from the users' index.
    LIST_OF_USER = concat!(
        "select ", order_columns!(), "
           from ", order_tables!(), "
          where s.user_id = $4
            and ($1::text is null or s.status = $1)
            and ($2::uuid is null or s.order_id < $2)
          order by s.order_id desc
          limit $3");
}

impl OrderStore {
    /// The order as it is now; `None` when there is none of this id.
    pub async fn read(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        let row = self.postgres.query_opt(READ_ORDER, &[&id.uuid()]).await?;
        row.as_ref().map(order).transpose()
    }

    /// The order's log, the oldest line first.
    pub async fn read_steps(&self, id: OrderId) -> Result<Vec<StepRecord>, StoreError> {
        let rows = self.postgres.query(READ_STEPS, &[&id.uuid()]).await?;
        rows.iter()
            .map(|row| {
                Ok(StepRecord {
                    id: get(row, "id")?,
                    step: get(row, "step")?,
                    status: get(row, "status")?,
                    detail: get(row, "detail")?,
                    created_at: get(row, "created_at")?,
                })
            })
            .collect()
    }

    /// The id of the order's last step so far; 0 when there is no such order.
    pub async fn last_step(&self, id: OrderId) -> Result<i64, StoreError> {
        let row = self.postgres.query_opt(LAST_STEP, &[&id.uuid()]).await?;
        row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }

    /// The order as it is now, and up to `limit` of its steps after the step `after`, the oldest first; `None` when there
    /// is no order of this id.
    pub async fn read_after(
        &self,
        id: OrderId,
        after: i64,
        limit: usize,
    ) -> Result<Option<(Order, Vec<StepRecord>)>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.postgres.query(READ_AFTER, &[&id.uuid(), &after, &limit]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let mut steps = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(id) = get(row, "step_id")? {
                steps.push(StepRecord {
                    id,
                    step: get(row, "step")?,
                    status: get(row, "step_status")?,
                    detail: get(row, "detail")?,
                    created_at: get(row, "step_created_at")?,
                });
            }
        }
        Ok(Some((order(first)?, steps)))
    }

    /// Up to `limit` orders, the newest first.
    pub async fn list(&self, filter: &ListFilter, limit: i64) -> Result<Vec<Order>, StoreError> {
        let state = filter.state.map(State::as_str);
        let before: Option<Uuid> = filter.before.map(OrderId::uuid);
        let rows = match &filter.user {
            None => self.postgres.query(LIST, &[&state, &before, &limit]).await?,
            Some(user) => {
                self.postgres
                    .query(LIST_OF_USER, &[&state, &before, &limit, &user.as_str()])
                    .await?
            }
        };
        rows.iter().map(order).collect()
    }
}
