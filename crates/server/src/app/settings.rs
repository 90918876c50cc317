//! From the configuration to the settings of each part, so that no part knows the whole.

use std::path::PathBuf;

use secrecy::ExposeSecret as _;
use uuid::Uuid;
use waybill_domain::fix::{Freshness, TimeWindow};

use crate::config::{Bucket, Config, ForwardedHeaderName, HoldExpiryName};
use crate::drivers::DriversSettings;
use crate::grpc::{LocationLimits, STREAMS, edge};
use crate::identity::{KeySource, KeysError, TokenRules};
use crate::live_feed::LiveFeedSettings;
use crate::locations::LocationSettings;
use crate::locations::buffer_shares::BufferSize;
use crate::orders::workers::driver_liveness::DriverLivenessSettings;
use crate::orders::workers::hold_expiry::HoldExpiry;
use crate::orders::{Dispatch, OrderSettings};
use crate::storage::keys::Keys;
use crate::storage::live::{LiveSettings, LiveStore};
use crate::storage::orders::{OrderStore, OrderStoreSettings};
use crate::storage::postgres::PostgresSettings;
use crate::storage::redis::RedisSettings;
use crate::tls::TlsFiles;
use crate::web::{Tiles, WebSettings, tile_origin, web_origin};

/// A name for this process, in every step that it logs: unique, since two instances may share a host and a pid may
/// come again.
pub fn instance_name() -> String {
    let id = Uuid::now_v7().simple().to_string();
    // The end of a UUIDv7 is random, its beginning is the time.
    format!("{}-{}", std::process::id(), id.get(24..).unwrap_or_default())
}

pub fn postgres(config: &Config) -> PostgresSettings {
    let settings = &config.postgres;
    PostgresSettings {
        url: settings.url.clone(),
        password_file: config.postgres_password(),
        tls: config.postgres_tls(),
        pool_max: settings.pool_max,
        acquire_timeout: settings.acquire_timeout.0,
        statement_timeout: settings.statement_timeout.0,
        lock_timeout: settings.lock_timeout.0,
        may_be_standby: false,
    }
}

pub fn keys(config: &Config) -> Keys {
    Keys::new(&config.redis.key_prefix, config.redis.shards, &config.tenants.names)
}

pub fn redis(config: &Config) -> RedisSettings {
    let settings = &config.redis;
    RedisSettings {
        url: settings.url.clone(),
        password_file: config.redis_password(),
        tls: config.redis_tls(),
        connect_timeout: settings.connect_timeout.0,
        command_timeout: settings.command_timeout.0,
        written: keys(config).written(settings.cluster),
        cluster: settings.cluster,
        replicas: settings.replicas,
    }
}

fn freshness(config: &Config) -> Freshness {
    Freshness {
        ttl: config.locations.ttl.0,
        live_age_max: config.locations.live_age_max.0,
    }
}

pub fn live(config: &Config) -> LiveSettings {
    LiveSettings {
        freshness: freshness(config),
        high_water: config.locations.high_water,
    }
}

pub fn live_feed(config: &Config) -> LiveFeedSettings {
    LiveFeedSettings {
        watchers_max: config.locations.watchers_max,
        area_max: config.locations.watch_area_max,
        tenant_share: config.limits.tenant_share,
        freshness: freshness(config),
    }
}

pub fn drivers(config: &Config) -> DriversSettings {
    DriversSettings {
        watchers_max: config.orders.assignment_watchers_max,
        tenant_share: config.limits.tenant_share,
    }
}

pub fn order_store(config: &Config, instance: String) -> OrderStoreSettings {
    OrderStoreSettings {
        instance,
        lease_secs: config.orders.lease.0.as_secs_f64(),
    }
}

pub fn orders(config: &Config) -> OrderSettings {
    let settings = &config.orders;
    OrderSettings {
        settle_within: settings.settle_within.0,
        assignment_window: settings.assignment_window.0,
        search_outage_max: settings.search_outage_max.0,
        renew_lease_every: settings.lease.0 / 3,
        sweep_interval: settings.sweep_interval.0,
        sweep_batch: settings.sweep_batch,
        key_retention: settings.key_retention.0,
        key_expiry_interval: settings.key_expiry_interval.0,
        hold_max: settings.hold_max.0,
        hold_expiry: match settings.hold_expiry {
            HoldExpiryName::Capture => HoldExpiry::Capture,
            HoldExpiryName::Release => HoldExpiry::Release,
        },
        charge_wait_max: settings.charge_wait_max.0,
        in_flight_max: settings.in_flight_max,
        watchers_max: settings.watchers_max,
        tenant_share: config.limits.tenant_share,
        payment_timeout: config.payments.total_timeout.0,
    }
}

pub fn driver_liveness(config: &Config) -> DriverLivenessSettings {
    DriverLivenessSettings {
        timeout: config.orders.driver_liveness_timeout.0,
        ttl: config.locations.ttl.0,
    }
}

