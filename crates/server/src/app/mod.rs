//! The composition root: the only place that sees the whole configuration, and where every part is made and handed to
//! the parts that need it.

mod audit;
mod desk;
mod drain;
mod health;
mod reconcile;
mod settings;

use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic_health::server::health_reporter;
use tracing::{error, info};
use waybill_proto::admin::v1::admin_service_server::AdminServiceServer;
use waybill_proto::fleet::v1::fleet_service_server::FleetServiceServer;
use waybill_proto::location::v1::location_service_server::LocationServiceServer;
use waybill_proto::order::v1::order_service_server::OrderServiceServer;

pub use self::audit::{AuditError, Report, Sources, run_audit};
pub use self::desk::{DeskUnusable, open_desk};
pub use self::drain::Drained;
pub use self::health::{Diagnosis, doctor};
pub use self::reconcile::{Reconciled, run_reconcile};
pub use crate::orders::desk::{Contradiction, Desk, DeskError};
pub use crate::storage::orders::{LeaseHolder, OrderFile, Resolution, UnfinishedOrders};
pub use crate::storage::reconcile::{Difference, Entry, Reconciliation};

use self::health::Watchman;
use crate::admin;
use crate::config::{Config, Service};
use crate::egress::payments::{PaymentClient, SettingsError};
use crate::grpc::{self, AdminApi, FleetApi, LocationApi, OrderApi, edge};
use crate::locations::history::HistoryWriter;
use crate::locations::ingest::Ingest;
use crate::locations::reaper;
use crate::metrics::Metrics;
use crate::orders::patrol::Patrol;
use crate::orders::service::OrderService;
use crate::orders::webhooks::Webhooks;
use crate::orders::{Context, Dispatch, reaper as key_reaper, sweeper};
use crate::resilience::{BreakerPolicy, Guard};
use crate::storage::StoreError;
use crate::storage::history::HistoryStore;
use crate::storage::keys::Keys;
use crate::storage::live::LiveStore;
use crate::storage::migrations::{self, SchemaState};
use crate::storage::orders::OrderStore;
use crate::storage::postgres::Postgres;
use crate::storage::redis::Redis;

/// Why a process cannot start. One line, which says what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] admin::BindError),
    /// The payment provider's settings cannot be used.
    #[error("[payments] {0}")]
    Payments(#[from] SettingsError),
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
}

/// A running server.
pub struct App {
    grpc_addr: SocketAddr,
    http_addr: SocketAddr,
    config: Config,
    postgres: Postgres,
    watchman: Watchman,
    /// From the first sign of the end: not ready, not serving.
    unready: CancellationToken,
    /// Calls, streams and sagas come to their end.
    draining: CancellationToken,
    /// The workers behind them too.
    stopping: CancellationToken,
    /// Streams and sagas.
    sagas: TaskTracker,
    /// Batchers, the history writer, the reaper, the watchman.
    workers: TaskTracker,
    /// The gRPC server.
    grpc: TaskTracker,
    /// The HTTP server.
    http: TaskTracker,
    /// Ends the gRPC server where clients hold their connections open.
    cut_grpc: AbortHandle,
}

/// The stores of a process.
pub(crate) struct Stores {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    pub(crate) postgres_guard: Arc<Guard>,
    pub(crate) redis_guard: Arc<Guard>,
}

impl Stores {
    /// Stores by these settings; nothing is connected yet.
    pub(crate) fn new(config: &Config) -> Result<Stores, StoreError> {
        let policy = BreakerPolicy::default();
        let postgres_settings = settings::postgres(config);
        let redis_settings = settings::redis(config);
        let postgres_guard = Arc::new(Guard::new("postgres", settings::postgres_call_max(config), policy));
        let redis_guard = Arc::new(Guard::new("redis", redis_settings.command_timeout, policy));
        Ok(Stores {
            postgres: Postgres::new(&postgres_settings, Arc::clone(&postgres_guard))?,
            redis: Redis::new(&redis_settings, Arc::clone(&redis_guard))?,
            postgres_guard,
            redis_guard,
        })
    }
}

/// Applies pending migrations; their names.
pub async fn migrate(config: &Config) -> Result<Vec<&'static str>, StoreError> {
    migrations::migrate(&Stores::new(config)?.postgres).await
}

impl App {
    /// Starts a server. When this returns it answers calls.
    pub async fn start(config: Config) -> Result<App, StartError> {
        let stores = Stores::new(&config).map_err(StartError::Store)?;
        check_schema(&stores.postgres).await?;
        // Bound before any worker runs: a second process on the same ports touches nothing.
        let grpc_listener = admin::bind(config.grpc.addr, "--grpc-addr").await?;
        let http_listener = admin::bind(config.http.addr, "--http-addr").await?;
        let (grpc_addr, http_addr) = (
            local(&grpc_listener, config.grpc.addr),
            local(&http_listener, config.http.addr),
        );

        let parts = Parts::new(config, stores)?;
        let app = parts.run(grpc_listener, http_listener, grpc_addr, http_addr)?;
        info!(grpc = %grpc_addr, http = %http_addr, "waybill serves");
        Ok(app)
    }

