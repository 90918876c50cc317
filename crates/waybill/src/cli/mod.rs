//! Commands and flags.

pub mod history;
pub mod keys;
pub mod load;
mod values;

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use waybill_domain::access::Role;
use waybill_domain::id::OrderId;
use waybill_domain::operator::{AssertedOutcome, Operator};
use waybill_domain::text::Reason;
use waybill_server::config::{Config, ConfigError};

use self::history::HistoryArgs;
use self::keys::KeysArgs;
use self::load::LoadArgs;
use self::values::{A_YEAR, duration, rate};

/// Orders, payments, dispatch and live locations in one binary.
#[derive(Debug, Parser)]
#[command(name = "waybill", version, max_term_width = 100)]
pub struct Cli {
    /// A file of settings; config/waybill.toml in the source tree documents each. Also set by `WAYBILL_<SECTION>__<KEY>`
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve, against the Postgres, Redis and payment provider of the configuration
    Serve(ServeArgs),
    /// Serve with a private Postgres, Redis and payment provider, until Ctrl-C
    Dev(DevArgs),
    /// Run a city through a private Waybill, then audit it
    Demo(DemoArgs),
    /// Stream the fixes of a recorded city into a running server
    Replay(ReplayArgs),
    /// Load a running server, and measure what it does
    Load(Box<LoadArgs>),
    /// Bring the database's schema to this version
    Migrate(StoreArgs),
    /// Make a token for a private server of `waybill dev`
    Token(TokenArgs),
    /// Create, list and revoke the API keys with which programs call
    Keys(KeysArgs),
    /// Check every guarantee that the database can show
    Audit(AuditArgs),
    /// List, show, retry and resolve orders that are not settled by themselves
    Orders(OrdersArgs),
    /// Compare the payment provider's list with the ledger
    Reconcile(ReconcileArgs),
    /// Export where drivers were
    History(HistoryArgs),
    /// Check all that a server needs, and print what to change
    Doctor(StoreArgs),
}

/// Where the stores and the payment provider are.
#[derive(Debug, Clone, Default, Args)]
pub struct StoreArgs {
    /// `postgres://user:password@host:port/database`
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// `redis://host:port/database`
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// Stripe's API or what speaks it
    #[arg(long, value_name = "URL", env = "PAYMENTS_URL", hide_env_values = true)]
    pub payments_url: Option<String>,
    /// The provider's secret key; better in the environment than on the command line
    #[arg(long, value_name = "KEY", env = "PAYMENTS_SECRET_KEY", hide_env_values = true)]
    pub payments_secret_key: Option<String>,
}

#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Where the gRPC services listen; port 0 for any free one
    #[arg(long = "grpc-addr", value_name = "ADDR")]
    pub grpc: Option<SocketAddr>,
    /// Where /readyz and /metrics are served; port 0 for any free one
    #[arg(long = "http-addr", value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Where the payment provider's webhooks are received; port 0 for any free one
    #[arg(long = "webhooks-addr", value_name = "ADDR")]
    pub webhooks: Option<SocketAddr>,
    /// Where browsers are served; port 0 for any free one
    #[arg(long = "web-addr", value_name = "ADDR")]
    pub web: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Which services this process runs: order, location, fleet, operator
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct DevArgs {
    #[command(flatten)]
    pub listen: ListenArgs,
    /// The folder of the private servers' data; kept from one run to the next
    #[arg(long, value_name = "DIR", default_value = ".waybill")]
    pub data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What its calls may do
    #[arg(long, value_name = "ROLE")]
    pub role: TokenRole,
    /// Whom it is about: the user's or the driver's id, or the name of a person or a program
    #[arg(long, value_name = "ID")]
    pub subject: String,
    /// A customer's one order, which it is limited to
    #[arg(long, value_name = "ID")]
    pub order: Option<OrderId>,
    /// For how long it is good
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = duration(MONTH))]
    pub lives: Duration,
    /// The folder of `waybill dev`
    #[arg(long, value_name = "DIR", default_value = ".waybill")]
    pub data_dir: PathBuf,
}

