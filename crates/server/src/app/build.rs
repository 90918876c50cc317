//! Makes the parts of a server and its services, and starts the workers that belong to each service.

use std::sync::Arc;

use tonic::service::{Routes, RoutesBuilder};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::warn;
use waybill_proto::admin::v1::admin_service_server::AdminServiceServer;
use waybill_proto::driver::v1::driver_service_server::DriverServiceServer;
use waybill_proto::fleet::v1::fleet_service_server::FleetServiceServer;
use waybill_proto::location::v1::location_service_server::LocationServiceServer;
use waybill_proto::order::v1::order_service_server::OrderServiceServer;
use waybill_proto::tracking::v1::tracking_service_server::TrackingServiceServer;

use super::health_monitor::HealthMonitor;
use super::lifecycle::Lifecycle;
use super::{StartError, Stores, payment_accounts, settings};
use crate::config::{Config, Service};
use crate::drivers::Drivers;
use crate::egress::payments::{PaymentAccounts, PaymentClient};
use crate::erasure::Erasure;
use crate::grpc::health_service::WatchedHealth;
use crate::grpc::{
    self, DriverApi, FleetApi, LocationApi, OperatorApi, OrderApi, ServerHealth, ShedsLoad, TrackingApi, edge,
};
use crate::identity::TrustedKeys;
use crate::live_feed::LiveFeed;
use crate::locations::history::HistoryWriter;
use crate::locations::ingest::Ingest;
use crate::locations::stale_drivers;
use crate::metrics::Metrics;
use crate::operator::OperatorService;
use crate::orders::service::OrderService;
use crate::orders::workers::driver_liveness::DriverLivenessMonitor;
use crate::orders::workers::{hold_expiry, key_retention, sweeper};
use crate::orders::{Context, Dispatch};
use crate::payment_webhooks::PaymentWebhooks;
use crate::readiness::{Probe, ProbeOutcome, Readiness};
use crate::storage::history::HistoryStore;
use crate::storage::live::LiveStore;
use crate::storage::orders::OrderStore;
use crate::storage::payment_accounts as payment_account_store;
use crate::storage::trails::TrailStore;
use crate::storage::{PaymentRate, StoreError};
use crate::tracking::Tracking;
use crate::trails::Trails;
use crate::trails::draw::Drawer;
use crate::web::{Assets, Pages};

/// What a server is made of.
pub(super) struct Parts {
    pub config: Config,
    pub stores: Stores,
    pub metrics: Arc<Metrics>,
    pub payments: PaymentAccounts,
    pub lifecycle: Lifecycle,
    live: LiveStore,
    orders: OrderStore,
    dispatch: Dispatch,
    instance: String,
}

impl Parts {
    pub fn new(config: Config, stores: Stores, metrics: Arc<Metrics>) -> Result<Parts, StartError> {
        let keys = settings::keys(&config);
        let payments = payment_accounts::build(&config, &metrics.dependencies, |account, settings, client| {
            let rate = PaymentRate::new(
                stores.redis.clone(),
                keys.payment_rate(account),
                settings.rate_per_second,
            );
            client.sharing_rate(Arc::new(rate))
        })?;
        let instance = settings::instance_name();
        let live = LiveStore::new(stores.redis.clone(), keys, settings::live(&config));
        let orders = OrderStore::new(
            stores.postgres.clone(),
            Arc::new(grpc::answer),
            settings::order_store(&config, instance.clone()),
        );
        let dispatch = settings::dispatch(&config, live.clone(), orders.clone());
        Ok(Parts {
            metrics,
            lifecycle: Lifecycle::default(),
            stores,
            payments,
            live,
            orders,
            dispatch,
            instance,
            config,
        })
    }

    /// From here on no server that lacks the account of a tenant takes a new order of it.
    pub async fn register_payment_accounts(&self) -> Result<(), StoreError> {
        if !self.runs(Service::Order) {
            return Ok(());
        }
        let postgres = &self.stores.postgres;
        payment_account_store::register(postgres, self.payments.for_new_orders()).await?;
        for account in payment_account_store::waiting(postgres, &self.payments.own_names()).await? {
            warn!(
                account,
                "orders wait for the payment account of a tenant that is not in the settings"
            );
        }
        Ok(())
    }

    pub fn runs(&self, service: Service) -> bool {
        self.config.grpc.services.contains(&service)
    }

    /// The monitor of these parts, which runs until the server stops.
    pub async fn start_health_monitor(&self, reporter: HealthReporter) -> HealthMonitor {
        let monitor = HealthMonitor::new(&self.stores, reporter, &self.config.grpc.services);
        // Who watches a service before the first look at the stores does not learn that there is none.
        monitor.not_serving().await;
        let Lifecycle {
            workers,
            unready,
            stopping,
            ..
        } = &self.lifecycle;
        workers.spawn(monitor.clone().run(unready.clone(), stopping.clone()));
        monitor
    }

