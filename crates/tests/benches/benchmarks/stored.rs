//! Databases that are full already: the rows of one real order, multiplied.
//!
//! An order is placed and completed by Waybill itself; then set-based SQL writes its rows of every table again and
//! again, with ids, keys, users, drivers and times of their own, spread over the last 20 days. What is stored is what
//! Waybill stores, whatever the schema has become. To be quick about it: the server logs as little as it may, triggers
//! and foreign keys are not asked, indexes are built at the end, and each of two sessions has its tables.

use std::fmt::Write as _;
use std::time::Instant;

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;
use tokio_postgres::Client;

use crate::load::one_order;
use crate::server::Server;
use crate::world::World;

/// The databases: none stored, some, many.
pub const DATABASES: [&str; 3] = ["stored_none", "stored_some", "stored_many"];
/// The database in Redis of the first; the others have the next ones.
pub const REDIS: u16 = 10;
/// The steps are as much work as all the others together.
const TABLES: [&[&str]; 2] = [
    &["order_saga_steps"],
    &["order_sagas", "payments", "payment_attempts", "order_assignments"],
];
/// An order with its indexes, while they are built; and what all benchmarks together write.
const ORDER_BYTES: u64 = 3_600;
/// See `ORDER_BYTES`.
const ROOM_BYTES: u64 = 4 << 30;
const DRIVERS: u64 = 50_000;
/// All of it is younger than the retention of keys: nothing of it expires while we look.
const DAYS: i64 = 20;

/// Fills the databases with so many orders each. What is in them now, for people.
pub async fn fill(world: &World, counts: [u64; 3]) -> Vec<String> {
    assert_room(world, counts.iter().sum());
    let server = Server::start(world, DATABASES[0], REDIS).await;
    let channel = server.channel();
    one_order::bring_drivers(&channel).await;
    let order = one_order::serve(&channel, one_order::request()).await;
    server.stop().await;
    let none = world.session(DATABASES[0]).await;
    none.batch_execute("vacuum analyze").await.unwrap();
    // No session may be connected to what is copied.
    drop(none);
    let mut parts = Vec::new();
    for (name, count) in DATABASES.into_iter().zip(counts).skip(1) {
        world.copy_database(DATABASES[0], name).await;
        let began_at = Instant::now();
        multiply(world, name, &order.order_id, count).await;
        let stored = contents(&world.session(name).await).await;
        parts.push(format!(
            "{name}: {stored}, stored in {:.0} s",
            began_at.elapsed().as_secs_f64()
        ));
    }
    parts
}

/// Tells it before it fills the disk of whoever measures.
pub fn assert_room(world: &World, orders: u64) {
    let disk = statvfs(world.folder()).unwrap();
    let free = disk.blocks_available() * disk.fragment_size();
    let wanted = ROOM_BYTES + orders * ORDER_BYTES;
    assert!(
        free > wanted,
        "{} wants {} GB, and has {} GB: set TMPDIR, or leave growth and upgrade out of BENCH_ONLY",
        world.folder().display(),
        wanted >> 30,
        free >> 30
    );
}

/// Writes the rows of this order again and again, so many times, into their database.
pub async fn multiply(world: &World, database: &str, order: &str, count: u64) {
    let sql = world.session(database).await;
    let first_ms = Timestamp::now().as_millisecond() - DAYS * 24 * 3_600_000;
    let apart_ms = DAYS * 24 * 3_600_000 / i64::try_from(count).unwrap();
    let functions = format!(
        "create function at_of(n bigint) returns timestamptz language sql immutable as
            'select to_timestamp(({first_ms} + n * {apart_ms}) / 1000.0)';
         create function id_of(n bigint) returns uuid language sql immutable as
            'select (lpad(to_hex({first_ms} + n * {apart_ms}), 12, ''0'') || ''7'' || lpad(to_hex(n & 4095), 3, ''0'')
                    || ''8'' || right(lpad(to_hex(hashint8extended(n, 1)), 16, ''0''), 15))::uuid';"
    );
    sql.batch_execute(&functions).await.unwrap();
    let mut inserts = Vec::new();
    for table in TABLES.concat() {
        inserts.push((table, insert(&sql, table, order, count).await));
    }
    indexes(&sql, false).await;
    drop(sql);

    let each = |tables: &'static [&'static str]| {
        let inserts = &inserts;
        async move {
            // New sessions: those of before remember the indexes.
            let sql = world.session(database).await;
            sql.batch_execute("set session_replication_role = replica")
                .await
                .unwrap();
            for (table, insert) in inserts.iter().filter(|(table, _)| tables.contains(table)) {
                // What is truncated and filled in one transaction need not be logged. Others refer to the orders and the
                // payments, which can only be deleted.
                let empty = if ["order_sagas", "payments"].contains(table) {
                    "delete from"
                } else {
                    "truncate"
                };
                let fill = format!("begin; {empty} {table}; {insert}; commit;");
                sql.batch_execute(&fill).await.unwrap();
            }
        }
    };
    tokio::join!(each(TABLES[0]), each(TABLES[1]));

    let sql = world.session(database).await;
    let drivers = format!(
        "insert into drivers (driver_id, assignment_seq)
         select 'driver-' || n, 2 * ({count} / {DRIVERS}) + 2 from generate_series(0, {DRIVERS} - 1) n"
    );
    sql.batch_execute(&drivers).await.unwrap();
    indexes(&sql, true).await;
    drop(sql);
    let index = async |tables: &[&str]| {
        let sql = world.session(database).await;
        for table in tables {
            sql.batch_execute(&format!("reindex table {table}")).await.unwrap();
            // As a database is that has lived: or the first benchmark would find the hint bits to be set, and the
            // vacuum.
            sql.batch_execute(&format!("vacuum analyze {table}")).await.unwrap();
        }
    };
    tokio::join!(index(TABLES[0]), index(TABLES[1]));
    // Or the bulk itself would call for a vacuum in the midst of the benchmarks.
    world
        .session(database)
        .await
        .batch_execute("select pg_stat_reset()")
        .await
        .unwrap();
}

