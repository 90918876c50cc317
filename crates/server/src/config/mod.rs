//! One documented file, `config/waybill.toml`, is the default. A user's file, the environment and the command line lie
//! over it, in this order. An unknown key is refused: a misspelt limit must not be no limit. What no single value shows is
//! in [`check`], and of the stores' URLs and certificates in [`stores`].

mod check;
mod payments;
mod stores;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{File, FileFormat};
use secrecy::SecretString;
use serde::Deserialize;
use thiserror::Error;
use waybill_domain::tenant::Tenant;

pub use self::payments::Account;

/// The defaults, with a comment on each.
pub const DEFAULTS: &str = include_str!("../../../../config/waybill.toml");

/// What separates a section from its key in a variable's name. One underscore would not: keys have them.
const SEPARATOR: &str = "__";
const PREFIX: &str = "WAYBILL_";
/// Variables with our prefix that are not settings: they name the sandbox's programs, and the crash point of a test. A
/// program without crash points refuses the last as it does any that it does not know.
const NOT_SETTINGS: &[&str] = &[
    "WAYBILL_SANDBOX_POSTGRES_BIN",
    "WAYBILL_SANDBOX_REDIS_BIN",
    #[cfg(all(feature = "crash-points", debug_assertions))]
    crate::crash_points::VARIABLE,
];

/// Settings that are lists, by the ends of their names.
const LISTS: [&str; 5] = [
    "grpc.services",
    ".webhook_secrets",
    "tenants.names",
    "web.origins",
    "proxies.trusted",
];

/// A setting that cannot be used. The text names the key, and ends the program with status 64.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file, a key or a value that cannot be read.
    #[error("{0}")]
    Read(#[from] config::ConfigError),
    /// A variable that is named like a setting and is none.
    #[error(
        "the environment variable {0} is not a setting: write WAYBILL_<SECTION>__<KEY>, such as WAYBILL_POSTGRES__URL"
    )]
    Variable(String),
    /// A value out of its range.
    #[error("{key} {why}")]
    Value {
        /// Which, as `section.key`.
        key: Cow<'static, str>,
        /// What it must be.
        why: String,
    },
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* #[doc = concat!("See `", stringify!($field), "` in `config/waybill.toml`.")] pub $field: $type,)+
        }
    };
}

section! {
    /// All settings.
    Config {
        grpc: Grpc,
        http: Http,
        webhooks: Webhooks,
        tls: Tls,
        auth: Auth,
        tenants: Tenants,
        postgres: Postgres,
        redis: Redis,
        payments: Payments,
        orders: Orders,
        tracking: Tracking,
        locations: Locations,
        limits: Limits,
        drain: Drain,
        log: Log,
        telemetry: Telemetry,
        web: Web,
        proxies: Proxies,
    }
}

section! {
    /// The gRPC listener.
    Grpc {
        addr: SocketAddr,
        services: Vec<Service>,
        reflection: bool,
        deadline_default: Span,
        deadline_max: Span,
        connections_max: usize,
        connections_per_address_max: usize,
        proxy_protocol: bool,
        streams_per_connection_max: u32,
        message_bytes_max: usize,
        stream_idle_max: Span,
    }
}

section! {
    /// The HTTP listener for operators and their machines.
    Http { addr: SocketAddr, token: SecretString, }
}

section! {
    /// The HTTP listener for the payment provider's webhooks.
    Webhooks { addr: SocketAddr, }
}

section! {
    /// The listener for browsers.
    Web {
        #[serde(deserialize_with = "optional_addr")]
        addr: Option<SocketAddr>,
        connections_per_address_max: usize,
        proxy_protocol: bool,
        console: bool,
        origins: Vec<String>,
        tiles: String,
        tiles_attribution: String,
        trails_days: u16,
    }
}

section! {
    /// The balancers and proxies before the gRPC listener and that for browsers.
    Proxies { trusted: Vec<String>, header: ForwardedHeaderName, }
}