/// The roles of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    /// Places orders, and follows its own
    Customer,
    /// Serves orders, and reports its own position
    Driver,
    /// Watches over all orders and drivers
    Dispatcher,
    /// A program of the business
    Service,
    /// Settles what is stuck
    Operator,
}

impl From<TokenRole> for Role {
    fn from(role: TokenRole) -> Role {
        match role {
            TokenRole::Customer => Role::Customer,
            TokenRole::Driver => Role::Driver,
            TokenRole::Dispatcher => Role::Dispatcher,
            TokenRole::Service => Role::Service,
            TokenRole::Operator => Role::Operator,
        }
    }
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How long the invented city lives
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = duration(A_YEAR), conflicts_with = "locations")]
    pub duration: Duration,
    /// The fixes of a recorded city, as CSV or CSV.gz
    #[arg(long, value_name = "FILE")]
    pub locations: Option<PathBuf>,
    /// Its rides: each becomes an order
    #[arg(long, value_name = "FILE", requires = "locations")]
    pub rides: Option<PathBuf>,
    /// How many times faster than it was
    #[arg(long, value_name = "N", default_value_t = 60.0, requires = "locations")]
    pub speed: f64,
    /// How many drivers the invented city has
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with = "locations")]
    pub drivers: u32,
    /// How many orders it has, on average
    #[arg(long, value_name = "N", default_value_t = 8.0, value_parser = rate(RATE_MAX), conflicts_with = "locations")]
    pub orders_per_second: f64,
    /// The seed of the invented city
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Stay up after the city's end, to be looked at in the console, until Ctrl-C
    #[arg(long)]
    pub web: bool,
    /// Print one JSON object at the end, and no screen
    #[arg(long)]
    pub json: bool,
    /// The folder of the private servers' data; emptied first
    #[arg(long, value_name = "DIR", default_value = ".waybill/demo")]
    pub data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub server: ServerFlags,
    #[command(flatten)]
    pub city: RecordedCityFlags,
    /// Print one JSON object at the end, and no screen
    #[arg(long)]
    pub json: bool,
}