/// The statement that writes the order's rows of a table again, `count` times.
async fn insert(sql: &Client, table: &str, order: &str, count: u64) -> String {
    let template = format!(
        "create table template_{table} as select t.*, o.created_at as placed_at
           from {table} t join order_sagas o using (order_id) where order_id = '{order}'"
    );
    // The orders' own table has a created_at, too.
    sql.batch_execute(&template).await.unwrap();
    let columns = "select attname::text, format_type(atttypid, atttypmod) from pg_attribute
                    where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attidentity = ''
                    order by attnum";
    let columns = sql.query(columns, &[&table]).await.unwrap();
    let (mut names, mut values) = (String::new(), String::new());
    for column in &columns {
        let (name, kind): (&str, &str) = (column.get(0), column.get(1));
        let comma = if names.is_empty() { "" } else { ", " };
        write!(names, "{comma}{name}").unwrap();
        write!(values, "{comma}{}", value(name, kind)).unwrap();
    }
    format!(
        "insert into {table} ({names}) select {values} from generate_series(1, {count}) n cross join template_{table} t"
    )
}

/// A column of the `n`th order: its own where each order has its own, else the template's.
fn value(name: &str, kind: &str) -> String {
    match name {
        "order_id" => "id_of(n)".to_owned(),
        "idempotency_key" => "'key-' || id_of(-n)".to_owned(),
        // Ten orders a user; those of the load lie among them.
        "user_id" => "'load-' || lpad(to_hex(hashint8extended(n / 10, 2)), 16, '0')".to_owned(),
        "payment_key" => "'waybill-' || md5(id_of(n)::text)".to_owned(),
        "provider_key" => "'waybill-' || md5(id_of(n)::text) || '-' || t.operation".to_owned(),
        "provider_id" | "provider_charge_id" => "'ch_' || to_hex(hashint8extended(n, 3)) || to_hex(n)".to_owned(),
        "driver_id" => format!("'driver-' || n % {DRIVERS}"),
        "assigned_seq" => format!("2 * (n / {DRIVERS}) + 1"),
        "released_seq" => format!("2 * (n / {DRIVERS}) + 2"),
        _ if kind == "timestamp with time zone" => format!("at_of(n) + (t.{name} - t.placed_at)"),
        _ => format!("t.{name}"),
    }
}

/// Says whether indexes of these tables take part in what is written. Those that did not are built anew afterwards.
async fn indexes(sql: &Client, are_kept: bool) {
    let tables = TABLES
        .concat()
        .iter()
        .map(|table| format!("'{table}'::regclass"))
        .collect::<Vec<_>>();
    let update = format!(
        "update pg_index set indisready = {are_kept} where indrelid in ({})",
        tables.join(", ")
    );
    sql.batch_execute(&update).await.unwrap();
}

/// How many rows there are, for people.
pub async fn contents(sql: &Client) -> String {
    let mut parts = Vec::new();
    for table in TABLES.concat() {
        sql.batch_execute(&format!("drop table template_{table}"))
            .await
            .unwrap();
        let rows: i64 = sql
            .query_one(&format!("select count(*) from {table}"), &[])
            .await
            .unwrap()
            .get(0);
        parts.push(format!("{rows} {table}"));
    }
    let size = "select pg_size_pretty(pg_database_size(current_database()))";
    parts.push(sql.query_one(size, &[]).await.unwrap().get(0));
    parts.join(", ")
}