section! {
    /// TLS of the gRPC listener and of the payment provider's webhooks.
    Tls {
        cert: PathBuf,
        key: PathBuf,
        client_ca: PathBuf,
        plaintext: bool,
    }
}

section! {
    /// How callers are known.
    Auth {
        keys: SecretString,
        issuer: String,
        audience: String,
        token_age_max: Span,
        anonymous: bool,
    }
}

section! {
    /// The businesses that share this deployment.
    Tenants {
        #[serde(deserialize_with = "tenants")]
        names: Vec<Tenant>,
    }
}

section! {
    /// The connections to Postgres.
    Postgres {
        url: SecretString,
        password_file: PathBuf,
        tls: StoreTlsMode,
        ca: PathBuf,
        client_cert: PathBuf,
        client_key: PathBuf,
        pool_max: usize,
        acquire_timeout: Span,
        statement_timeout: Span,
        lock_timeout: Span,
    }
}

section! {
    /// The connection to Redis.
    Redis {
        url: SecretString,
        password_file: PathBuf,
        ca: PathBuf,
        client_cert: PathBuf,
        client_key: PathBuf,
        connect_timeout: Span,
        command_timeout: Span,
        key_prefix: String,
        shards: u16,
        cluster: bool,
        replicas: u16,
    }
}

section! {
    /// The payment provider.
    Payments {
        url: String,
        secret_key: SecretString,
        webhook_secrets: Vec<SecretString>,
        statement_descriptor_suffix: String,
        accounts: BTreeMap<String, Account>,
        connect_timeout: Span,
        attempt_timeout: Span,
        total_timeout: Span,
        in_flight_max: usize,
        rate_per_second: u32,
    }
}

section! {
    /// The saga.
    Orders {
        settle_within: Span,
        assignment_window: Span,
        search_outage_max: Span,
        assignment_radius_m: f64,
        candidates: usize,
        lease: Span,
        sweep_interval: Span,
        sweep_batch: usize,
        driver_liveness_timeout: Span,
        key_retention: Span,
        key_expiry_interval: Span,
        hold_max: Span,
        hold_expiry: HoldExpiryName,
        charge_wait_max: Span,
        in_flight_max: usize,
        watchers_max: usize,
        assignment_watchers_max: usize,
    }
}

section! {
    /// Orders that are followed by a link.
    Tracking { followers_max: usize, }
}

section! {
    /// Ingest and history.
    Locations {
        ttl: Span,
        live_age_max: Span,
        future_max: Span,
        age_max: Span,
        batch_max: usize,
        queue_max: usize,
        high_water: u64,
        caller_share: f64,
        keep_stored: u64,
        history_batch_max: usize,
        history_poll: Span,
        retention_days: i32,
        streams_max: usize,
        watchers_max: usize,
        watch_area_max: usize,
    }
}

impl Locations {
    /// How long a stream is whose entries are all in the history, at most: it is trimmed by whole batches, and Redis drops whole nodes of
    /// 100 entries.
    pub fn kept_max(&self) -> u64 {
        self.keep_stored + self.history_batch_max as u64 + 100
    }
}

section! {
    /// The token buckets.
    Limits {
        orders_per_user: Bucket,
        orders_in_all: Bucket,
        completions_per_caller: Bucket,
        completions_in_all: Bucket,
        reads_per_caller: Bucket,
        reads_in_all: Bucket,
        fixes_per_driver: Bucket,
        fixes_in_all: Bucket,
        links_per_caller: Bucket,
        links_in_all: Bucket,
        tenant_share: f64,
        wait_max: Span,
    }
}

section! {
    /// A token bucket.
    Bucket { per_second: u32, burst: u32, }
}

section! {
    /// The shutdown.
    Drain { unready: Span, work: Span, hard_stop: Span, }
}

section! {
    /// The export of traces.
    Telemetry { otlp_endpoint: String, }
}

section! {
    /// The log.
    Log { filter: String, format: LogFormat, }
}