    /// The probes of `/readyz`: the stores, the keys of tokens, and the accounts at the payment provider where orders are
    /// charged. Of several, one is no reason to send the orders of others
    /// elsewhere.
    pub fn probes(&self, monitor: &HealthMonitor, keys: Option<TrustedKeys>) -> Vec<Probe> {
        let mut probes = monitor.probes();
        if let Some(keys) = keys {
            probes.push(Probe::new("auth.keys", move || {
                let found = keys.check();
                async move { found.into() }
            }));
        }
        if self.runs(Service::Order) {
            let is_only_one = self.payments.all().count() == 1;
            probes.extend(self.payments.all().map(|(account, _)| {
                let (account, payments) = (account.clone(), self.payments.clone());
                Probe::new(account.to_string(), move || {
                    let rejects_us = payments.client(&account).ok().and_then(PaymentClient::rejects_us);
                    let found = match rejects_us {
                        None => ProbeOutcome::Ok,
                        Some(why) if is_only_one => ProbeOutcome::Failed(why),
                        Some(why) => ProbeOutcome::Warning(why),
                    };
                    async move { found }
                })
            }));
        }
        probes
    }

    /// The gRPC services that this process runs, and their workers.
    pub fn start_services(
        &self,
        routes: &mut RoutesBuilder,
        readiness: &Arc<Readiness>,
        orders: Option<Arc<Context>>,
    ) -> Result<(), StartError> {
        let limits = Arc::new(edge::IngressLimits::new(
            &settings::ingress(&self.config),
            Arc::clone(&self.metrics),
        ));
        if self.config.grpc.reflection {
            add_reflection(routes, self.config.grpc.message_bytes_max)?;
        }
        if let Some(orders) = orders {
            self.add_orders(routes, &limits, orders);
        }
        self.add_locations(routes, &limits);
        self.add_fleet(routes, &limits);
        self.add_operator(routes, &limits, readiness);
        let stopping = self.lifecycle.stopping.clone();
        self.lifecycle
            .workers
            .spawn(async move { limits.evict_idle(stopping).await });
        Ok(())
    }

    /// `None` without a secret: then a forgery could not be recognised, and nothing is accepted.
    pub fn payment_webhooks(&self, orders: Option<&Arc<Context>>) -> Option<PaymentWebhooks> {
        let payments = &self.config.payments;
        let orders = orders.filter(|_| payments.receives_webhooks())?;
        Some(PaymentWebhooks::new(
            Arc::clone(orders),
            payment_accounts::webhook_secrets(payments),
        ))
    }

    /// What sagas work with; `None` where no orders are served.
    pub fn orders(&self) -> Option<Arc<Context>> {
        let Lifecycle { sagas, draining, .. } = &self.lifecycle;
        self.runs(Service::Order).then(|| {
            Context::new(
                self.orders.clone(),
                self.payments.clone(),
                self.dispatch.clone(),
                Arc::clone(&self.metrics),
                settings::orders(&self.config),
                sagas.clone(),
                draining.clone(),
            )
        })
    }

    fn history(&self) -> HistoryStore {
        HistoryStore::new(self.stores.postgres.clone(), self.instance.clone())
    }

    fn add_orders(&self, routes: &mut RoutesBuilder, limits: &Arc<edge::IngressLimits>, context: Arc<Context>) {
        let Lifecycle {
            sagas,
            workers,
            draining,
            stopping,
            ..
        } = &self.lifecycle;
        // In the partition of the pool for reads: who looks on takes no connection from those who work.
        let tracking = Tracking::new(
            self.orders.for_reads(),
            self.live.clone(),
            self.config.tracking.followers_max,
            self.config.limits.tenant_share,
            Arc::clone(&self.metrics),
            sagas.clone(),
            draining.clone(),
        );
        workers.spawn(sweeper::run(Arc::clone(&context)));
        workers.spawn(key_retention::run(Arc::clone(&context)));
        workers.spawn(hold_expiry::run(Arc::clone(&context)));
        let liveness = settings::driver_liveness(&self.config);
        if !liveness.timeout.is_zero() {
            let monitor = DriverLivenessMonitor::new(Arc::clone(&context), self.live.clone(), self.history(), liveness);
            workers.spawn(monitor.run());
        }
        let bytes_max = self.config.grpc.message_bytes_max;
        let api = TrackingApi::new(tracking.clone(), Arc::clone(limits));
        routes.add_service(TrackingServiceServer::new(api).max_decoding_message_size(bytes_max));
        let drivers = Drivers::new(
            self.orders.for_callers(),
            settings::drivers(&self.config),
            Arc::clone(&self.metrics),
            sagas.clone(),
            draining.clone(),
        );
        workers.spawn(drivers.clone().run(stopping.clone()));
        let api = DriverApi::new(drivers, Arc::clone(limits));
        routes.add_service(DriverServiceServer::new(api).max_decoding_message_size(bytes_max));
        let orders = OrderService::new(context);
        let api = OrderApi::new(orders.clone(), tracking, Arc::clone(limits));
        let service = OrderServiceServer::new(api).max_decoding_message_size(bytes_max);
        routes.add_service(ShedsLoad::new(service, orders, Arc::clone(limits)));
    }