pub fn dispatch(config: &Config, live: LiveStore, store: OrderStore) -> Dispatch {
    Dispatch::new(live, store, config.orders.assignment_radius_m, config.orders.candidates)
}

pub fn locations(config: &Config) -> LocationSettings {
    let settings = &config.locations;
    LocationSettings {
        batch_max: settings.batch_max,
        buffer: BufferSize {
            kept_max: settings.kept_max(),
            high_water: settings.high_water,
            caller_share: settings.caller_share,
        },
        queue_max: settings.queue_max,
        history_batch_max: settings.history_batch_max,
        history_poll: settings.history_poll.0,
        keep_stored: settings.keep_stored,
        retention_days: settings.retention_days,
    }
}

pub fn location_limits(config: &Config) -> LocationLimits {
    LocationLimits {
        window: TimeWindow {
            future_max: config.locations.future_max.0,
            age_max: config.locations.age_max.0,
        },
        idle_max: config.grpc.stream_idle_max.0,
        streams_max: config.locations.streams_max,
        tenant_share: config.limits.tenant_share,
    }
}

pub fn ingress(config: &Config) -> edge::IngressSettings {
    let limits = &config.limits;
    let rate = |bucket: &Bucket| edge::Rate::new(bucket.per_second, bucket.burst);
    let class = |principal, all| edge::ClassLimit {
        principal: rate(principal),
        all: rate(all),
    };
    edge::IngressSettings {
        orders: class(&limits.orders_per_user, &limits.orders_in_all),
        completions: class(&limits.completions_per_caller, &limits.completions_in_all),
        reads: class(&limits.reads_per_caller, &limits.reads_in_all),
        fixes: class(&limits.fixes_per_driver, &limits.fixes_in_all),
        links: class(&limits.links_per_caller, &limits.links_in_all),
        tenant_share: limits.tenant_share,
        wait_max: limits.wait_max.0,
    }
}

/// Of a listener of which one address may have so many.
pub fn connections(config: &Config, per_address_max: usize) -> edge::ConnectionLimits {
    edge::ConnectionLimits {
        connections_max: config.grpc.connections_max,
        connections_per_address_max: per_address_max,
        ..edge::ConnectionLimits::default()
    }
}

pub fn proxies(config: &Config) -> edge::Proxies {
    let settings = &config.proxies;
    edge::Proxies {
        // All were checked when they were read.
        trusted: settings.trusted.iter().filter_map(|text| edge::network(text)).collect(),
        header: match settings.header {
            ForwardedHeaderName::XForwardedFor => Some(edge::ForwardedHeader::XForwardedFor),
            ForwardedHeaderName::Forwarded => Some(edge::ForwardedHeader::Forwarded),
            ForwardedHeaderName::None => None,
        },
    }
}

pub fn web(config: &Config) -> WebSettings {
    let settings = &config.web;
    // Both were checked when they were read.
    let tiles = tile_origin(&settings.tiles).map(|origin| Tiles {
        url: settings.tiles.clone(),
        origin,
        attribution: settings.tiles_attribution.clone(),
    });
    WebSettings {
        origins: settings
            .origins
            .iter()
            .filter_map(|origin| web_origin(origin))
            .collect(),
        tiles,
        this_machine_only: config.auth.anonymous,
    }
}

/// What the tokens of callers must say.
pub fn token_rules(config: &Config) -> TokenRules {
    let settings = &config.auth;
    TokenRules {
        issuer: settings.issuer.clone(),
        audience: settings.audience.clone(),
        age_max: settings.token_age_max.0,
        tenants: config.tenants.names.clone(),
    }
}

/// Where the keys of tokens are. `None`: no token is trusted.
pub fn key_source(config: &Config) -> Result<Option<KeySource>, KeysError> {
    let setting = config.auth.keys.expose_secret();
    (!setting.is_empty()).then(|| KeySource::parse(setting)).transpose()
}

/// `None`: the listeners speak no TLS.
pub fn tls(config: &Config) -> Option<TlsFiles> {
    let settings = &config.tls;
    let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
    is_set(&settings.cert).then(|| TlsFiles {
        cert: settings.cert.clone(),
        key: settings.key.clone(),
        client_ca: Some(settings.client_ca.clone()).filter(is_set),
    })
}

pub fn http2(config: &Config) -> edge::Http2Limits {
    edge::Http2Limits {
        concurrent_streams_max: config.grpc.streams_per_connection_max,
        ..edge::Http2Limits::default()
    }
}

pub fn deadlines(config: &Config) -> edge::DeadlineSettings {
    edge::DeadlineSettings {
        default: config.grpc.deadline_default.0,
        max: config.grpc.deadline_max.0,
        streams: STREAMS,
    }
}
