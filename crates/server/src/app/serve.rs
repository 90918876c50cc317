//! Puts the parts of a server on their listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tonic::service::Routes;
use tower::Layer;
use tower::layer::layer_fn;
use tracing::{error, info, warn};

use super::build::{Parts, routes_with_health};
use super::lifecycle::Lifecycle;
use super::{Addresses, App, StartError, Stores, settings};
use crate::config::Config;
use crate::grpc::METHODS;
use crate::grpc::edge::{self, Front, LayeredRoutes, Speaks};
use crate::http;
use crate::identity::{ApiKeys, Identity, TokenVerifier, TrustedKeys};
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::reload;
use crate::storage::api_keys::ApiKeyStore;
use crate::storage::migrations::{self, SchemaState};
use crate::storage::postgres::Postgres;
use crate::tls::ServerTls;
use crate::web::{self, Pages};

impl App {
    /// Starts a server. When this returns it answers calls.
    pub async fn start(config: Config) -> Result<App, StartError> {
        config.check_serving()?;
        let metrics = Arc::new(Metrics::new(METHODS));
        let tls = match settings::tls(&config) {
            Some(files) => Some(ServerTls::load(files, metrics.tls.clone()).await?),
            None => None,
        };
        let keys = match settings::key_source(&config)? {
            Some(source) => Some(TrustedKeys::load(source, metrics.auth.key_reads("auth.keys")).await?),
            None => None,
        };
        for setting in config.plaintext_stores() {
            warn!(
                setting,
                "a store on another machine is spoken to in plaintext, passwords included"
            );
        }
        let stores = Stores::with_metrics(&config, &metrics.dependencies).map_err(StartError::Store)?;
        check_schema(&stores.postgres).await?;
        if !config.http.addr.ip().is_loopback() && config.http.token.expose_secret().is_empty() {
            warn!(
                "http.addr can be reached from other machines, and http.token is empty: /metrics is for everyone there"
            );
        }
        let api_keys = if config.auth.anonymous {
            None
        } else {
            let store = ApiKeyStore::new(stores.postgres.clone());
            Some(
                ApiKeys::load(store, &config.tenants.names, metrics.auth.key_reads("api_keys"))
                    .await
                    .map_err(StartError::Store)?,
            )
        };
        let parts = Parts::new(config, stores, metrics)?;
        parts.register_payment_accounts().await.map_err(StartError::Store)?;
        // Bound before any worker runs: a second process on the same ports touches nothing.
        let grpc = http::bind(parts.config.grpc.addr, "--grpc-addr").await?;
        let ops = http::bind(parts.config.http.addr, "--http-addr").await?;
        let orders = parts.orders();
        let webhooks = match parts.payment_webhooks(orders.as_ref()) {
            Some(webhooks) => {
                let listener = http::bind(parts.config.webhooks.addr, "--webhooks-addr").await?;
                Some((listener, webhooks))
            }
            None => None,
        };
        let web = match parts.config.web.addr {
            Some(addr) => Some(http::bind(addr, "--web-addr").await?),
            None => None,
        };
        let addresses = Addresses {
            grpc: local(&grpc, parts.config.grpc.addr),
            http: local(&ops, parts.config.http.addr),
            webhooks: webhooks
                .as_ref()
                .map(|(listener, _)| local(listener, parts.config.webhooks.addr)),
            web: web.as_ref().and_then(|listener| listener.local_addr().ok()),
        };

        let (mut routes, reporter) = routes_with_health();
        let health_monitor = parts.start_health_monitor(reporter).await;
        let probes = parts.probes(&health_monitor, keys.clone());
        let readiness = Arc::new(Readiness::new(probes, parts.lifecycle.unready.clone()));
        parts.start_services(&mut routes, &readiness, orders)?;
        let Lifecycle { workers, stopping, .. } = &parts.lifecycle;
        if let Some(tls) = tls.clone() {
            workers.spawn(reload::follow(tls, reload::READ_EVERY, stopping.clone()));
        }
        if let Some(keys) = keys.clone() {
            workers.spawn(keys.follow(stopping.clone()));
        }
        let identity = match api_keys {
            Some(api_keys) => {
                if keys.is_none() && api_keys.count() == 0 {
                    warn!("no one can call: make an API key with `waybill keys create`, or set auth.keys");
                }
                workers.spawn(reload::follow(api_keys.clone(), reload::READ_EVERY, stopping.clone()));
                let verifier = |keys| TokenVerifier::new(settings::token_rules(&parts.config), keys);
                Identity::Known {
                    tokens: keys.clone().map(verifier),
                    api_keys,
                }
            }
            None => Identity::Anonymous,
        };
        let routes = routes.routes();
        let proxies = Arc::new(settings::proxies(&parts.config));
        let layers = edge::layers(
            Arc::clone(&parts.metrics),
            settings::deadlines(&parts.config),
            identity,
            Arc::clone(&proxies),
        );
        let front = Front {
            tls: tls.clone(),
            speaks: Speaks::Http2,
            proxies,
            proxy_protocol: parts.config.grpc.proxy_protocol,
        };
        let mut cut_grpc = vec![parts.serve_grpc(grpc, routes.clone(), layers.clone(), front.clone())];
        if let Some(listener) = web {
            let pages = parts.pages().map_err(StartError::Pages)?;
            let front = Front {
                speaks: Speaks::Either,
                proxy_protocol: parts.config.web.proxy_protocol,
                ..front
            };
            cut_grpc.push(parts.serve_web(listener, pages, routes, layers, front));
        }
        let ops_router = http::ops::router(Arc::clone(&parts.metrics), readiness, parts.config.http.token.clone());
        // Private, and for machines that expect no certificate.
        parts.serve_http(ops, ops_router, None);
        if let Some((listener, webhooks)) = webhooks {
            parts.serve_http(listener, http::webhooks::router(&webhooks, &parts.metrics), tls);
        }
        let webhooks = addresses.webhooks.map(tracing::field::display);
        let web = addresses.web.map(tracing::field::display);
        info!(grpc = %addresses.grpc, http = %addresses.http, webhooks, web, "waybill serves");
        Ok(App {
            addresses,
            postgres: parts.stores.postgres,
            health_monitor,
            lifecycle: parts.lifecycle,
            config: parts.config,
            cut_grpc,
        })
    }
}

