//! The composition root: the only place that sees the whole configuration, and where every part is made and handed to
//! the parts that need it.
//!
//! [`build`] makes the parts and the services of a server, [`serve`] puts them on their listeners, [`lifecycle`] ends them
//! in order; [`health_monitor`] runs beside. [`settings`] turns the configuration into each part's own settings. The other
//! files are commands that need no server: [`api_keys`], [`audit`], [`reconcile`], [`doctor`], [`operator`]. [`audit`] and
//! [`reconcile`] read the provider's list in [`windows`].

mod api_keys;
mod audit;
mod build;
mod doctor;
mod health_monitor;
mod history;
mod lifecycle;
mod operator;
mod payment_accounts;
mod reconcile;
mod serve;
mod settings;
mod windows;

use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::task::AbortHandle;

pub use self::api_keys::{ApiKeyAdmin, CreateKeyError};
pub use self::audit::{AuditError, AuditProgress, ListProgress, Report, Sources, run_audit, run_audit_with_progress};
pub use self::doctor::{Diagnosis, Mark, doctor};
pub use self::history::HistoryReader;
pub use self::lifecycle::Drained;
pub use self::operator::{OperatorUnavailable, open_operator_service};
pub use self::reconcile::{Difference, ReconcileRange, Reconciled, Reconciliation};
pub use crate::operator::{Contradiction, OperatorError, OperatorService};
pub use crate::storage::api_keys::ListedKey;
pub use crate::storage::orders::{LeaseHolder, LogLine, OrderDetails, Resolution, UnfinishedOrders};
pub use crate::storage::reconcile::Entry;

use self::health_monitor::HealthMonitor;
use self::lifecycle::Lifecycle;
use self::payment_accounts::PaymentSettingsError;
use crate::config::{Config, ConfigError};
use crate::http;
use crate::identity::KeysError;
use crate::metrics::DependencyMetrics;
use crate::resilience::{BreakerPolicy, Guard};
use crate::storage::StoreError;
use crate::storage::migrations;
use crate::storage::postgres::{Postgres, PostgresSettings};
use crate::storage::redis::Redis;
use crate::tls::TlsError;

/// Why a process cannot start. One line, with what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] http::BindError),
    /// A setting of who may reach the server and how it knows them.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What `auth.keys` names cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A file of `[tls]` cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The payment provider's settings cannot be used.
    #[error(transparent)]
    Payments(#[from] PaymentSettingsError),
    /// The database cannot be reached, or a URL is malformed.
    #[error("{0}; check postgres.url and redis.url, or run `waybill doctor`")]
    Store(StoreError),
    /// The schema is older than this program.
    #[error("the database lacks {pending} migrations: run `waybill migrate` first")]
    SchemaBehind {
        /// How many.
        pending: usize,
    },
    /// The schema is not one that this program knows.
    #[error("{why}: run the Waybill that made it")]
    SchemaForeign {
        /// What is not known.
        why: String,
    },
    /// Reflection cannot be built: a defect of the build.
    #[error("the contract's descriptors cannot be read")]
    Descriptors,
    /// The pages cannot be prepared.
    #[error("the pages of the console cannot be prepared")]
    Pages(#[source] std::io::Error),
}

/// A running server.
pub struct App {
    addresses: Addresses,
    config: Config,
    postgres: Postgres,
    health_monitor: HealthMonitor,
    lifecycle: Lifecycle,
    /// End the gRPC servers where clients keep their connections open.
    cut_grpc: Vec<AbortHandle>,
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    grpc: SocketAddr,
    http: SocketAddr,
    webhooks: Option<SocketAddr>,
    web: Option<SocketAddr>,
}

/// The stores of a process.
pub(crate) struct Stores {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
}

impl Stores {
    /// Stores by these settings; nothing is connected yet.
    pub(crate) fn new(config: &Config) -> Result<Stores, StoreError> {
        Stores::with_metrics(config, &DependencyMetrics::default())
    }

    /// The same for who only reads: a standby of Postgres will do.
    pub(crate) fn that_only_read(config: &Config) -> Result<Stores, StoreError> {
        let postgres = PostgresSettings {
            may_be_standby: true,
            ..settings::postgres(config)
        };
        Stores::with_postgres(config, &postgres, &DependencyMetrics::default())
    }

    /// The same, counted in these metrics.
    pub(crate) fn with_metrics(config: &Config, metrics: &DependencyMetrics) -> Result<Stores, StoreError> {
        Stores::with_postgres(config, &settings::postgres(config), metrics)
    }

    fn with_postgres(
        config: &Config,
        postgres: &PostgresSettings,
        metrics: &DependencyMetrics,
    ) -> Result<Stores, StoreError> {
        let redis = settings::redis(config);
        let guard = |name, timeout| Arc::new(Guard::with_metrics(name, timeout, BreakerPolicy::default(), metrics));
        let postgres_guard = guard("postgres", postgres.call_timeout());
        Ok(Stores {
            postgres: Postgres::with_metrics(postgres, postgres_guard, metrics)?,
            redis: Redis::new(&redis, guard("redis", redis.command_timeout))?,
        })
    }
}

/// Applies pending migrations; their names.
pub async fn migrate(config: &Config) -> Result<Vec<&'static str>, StoreError> {
    migrations::migrate(&Stores::new(config)?.postgres).await
}

impl App {
    /// Where the gRPC services listen.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.addresses.grpc
    }

    /// Where `/readyz` and `/metrics` are.
    pub fn http_addr(&self) -> SocketAddr {
        self.addresses.http
    }

    /// Where `/webhooks/payments` is; `None` without `payments.webhook_secrets`.
    pub fn webhooks_addr(&self) -> Option<SocketAddr> {
        self.addresses.webhooks
    }

    /// Where browsers are served; `None` with an empty `web.addr`.
    pub fn web_addr(&self) -> Option<SocketAddr> {
        self.addresses.web
    }
}