    fn add_locations(&self, routes: &mut RoutesBuilder, limits: &Arc<edge::IngressLimits>) {
        if !self.runs(Service::Location) {
            return;
        }
        let Lifecycle {
            sagas,
            workers,
            draining,
            stopping,
            ..
        } = &self.lifecycle;
        let settings = settings::locations(&self.config);
        let ingest = Ingest::start(
            self.live.clone(),
            Arc::clone(&self.metrics),
            &settings,
            workers,
            stopping,
        );
        for shard in self.live.keys().shards() {
            let writer = HistoryWriter::new(
                self.live.clone(),
                self.history(),
                Arc::clone(&self.metrics),
                settings.clone(),
                shard.clone(),
            );
            workers.spawn(writer.run(stopping.clone()));
        }
        // In the callers' partition of the pool: a map takes no connection from those who work.
        let trails = TrailStore::new(self.stores.postgres.for_callers(), self.instance.clone());
        let drawer = Drawer::new(trails, Arc::clone(&self.metrics), self.config.web.trails_days);
        workers.spawn(drawer.run(stopping.clone()));
        workers.spawn(stale_drivers::run(self.live.clone(), stopping.clone()));
        let api = LocationApi::new(
            ingest,
            Arc::clone(limits),
            settings::location_limits(&self.config),
            sagas.clone(),
            draining.clone(),
        );
        routes
            .add_service(LocationServiceServer::new(api).max_decoding_message_size(self.config.grpc.message_bytes_max));
    }

    /// What browsers load; `None` without the console.
    pub fn pages(&self) -> std::io::Result<Option<Pages>> {
        if !self.config.web.console {
            return Ok(None);
        }
        let trails = TrailStore::new(self.stores.postgres.for_reads(), self.instance.clone());
        Ok(Some(Pages {
            assets: Assets::embedded()?,
            trails: Trails::new(trails, self.config.web.trails_days),
        }))
    }

    fn add_fleet(&self, routes: &mut RoutesBuilder, limits: &Arc<edge::IngressLimits>) {
        if !self.runs(Service::Fleet) {
            return;
        }
        let orders = self.orders.for_reads();
        let dispatch = settings::dispatch(&self.config, self.live.clone(), orders.clone());
        let Lifecycle { sagas, draining, .. } = &self.lifecycle;
        let feed = LiveFeed::new(
            self.live.clone(),
            orders.clone(),
            settings::live_feed(&self.config),
            Arc::clone(&self.metrics),
            sagas.clone(),
            draining.clone(),
        );
        let api = FleetApi::new(
            feed,
            self.live.clone(),
            orders,
            HistoryStore::new(self.stores.postgres.for_reads(), self.instance.clone()),
            dispatch,
            Arc::clone(limits),
            draining.clone(),
        );
        routes.add_service(FleetServiceServer::new(api).max_decoding_message_size(self.config.grpc.message_bytes_max));
    }

    fn add_operator(&self, routes: &mut RoutesBuilder, limits: &Arc<edge::IngressLimits>, readiness: &Arc<Readiness>) {
        if !self.runs(Service::Operator) {
            return;
        }
        // In the sagas' partition of the pool: operators call when there are too many other calls, too.
        let service = OperatorService::new(self.orders.clone(), self.payments.clone());
        let health = ServerHealth::new(Arc::clone(readiness), Arc::clone(&self.metrics));
        // In the callers' partition of the pool: it has time.
        let erasure = Erasure::new(
            self.orders.for_callers(),
            self.live.clone(),
            HistoryStore::new(self.stores.postgres.for_callers(), self.instance.clone()),
            grpc::rename_in_answer,
        );
        let api = OperatorApi::new(service, erasure, health, Arc::clone(limits));
        routes.add_service(AdminServiceServer::new(api).max_decoding_message_size(self.config.grpc.message_bytes_max));
    }
}

fn add_reflection(routes: &mut RoutesBuilder, bytes_max: usize) -> Result<(), StartError> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(waybill_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Both versions: the tools in use speak one or the other.
    let v1 = builder().build_v1().map_err(|_| StartError::Descriptors)?;
    routes.add_service(v1.max_decoding_message_size(bytes_max));
    let v1alpha = builder().build_v1alpha().map_err(|_| StartError::Descriptors)?;
    routes.add_service(v1alpha.max_decoding_message_size(bytes_max));
    Ok(())
}

/// The largest message to the health service, in bytes: the name of a service.
const HEALTH_MESSAGE_SIZE_MAX: usize = 1024;

/// A builder with the health service in it, and what reports to that.
pub(super) fn routes_with_health() -> (RoutesBuilder, HealthReporter) {
    let reporter = HealthReporter::new();
    let health = WatchedHealth(HealthService::from_health_reporter(reporter.clone()));
    let mut routes = Routes::builder();
    // Anyone may call it, without a token.
    routes.add_service(HealthServer::new(health).max_decoding_message_size(HEALTH_MESSAGE_SIZE_MAX));
    (routes, reporter)
}