    /// Where the gRPC services listen.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// Where `/readyz` and `/metrics` are.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }
}

/// What a server is made of, before it runs.
struct Parts {
    config: Config,
    stores: Stores,
    metrics: Arc<Metrics>,
    payments: Arc<PaymentClient>,
    live: LiveStore,
    orders: OrderStore,
    dispatch: Dispatch,
    instance: String,
    unready: CancellationToken,
    draining: CancellationToken,
    stopping: CancellationToken,
    sagas: TaskTracker,
    workers: TaskTracker,
    grpc: TaskTracker,
    http: TaskTracker,
}

impl Parts {
    fn new(config: Config, stores: Stores) -> Result<Parts, StartError> {
        let payments = Arc::new(PaymentClient::new(&settings::payments(&config))?);
        let instance = settings::instance_name();
        let keys = Keys::new(config.redis.shards);
        let live = LiveStore::new(stores.redis.clone(), keys, settings::live(&config));
        let orders = OrderStore::new(
            stores.postgres.clone(),
            Arc::new(grpc::answer),
            settings::order_store(&config, instance.clone()),
        );
        let dispatch = settings::dispatch(&config, live.clone(), orders.clone());
        Ok(Parts {
            metrics: Arc::new(Metrics::new(grpc::METHODS)),
            stores,
            payments,
            live,
            orders,
            dispatch,
            instance,
            config,
            unready: CancellationToken::new(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            sagas: TaskTracker::new(),
            workers: TaskTracker::new(),
            grpc: TaskTracker::new(),
            http: TaskTracker::new(),
        })
    }

    fn runs(&self, service: Service) -> bool {
        self.config.grpc.services.contains(&service)
    }

    fn run(
        self,
        grpc_listener: TcpListener,
        http_listener: TcpListener,
        grpc_addr: SocketAddr,
        http_addr: SocketAddr,
    ) -> Result<App, StartError> {
        let (reporter, health) = health_reporter();
        let watchman = Watchman::new(
            &self.stores,
            Arc::clone(&self.payments),
            reporter,
            &self.config.grpc.services,
        );
        let limits = Arc::new(edge::IngressLimits::new(
            &settings::ingress(&self.config),
            Arc::clone(&self.metrics),
        ));

        let mut routes = Routes::builder();
        routes.add_service(health);
        if self.config.grpc.reflection {
            add_reflection(&mut routes)?;
        }
        self.add_orders(&mut routes, &limits);
        self.add_locations(&mut routes, &limits);
        self.add_fleet(&mut routes, &limits);
        self.add_admin(&mut routes, &limits);

        self.workers.spawn(watchman.clone().run(
            Arc::clone(&self.metrics),
            self.unready.clone(),
            self.stopping.clone(),
        ));
        let stopping = self.stopping.clone();
        self.workers.spawn(async move { limits.forget_idle(stopping).await });
        let cut_grpc = self.serve_grpc(grpc_listener, routes.routes());
        self.serve_http(http_listener, &watchman);

        Ok(App {
            grpc_addr,
            http_addr,
            postgres: self.stores.postgres,
            watchman,
            unready: self.unready,
            draining: self.draining,
            stopping: self.stopping,
            sagas: self.sagas,
            workers: self.workers,
            grpc: self.grpc,
            http: self.http,
            config: self.config,
            cut_grpc,
        })
    }

    fn add_orders(&self, routes: &mut tonic::service::RoutesBuilder, limits: &Arc<edge::IngressLimits>) {
        if !self.runs(Service::Order) {
            return;
        }
        let context = Context::new(
            self.orders.clone(),
            Arc::clone(&self.payments),
            self.dispatch.clone(),
            Arc::clone(&self.metrics),
            settings::orders(&self.config),
            self.sagas.clone(),
            self.draining.clone(),
        );
        self.workers.spawn(sweeper::run(Arc::clone(&context)));
        self.workers.spawn(key_reaper::run(Arc::clone(&context)));
        let patrol = settings::patrol(&self.config);
        if !patrol.silent_after.is_zero() {
            let history = HistoryStore::new(self.stores.postgres.clone(), self.instance.clone());
            let patrol = Patrol::new(Arc::clone(&context), self.live.clone(), history, patrol);
            self.workers.spawn(patrol.run());
        }
        let api = OrderApi::new(OrderService::new(context), Arc::clone(limits));
        routes.add_service(OrderServiceServer::new(api).max_decoding_message_size(self.config.grpc.message_bytes_max));
    }

    fn add_locations(&self, routes: &mut tonic::service::RoutesBuilder, limits: &Arc<edge::IngressLimits>) {
        if !self.runs(Service::Location) {
            return;
        }
        let settings = settings::locations(&self.config);
        let ingest = Ingest::start(
            self.live.clone(),
            Arc::clone(&self.metrics),
            &settings,
            &self.workers,
            &self.stopping,
        );
        for shard in self.live.keys().shards() {
            let writer = HistoryWriter::new(
                self.live.clone(),
                HistoryStore::new(self.stores.postgres.clone(), self.instance.clone()),
                Arc::clone(&self.metrics),
                settings.clone(),
                shard.clone(),
            );
            self.workers.spawn(writer.run(self.stopping.clone()));
        }
        self.workers
            .spawn(reaper::run(self.live.clone(), self.stopping.clone()));
        let api = LocationApi::new(
            ingest,
            Arc::clone(limits),
            settings::location_limits(&self.config),
            self.sagas.clone(),
            self.draining.clone(),
        );
        routes
            .add_service(LocationServiceServer::new(api).max_decoding_message_size(self.config.grpc.message_bytes_max));
    }

    fn add_fleet(&self, routes: &mut tonic::service::RoutesBuilder, limits: &Arc<edge::IngressLimits>) {
        if !self.runs(Service::Fleet) {
            return;
        }
        let orders = self.orders.for_callers();
        let dispatch = settings::dispatch(&self.config, self.live.clone(), orders.clone());
        let api = FleetApi::new(self.live.clone(), orders, dispatch, Arc::clone(limits));
        routes.add_service(FleetServiceServer::new(api).max_decoding_message_size(self.config.grpc.message_bytes_max));
    }

    fn add_admin(&self, routes: &mut tonic::service::RoutesBuilder, limits: &Arc<edge::IngressLimits>) {
        if !self.runs(Service::Admin) {
            return;
        }
        // In the lane of the sagas: people come when calls are too many, too.
        let desk = Desk::new(self.orders.clone(), Arc::clone(&self.payments));
        let api = AdminApi::new(desk, Arc::clone(limits));
        routes.add_service(AdminServiceServer::new(api).max_decoding_message_size(self.config.grpc.message_bytes_max));
    }

    fn serve_grpc(&self, listener: TcpListener, routes: Routes) -> AbortHandle {
        let connections = edge::incoming(listener, settings::connections(&self.config), Arc::clone(&self.metrics));
        let mut server = edge::server_builder(&settings::http2(&self.config)).layer(edge::layers(
            Arc::clone(&self.metrics),
            settings::deadlines(&self.config),
        ));
        let draining = self.draining.clone();
        let serving = self.grpc.spawn(async move {
            let end = server
                .add_routes(routes)
                .serve_with_incoming_shutdown(connections, draining.cancelled_owned());
            if let Err(error) = end.await {
                error!(%error, "the gRPC server ended");
            }
        });
        serving.abort_handle()
    }

    /// Without a secret nothing could be told from a forgery, and nothing is taken.
    fn webhooks(&self) -> Option<Webhooks> {
        let secrets = &self.config.payments.webhook_secrets;
        if !self.runs(Service::Order) || secrets.is_empty() {
            return None;
        }
        Some(Webhooks::new(self.orders.for_callers(), secrets.clone()))
    }

    fn serve_http(&self, listener: TcpListener, watchman: &Watchman) {
        let readiness = Arc::new(admin::Readiness::new(watchman.probes(), self.unready.clone()));
        let served = admin::serve(
            listener,
            Arc::clone(&self.metrics),
            readiness,
            self.webhooks(),
            self.stopping.clone().cancelled_owned(),
        );
        self.http.spawn(async move {
            if let Err(error) = served.await {
                error!(%error, "the HTTP server ended");
            }
        });
    }
}

fn add_reflection(routes: &mut tonic::service::RoutesBuilder) -> Result<(), StartError> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(waybill_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Both versions: the tools in use speak one or the other.
    routes.add_service(builder().build_v1().map_err(|_| StartError::Descriptors)?);
    routes.add_service(builder().build_v1alpha().map_err(|_| StartError::Descriptors)?);
    Ok(())
}

async fn check_schema(postgres: &Postgres) -> Result<(), StartError> {
    match migrations::schema_state(postgres).await.map_err(StartError::Store)? {
        SchemaState::Current => Ok(()),
        SchemaState::Behind { pending } => Err(StartError::SchemaBehind { pending }),
        SchemaState::Foreign { why } => Err(StartError::SchemaForeign { why }),
    }
}

/// The address that was really taken: with port 0, the system chose it.
fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}