/// A running server, and what it is shown.
#[derive(Debug, Args)]
pub struct ServerFlags {
    /// Where the server is
    #[arg(long, value_name = "ADDR", env = "GRPC_ADDR", default_value = "127.0.0.1:7200")]
    pub grpc_addr: String,
    /// The API key or the token of a program (role `service`); better in the environment than on the command line
    #[arg(long, value_name = "TOKEN", env = "SERVICE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// A recorded city, and how it is played.
#[derive(Debug, Args)]
pub struct RecordedCityFlags {
    /// The fixes of a recorded city, as CSV or CSV.gz
    #[arg(long, value_name = "FILE")]
    pub locations: PathBuf,
    /// Its rides: each becomes an order
    #[arg(long, value_name = "FILE")]
    pub rides: Option<PathBuf>,
    /// How many times faster than it was
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub speed: f64,
}

#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

/// What scripts need to know of a comparison.
const RECONCILE_STATUSES: &str = "\
Exit status: 0 when nothing differs; 1 when something does; 64 for a flag that cannot be used; 69 when the provider or a store \
failed, and 130 after Ctrl-C: then what was found so far is printed, and on standard error up to where the two sides were \
compared and the command that goes on from there.";

#[derive(Debug, Args)]
#[command(after_help = RECONCILE_STATUSES)]
pub struct ReconcileArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    /// Compare what was moved from this time on, such as `2026-03-01T00:00:00Z` [default: from the first movement]
    #[arg(long, value_name = "TIME")]
    pub from: Option<Timestamp>,
    /// Compare what was moved before this time [default: until now]
    #[arg(long, value_name = "TIME")]
    pub until: Option<Timestamp>,
    /// How much time is compared at once, in memory [default: as much as has some thousand movements]
    #[arg(long, value_name = "TIME", value_parser = duration(A_YEAR))]
    pub window: Option<Duration>,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct OrdersArgs {
    #[command(subcommand)]
    pub command: OrdersCommand,
}

#[derive(Debug, Subcommand)]
pub enum OrdersCommand {
    /// List the orders that are not settled or are flagged for an operator, the oldest first
    List(ListArgs),
    /// Show all that is known of one order
    Show(ShowArgs),
    /// Retry a deferred order now
    Retry(RetryArgs),
    /// Resolve an order in doubt: assert what became of its money, which is verified with the provider
    Resolve(ResolveArgs),
    /// Refund once more what failed for good at the provider, under a new key
    RefundAgain(RefundAgainArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    /// Only those that should be settled: older than a minute, or flagged for an operator
    #[arg(long)]
    pub stuck: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    /// The order's id
    #[arg(value_name = "ID")]
    pub order: OrderId,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RetryArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    /// The order's id
    #[arg(value_name = "ID")]
    pub order: OrderId,
    /// Why, for the order's log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<Reason>,
    /// The operator's name, for the order's log; else that of whoever is logged in
    #[arg(long, value_name = "NAME")]
    pub by: Option<Operator>,
}

#[derive(Debug, Args)]
pub struct ResolveArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    /// The order's id
    #[arg(value_name = "ID")]
    pub order: OrderId,
    /// What became of its money
    #[arg(long = "as", value_name = "OUTCOME")]
    pub outcome: SettledName,
    /// How that is known, for the order's log
    #[arg(long, value_name = "TEXT")]
    pub reason: Reason,
    /// The provider's id of the payment (`pi_...`) or of the refund (`re_...`)
    #[arg(long, value_name = "ID")]
    pub provider_id: Option<String>,
    /// The refund was made past the provider, which cannot confirm it; `--provider-id` is another reference to it
    #[arg(long)]
    pub unverified: bool,
    /// With `--unverified`: how much was refunded, in minor units; else all that is owed
    #[arg(long, value_name = "MINOR_UNITS")]
    pub amount: Option<i64>,
    /// The operator's name, for the order's log; else that of whoever is logged in
    #[arg(long, value_name = "NAME")]
    pub by: Option<Operator>,
}

#[derive(Debug, Args)]
pub struct RefundAgainArgs {
    #[command(flatten)]
    pub stores: StoreArgs,
    /// The order's id
    #[arg(value_name = "ID")]
    pub order: OrderId,
    /// Why, for the order's log
    #[arg(long, value_name = "TEXT")]
    pub reason: Reason,
    /// The operator's name, for the order's log; else that of whoever is logged in
    #[arg(long, value_name = "NAME")]
    pub by: Option<Operator>,
}

/// What became of the money, as operators write it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SettledName {
    /// It was charged
    Charged,
    /// It was not charged
    NotCharged,
    /// It was refunded
    Refunded,
}

impl From<SettledName> for AssertedOutcome {
    fn from(name: SettledName) -> AssertedOutcome {
        match name {
            SettledName::Charged => AssertedOutcome::Charged,
            SettledName::NotCharged => AssertedOutcome::NotCharged,
            SettledName::Refunded => AssertedOutcome::Refunded,
        }
    }
}

/// The settings that flags set, by key.
pub type Flags = BTreeMap<&'static str, String>;

impl StoreArgs {
    pub fn flags(&self) -> Flags {
        let settings = [
            ("postgres.url", &self.database_url),
            ("redis.url", &self.redis_url),
            ("payments.url", &self.payments_url),
            ("payments.secret_key", &self.payments_secret_key),
        ];
        settings
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.clone()?)))
            .collect()
    }
}

impl ListenArgs {
    pub fn flags(&self) -> Flags {
        let settings = [
            ("grpc.addr", self.grpc),
            ("http.addr", self.http),
            ("webhooks.addr", self.webhooks),
            ("web.addr", self.web),
        ];
        settings
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?.to_string())))
            .collect()
    }
}

/// The configuration: the file, the environment and the flags over the defaults.
pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Config, ConfigError> {
    // A variable that is not UTF-8 cannot be a setting; `env::vars` would panic on it.
    let environment =
        env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(file, environment, flags)
}

/// As long as a private server believes a token of a customer or a driver.
const MONTH: &str = "720h";

/// Far above what one machine serves; a typing error of a few digits should not fill its memory.
const RATE_MAX: f64 = 10_000.0;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }
}
