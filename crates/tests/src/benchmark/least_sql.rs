//! The least SQL that leaves the rows of an order: a statement a commit, each of which knows all beforehand, checks nothing and waits
//! for no one. It keeps none of the promises; what they cost is the gap.

use tokio_postgres::Client;

use super::pgbench::{ID, PAYMENT_KEY, Script};

/// What its idempotency keys begin with.
pub const KEYS: &str = "key-of-the-least-";
/// The tables that an order leaves rows in, but for that of the orders.
const TABLES: [&str; 4] = ["payment_attempts", "payments", "order_assignments", "order_saga_steps"];
/// What all orders have in common, and is taken from the recorded one.
const COMMON: &str = "amount, currency, payment_method, pickup_lat, pickup_long, drop_off_lat, drop_off_long, request_hash, \
                      provider_customer, payment_mode, payment_account, required_tags";
const ANSWER: &str = "response_code, response_message, response_details, response_body";
const DETAIL: &str = "(select detail from order_saga_steps l where l.order_id = s.order_id and step = 'assign')";
const STEPS: &str = "order_saga_steps (order_id, step, status, detail, fence, actor, round)";

/// The SQL that inserts a driver for each of so many connections.
pub fn insert_drivers(connections: usize) -> String {
    let last = connections - 1;
    format!("insert into drivers (driver_id) select 'cab-of-the-least-' || n from generate_series(0, {last}) n")
}

/// A script of pgbench for orders like this one, which was served and completed, over so many connections at most.
pub async fn script(sql: &Client, order: &str, connections: usize) -> Script {
    let common = values(sql, COMMON.split(", "), order).await.join(", ");
    let answer: Vec<String> = ANSWER
        .split(", ")
        .zip(values(sql, ANSWER.split(", "), order).await)
        .map(|(column, value)| format!("{column} = {value}"))
        .collect();
    let answer = answer.join(", ");
    let detail = values(sql, [DETAIL], order).await.join("");
    let driver = "'cab-of-the-least-' || :client_id::bigint";
    let charge = "('pi_' || md5((:id::bigint)::text))";
    let text = format!(
        "with o as (insert into order_sagas (order_id, idempotency_key, user_id, status, payment_key, fence, lease_owner, lease_until, {COMMON}) \
         values ({ID}, '{KEYS}' || :id::bigint, 'user-of-the-least-' || md5((:id::bigint)::text), 'charging', {PAYMENT_KEY}, 1, 'least', \
         now() + interval '30 s', {common})), \
         a as (insert into payment_attempts (order_id, operation, number, provider_key, amount, currency, sends, first_sent_at, last_sent_at) \
         select {ID}, 'charge', 1, {PAYMENT_KEY} || '-charge', amount, currency, 1, now(), now() \
         from (values ({common})) c ({COMMON})) \
         insert into {STEPS} values ({ID}, 'create', 'succeeded', '', 1, 'least', 0), ({ID}, 'charge', 'started', {PAYMENT_KEY}, 1, 'least', 0);\n\
         with o as (update order_sagas set status = 'charged', updated_at = now(), lease_until = now() + interval '30 s' \
         where order_id = {ID}), \
         p as (insert into payments (order_id, amount, currency, provider_charge_id, captured_amount, captured_at) \
         select {ID}, amount, currency, {charge}, amount, now() from (values ({common})) c ({COMMON})), \
         a as (update payment_attempts set state = 'succeeded', provider_id = {charge} \
         where order_id = {ID} and operation = 'charge' and number = 1) \
         insert into {STEPS} values ({ID}, 'charge', 'succeeded', {charge}, 1, 'least', 0);\n\
         with d as (update drivers set active_order_id = {ID}, assignment_seq = assignment_seq + 1 where driver_id = {driver} \
         returning driver_id, assignment_seq), \
         a as (insert into order_assignments (order_id, driver_id, assigned_seq) select {ID}, driver_id, assignment_seq from d), \
         o as (update order_sagas set status = 'succeeded', updated_at = now(), finished_at = now(), lease_owner = null, \
         lease_until = null, {answer} where order_id = {ID}) \
         insert into {STEPS} values ({ID}, 'assign', 'succeeded', {detail}, 1, 'least', 0);\n\
         with d as (update drivers set active_order_id = null, assignment_seq = assignment_seq + 1 where driver_id = {driver} \
         returning assignment_seq), \
         a as (update order_assignments set released_at = now(), released_seq = assignment_seq, release_reason = 'completed' \
         from d where order_id = {ID}), \
         o as (update order_sagas set updated_at = now() where order_id = {ID}) \
         insert into {STEPS} values ({ID}, 'complete', 'succeeded', {driver}, 1, 'least', 0);\n"
    );
    Script::new("least", KEYS, 1 << 20, connections, &text)
}

/// It left what the recorded order left, or more was saved than statements.
pub async fn assert_same_rows(sql: &Client, order: &str) {
    let orders = format!("select count(*) from order_sagas where idempotency_key like '{KEYS}%'");
    let orders: i64 = sql.query_one(&orders, &[]).await.unwrap().get(0);
    for table in TABLES {
        let rows = format!(
            "select count(*) filter (where idempotency_key like '{KEYS}%'), count(*) filter (where s.order_id::text = $1)
               from {table} join order_sagas s using (order_id)"
        );
        let rows = sql.query_one(&rows, &[&order]).await.unwrap();
        let (least, recorded): (i64, i64) = (rows.get(0), rows.get(1));
        assert!(
            least > 0 && least == orders * recorded,
            "{orders} orders left {least} rows in {table}, and one of ours {recorded}"
        );
    }
}

/// These columns of the recorded order, as literals of their types.
async fn values(sql: &Client, columns: impl IntoIterator<Item = &str>, order: &str) -> Vec<String> {
    let mut literals = Vec::new();
    for column in columns {
        let select =
            format!("select ({column})::text, pg_typeof({column})::text from order_sagas s where order_id::text = $1");
        let row = sql.query_one(&select, &[&order]).await.unwrap();
        let (value, of_type): (Option<String>, String) = (row.get(0), row.get(1));
        let value = value.map_or("null".to_owned(), |value| format!("'{}'", value.replace('\'', "''")));
        literals.push(format!("{value}::{of_type}"));
    }
    literals
}
