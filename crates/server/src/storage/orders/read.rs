//! Orders as callers see them: one with its steps, or a page of many.

use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::access::Scope;
use waybill_domain::id::{OrderId, UserId};
use waybill_domain::order::{Order, State};

use super::OrderStore;
use super::due::due_from;
use super::row::{get, in_scope, order, order_columns, order_tables, scope_values};
use super::step_log::{LogLine, line, log_columns};
use crate::storage::StoreError;

/// Which orders to list.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only orders of this user.
    pub user: Option<UserId>,
    /// Only orders in this state.
    pub state: Option<State>,
    /// Only orders older than this one.
    pub before: Option<OrderId>,
}

/// A page of orders in the states of `$4`, newest first: of each state its newest that are settled, each by the index of just those, and of
/// those that are worked on, which are few. A UUIDv7 sorts by its time, so the id is the page key.
macro_rules! listed {
    ($whose:literal) => {
        concat!(
            "with found as (
                select l.order_id
                  from unnest($4::text[]) state (status)
                 cross join lateral (
                       select order_id from order_sagas
                        where ",
            $whose,
            " and status = state.status and finished_at is not null
                          and uuid_send(order_id) < uuid_send(coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
                        order by uuid_send(order_id) desc
                        limit $3) l
                union all
                select order_id from order_sagas
                 where ",
            due_from!("$5"),
            " and ",
            of_found!(concat!(
                $whose,
                " and status = any($4) and order_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')"
            )),
            "),
             page as (select order_id from found order by order_id desc limit $3)
             select ",
            order_columns!(),
            "
               from page join ",
            order_tables!(),
            " on s.order_id = page.order_id
              order by s.order_id desc"
        )
    };
}

statements! {
    READ_ORDER = concat!(
        "select ", order_columns!(), "
           from ", order_tables!(), "
          where s.order_id = $1 and ", in_scope!("$2", "$3", "$4", "$5"));
    /// Without what is in it: an order that this version cannot read is there, too.
    IS_WITHIN = concat!(
        "select 1
           from ", order_tables!(), "
          where s.order_id = $1 and ", in_scope!("$2", "$3", "$4", "$5"));
    /// An order by its id, or by the provider's id of its charge, that is there and outside of the scope.
    IS_FOREIGN = concat!(
        "select 1
           from ", order_tables!(), "
          where s.order_id = any(array[$1, (select order_id from payments where provider_charge_id = $6)])
            and not (", in_scope!("$2", "$3", "$4", "$5"), ")
          limit 1");
    /// The order, on a line for each of its steps after the one given; on one line without a step if there is none. One
    /// statement, so that order and steps are of one moment.
    ///
    /// No step is missed by asking for those after the last one seen: ids are drawn one by one (the sequence has no
    /// cache), and a step is only ever written by a transaction that holds its order's row, the one that makes the order
    /// included. So the steps of one order become visible in the order of their ids.
    READ_AFTER = concat!(
        "select ", order_columns!(), ", ", log_columns!(), "
           from ", order_tables!(), "
           left join lateral (
                select *
                  from order_saga_steps
                 where order_id = s.order_id and id > $2
                 order by id
                 limit $3) t on true
          where s.order_id = $1 and ", in_scope!("$4", "$5", "$6", "$7"), "
          order by t.id");
    /// Of a business.
    LIST = listed!("tenant_of(user_id) = $1");
    LIST_OF_USER = listed!("user_id = $1");
}

impl OrderStore {
    /// The order as it is now; `None` when there is none of this id in this scope.
    pub async fn read(&self, scope: &Scope, id: OrderId) -> Result<Option<Order>, StoreError> {
        let (tenant, user, only, driver) = scope_values(scope);
        let parameters: [&(dyn ToSql + Sync); 5] = [&id.uuid(), &tenant, &user, &only, &driver];
        let row = self.postgres.query_opt(READ_ORDER, &parameters).await?;
        row.as_ref().map(order).transpose()
    }

    /// Whether there is an order of this id in this scope.
    pub async fn is_within(&self, scope: &Scope, id: OrderId) -> Result<bool, StoreError> {
        let (tenant, user, only, driver) = scope_values(scope);
        let parameters: [&(dyn ToSql + Sync); 5] = [&id.uuid(), &tenant, &user, &only, &driver];
        Ok(self.postgres.query_opt(IS_WITHIN, &parameters).await?.is_some())
    }

    /// Whether the order that an object of the provider names, or the order of the payment that it is about, is outside of the scope.
    pub async fn is_foreign(
        &self,
        scope: &Scope,
        order: Option<Uuid>,
        payment: Option<&str>,
    ) -> Result<bool, StoreError> {
        let (tenant, user, only, driver) = scope_values(scope);
        let parameters: [&(dyn ToSql + Sync); 6] = [&order, &tenant, &user, &only, &driver, &payment];
        Ok(self.postgres.query_opt(IS_FOREIGN, &parameters).await?.is_some())
    }

    /// The order as it is now, and up to `limit` of its steps after the step `after`, the oldest first; `None` when there
    /// is no order of this id in this scope.
    pub async fn read_after(
        &self,
        scope: &Scope,
        id: OrderId,
        after: i64,
        limit: usize,
    ) -> Result<Option<(Order, Vec<LogLine>)>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (tenant, user, only, driver) = scope_values(scope);
        let parameters: [&(dyn ToSql + Sync); 7] = [&id.uuid(), &after, &limit, &tenant, &user, &only, &driver];
        let rows = self.postgres.query(READ_AFTER, &parameters).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let has_line = get::<Option<i64>>(first, "line_id")?.is_some();
        let lines = rows.iter().filter(|_| has_line).map(line);
        Ok(Some((order(first)?, lines.collect::<Result<_, _>>()?)))
    }

    /// Up to `limit` orders within `scope`, the newest first. A driver has none: who served what is not its list.
    pub async fn list(&self, scope: &Scope, filter: &ListFilter, limit: i64) -> Result<Vec<Order>, StoreError> {
        let states = filter.state.map_or_else(|| State::ALL.to_vec(), |state| vec![state]);
        let states: Vec<&str> = states.into_iter().map(State::as_str).collect();
        let due = self.due.get();
        let before: Option<Uuid> = filter.before.map(OrderId::uuid);
        let user = match (scope, &filter.user) {
            (Scope::Tenant(tenant), Some(user)) if user.tenant() == *tenant => Ok(user),
            (Scope::Tenant(tenant), None) => Err(tenant),
            (Scope::User(own, _), None) => Ok(own),
            (Scope::User(own, _), Some(user)) if user == own => Ok(own),
            (Scope::Everything | Scope::Tenant(_) | Scope::User(..) | Scope::Driver(_), _) => return Ok(Vec::new()),
        };
        if let Some(only) = scope.order() {
            let order = self.read(scope, only).await?;
            let is_listed = |order: &Order| {
                filter.state.is_none_or(|state| order.state == state)
                    && filter.before.is_none_or(|before| order.id.uuid() < before.uuid())
            };
            return Ok(order.into_iter().filter(is_listed).collect());
        }
        let (list, whose) = match user {
            Err(tenant) => (LIST, tenant.as_str()),
            Ok(user) => (LIST_OF_USER, user.as_str()),
        };
        let parameters: [&(dyn ToSql + Sync); 5] = [&whose, &before, &limit, &states, &due];
        let rows = self.postgres.query(list, &parameters).await?;
        rows.iter().map(order).collect()
    }
}
