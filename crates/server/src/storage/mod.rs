//! The only place with SQL and Redis commands. A method here owns one whole transaction or one pipeline: no transaction
//! type leaves this module, so no one can call a network inside one.
//!
//! [`postgres`] and [`redis`] hold the connections, each behind a timeout and a breaker, by TLS as [`tls`] has it, with the password of [`password_file`]. [`orders`], [`history`], [`trails`],
//! [`payment_accounts`] and [`api_keys`] are Postgres; [`live`] and [`payment_rate`] are Redis; [`keys`] names every key of it. [`audit`] makes the checks of
//! `waybill audit`, [`reconcile`] those of `waybill reconcile`, both beside the provider's [`movements`], and
//! [`commit_durability`], [`session_settings`] and [`redis_safety`] those of `waybill doctor`.

#[macro_use]
mod statement;
#[macro_use]
mod movements;
pub mod api_keys;
pub mod audit;
pub mod commit_durability;
mod error;
mod group;
pub mod history;
pub mod keys;
mod lending;
pub mod live;
#[cfg(test)]
mod migration_rules;
pub mod migrations;
pub mod orders;
pub mod password_file;
pub mod payment_accounts;
mod payment_rate;
pub mod postgres;
mod postgres_hosts;
mod postgres_pool;
pub(crate) mod postgres_url;
pub mod reconcile;
pub mod redis;
mod redis_connection;
mod redis_link;
mod redis_password;
pub mod redis_safety;
pub mod session_settings;
mod sqlstate;
pub mod tls;
pub mod trails;

pub use self::error::StoreError;
pub use self::movements::Movement;
pub use self::payment_rate::PaymentRate;
pub use self::statement::Statement;

/// Every SQL text of the program that can be prepared: all but the migrations and partitions, which are DDL.
pub fn all_statements() -> Vec<Statement> {
    let tools = [
        migrations::STATEMENTS,
        commit_durability::STATEMENTS,
        movements::STATEMENTS,
        audit::STATEMENTS,
        audit::checks::STATEMENTS,
        audit::standby::STATEMENTS,
        reconcile::STATEMENTS,
    ];
    [server_statements(), tools.concat()].concat()
}

/// Those of a server that serves.
pub fn server_statements() -> Vec<Statement> {
    [
        orders::accept::STATEMENTS,
        orders::advance::STATEMENTS,
        orders::grouped::accept::STATEMENTS,
        orders::grouped::charge::STATEMENTS,
        orders::grouped::assign::STATEMENTS,
        orders::grouped::complete::STATEMENTS,
        orders::grouped::event::STATEMENTS,
        orders::provider_events::STATEMENTS,
        orders::lease::STATEMENTS,
        orders::ledger::STATEMENTS,
        orders::assign::STATEMENTS,
        orders::complete::STATEMENTS,
        orders::cancel::STATEMENTS,
        orders::release::STATEMENTS,
        orders::reassign::STATEMENTS,
        orders::driver_assignments::STATEMENTS,
        orders::driver_liveness::STATEMENTS,
        orders::due::STATEMENTS,
        orders::duty::STATEMENTS,
        orders::erase::STATEMENTS,
        orders::free_drivers::STATEMENTS,
        orders::retention::STATEMENTS,
        orders::read::STATEMENTS,
        orders::shares::STATEMENTS,
        orders::step_log::STATEMENTS,
        orders::unfinished::STATEMENTS,
        orders::details::STATEMENTS,
        orders::retry::STATEMENTS,
        orders::resolve::STATEMENTS,
        orders::reconciled::STATEMENTS,
        orders::captures::STATEMENTS,
        orders::refunds::STATEMENTS,
        orders::refund_again::STATEMENTS,
        orders::refund_request::STATEMENTS,
        api_keys::STATEMENTS,
        payment_accounts::STATEMENTS,
        history::STATEMENTS,
        trails::STATEMENTS,
    ]
    .concat()
}