impl Parts {
    fn serve_grpc(
        &self,
        listener: TcpListener,
        routes: Routes,
        layers: impl Layer<Routes, Service = LayeredRoutes> + Clone + Send + 'static,
        front: Front,
    ) -> AbortHandle {
        let limits = settings::connections(&self.config, self.config.grpc.connections_per_address_max);
        let connections = edge::incoming(listener, limits, Arc::clone(&self.metrics), front);
        let mut server = edge::server_builder(&settings::http2(&self.config)).layer(layers);
        let draining = self.lifecycle.draining.clone().cancelled_owned();
        let serving = server
            .add_routes(routes)
            .serve_with_incoming_shutdown(connections, draining);
        self.spawn_server("gRPC", serving)
    }

    /// Serves browsers: pages, and by gRPC-Web the same services behind the same layers.
    fn serve_web(
        &self,
        listener: TcpListener,
        pages: Option<Pages>,
        routes: Routes,
        layers: impl Layer<Routes, Service = LayeredRoutes> + Clone + Send + 'static,
        front: Front,
    ) -> AbortHandle {
        let limits = settings::connections(&self.config, self.config.web.connections_per_address_max);
        let connections = edge::incoming(listener, limits, Arc::clone(&self.metrics), front);
        let settings = settings::web(&self.config);
        let mut server = edge::server_builder(&settings::http2(&self.config))
            .accept_http1(true)
            .layer(layer_fn(move |routes| {
                web::router(&settings, pages.as_ref(), layers.layer(routes).by_grpc_web())
            }));
        let draining = self.lifecycle.draining.clone().cancelled_owned();
        let serving = server
            .add_routes(routes)
            .serve_with_incoming_shutdown(connections, draining);
        self.spawn_server("web", serving)
    }

    /// Runs a server until it is drained; what cuts it.
    fn spawn_server(
        &self,
        name: &'static str,
        serving: impl Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
    ) -> AbortHandle {
        let task = self.lifecycle.grpc.spawn(async move {
            if let Err(error) = serving.await {
                error!(%error, server = name, "a server ended");
            }
        });
        task.abort_handle()
    }

    fn serve_http(&self, listener: TcpListener, router: Router, tls: Option<ServerTls>) {
        let served = http::serve(listener, router, tls, self.lifecycle.stopping.clone().cancelled_owned());
        self.lifecycle.http.spawn(async move {
            if let Err(error) = served.await {
                error!(%error, "HTTP server ended");
            }
        });
    }
}

async fn check_schema(postgres: &Postgres) -> Result<(), StartError> {
    match migrations::schema_state(postgres).await.map_err(StartError::Store)? {
        SchemaState::Current => Ok(()),
        SchemaState::Newer { unknown } => {
            info!(
                unknown,
                "the database's schema is newer than this program, which runs on it"
            );
            Ok(())
        }
        SchemaState::Behind { pending } => Err(StartError::SchemaBehind { pending }),
        SchemaState::Foreign { why } => Err(StartError::SchemaForeign { why }),
    }
}

/// The address that was really taken: with port 0, the system chose it.
fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}