/// A service that a process can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// `waybill.order.v1.OrderService`, with the saga and the sweeper.
    Order,
    /// `waybill.location.v1.LocationService`, with the history writer and stale-driver eviction.
    Location,
    /// `waybill.fleet.v1.FleetService`.
    Fleet,
    /// `waybill.admin.v1.AdminService`, for operators. Not among the defaults.
    Operator,
}

/// The header in which proxies of HTTP name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeaderName {
    /// `x-forwarded-for`
    XForwardedFor,
    /// `forwarded` (RFC 7239)
    Forwarded,
    /// They name none.
    None,
}

/// Whether a store is spoken to by TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreTlsMode {
    /// In plaintext.
    Off,
    /// By TLS, and only if its certificate is of a known CA and for the host of the URL.
    Verify,
}

/// What is done about a hold that is about to expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldExpiryName {
    /// All of it is captured.
    Capture,
    /// Its order is cancelled, and it is released.
    Release,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A duration as people write it: "250ms", "1m 30s".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Span(#[serde(deserialize_with = "span")] pub Duration);

fn tenants<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Tenant>, D::Error> {
    let names: Vec<String> = Vec::deserialize(deserializer)?;
    let parsed = names.iter().map(|name| {
        name.parse()
            .map_err(|error| serde::de::Error::custom(format!("{name:?} {error}")))
    });
    parsed.collect()
}

fn optional_addr<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse();
    parsed
        .map(Some)
        .map_err(|_| serde::de::Error::custom(format!("{text:?} is not an address such as \"127.0.0.1:7202\"")))
}

fn span<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let signed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| serde::de::Error::custom(format!("{text:?} is not a duration such as \"250ms\" or \"20s\"")))?;
    Duration::try_from(signed).map_err(|_| serde::de::Error::custom(format!("{text:?} is negative")))
}

impl Config {
    /// Reads the defaults, then `file`, then the variables of `environment` with our prefix, then `flags`
    /// (`section.key` and value), each over the one before.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Result<Config, ConfigError> {
        let mut builder = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(path) = file {
            builder = builder.add_source(File::from(path).format(FileFormat::Toml).required(true));
        }
        for (name, value) in environment {
            if let Some(key) = setting(&name)? {
                let value = parse(&key, &value);
                builder = builder.set_override(key, value)?;
            }
        }
        for (key, value) in flags {
            builder = builder.set_override(*key, parse(key, value))?;
        }
        let config: Config = builder.build()?.try_deserialize()?;
        config.check()?;
        Ok(config)
    }
}

/// The key that a variable sets; `None` for a variable that is not ours.
fn setting(name: &str) -> Result<Option<String>, ConfigError> {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return Ok(None);
    };
    if NOT_SETTINGS.contains(&name) {
        return Ok(None);
    }
    if rest.contains(SEPARATOR) {
        // A bucket is a section within its section: WAYBILL_LIMITS__ORDERS_PER_USER__BURST.
        let key = rest.replace(SEPARATOR, ".").to_lowercase();
        Ok(Some(with_tenant(&key).unwrap_or(key)))
    } else {
        Err(ConfigError::Variable(name.to_owned()))
    }
}

/// A tenant may have a `-` in its name, and a variable may not: there it is written as `_`.
fn with_tenant(key: &str) -> Option<String> {
    let (tenant, setting) = key.strip_prefix("payments.accounts.")?.split_once('.')?;
    Some(format!("payments.accounts.{}.{setting}", tenant.replace('_', "-")))
}

/// A list is written with commas; all else is converted where it is read, and may hold commas of its own.
fn parse(key: &str, value: &str) -> config::Value {
    if LISTS.iter().any(|list| key.ends_with(list)) {
        // A variable that is set to nothing is an empty list, not a list of nothing.
        let parts = value.split(',').filter(|_| !value.trim().is_empty());
        return config::Value::from(parts.map(|part| part.trim().to_owned()).collect::<Vec<_>>());
    }
    config::Value::from(value.to_owned())
}

#[cfg(test)]
mod tests;
