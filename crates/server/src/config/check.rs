//! What must hold of the settings together, or of one beyond its type.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{Auth, Config, ConfigError, Service, Tls};
use crate::grpc::edge;
use crate::storage::postgres::POOL_MIN;
use crate::web::{tile_origin, web_origin};

/// A client may repeat a request for a day, as with the payment provider's own keys: a repeat that comes after its key
/// expired is a second order.
const KEY_RETENTION_MIN: Duration = Duration::from_hours(24);

impl Config {
    /// The keys of counts that are 0 and must not be.
    fn zeros(&self) -> impl Iterator<Item = &'static str> {
        let counts: [(&'static str, usize); 16] = [
            ("payments.in_flight_max", self.payments.in_flight_max),
            ("orders.candidates", self.orders.candidates),
            ("orders.sweep_batch", self.orders.sweep_batch),
            ("orders.in_flight_max", self.orders.in_flight_max),
            ("orders.watchers_max", self.orders.watchers_max),
            ("orders.assignment_watchers_max", self.orders.assignment_watchers_max),
            ("tracking.followers_max", self.tracking.followers_max),
            ("locations.batch_max", self.locations.batch_max),
            ("locations.queue_max", self.locations.queue_max),
            ("locations.history_batch_max", self.locations.history_batch_max),
            ("locations.streams_max", self.locations.streams_max),
            ("locations.watchers_max", self.locations.watchers_max),
            ("locations.watch_area_max", self.locations.watch_area_max),
            ("grpc.connections_max", self.grpc.connections_max),
            (
                "grpc.connections_per_address_max",
                self.grpc.connections_per_address_max,
            ),
            ("web.connections_per_address_max", self.web.connections_per_address_max),
        ];
        counts.into_iter().filter(|(_, count)| *count == 0).map(|(key, _)| key)
    }

    /// Whether the gRPC services, or the webhooks, can be reached from other machines.
    fn is_public(&self) -> bool {
        let webhooks = self.payments.receives_webhooks() && self.grpc.services.contains(&Service::Order);
        let web = self.web.addr.is_some_and(|addr| !addr.ip().is_loopback());
        !self.grpc.addr.ip().is_loopback() || web || webhooks && !self.webhooks.addr.ip().is_loopback()
    }

    /// What must hold of a server, and not of the commands that only read its stores: who may reach it, and how it knows
    /// them.
    pub fn check_serving(&self) -> Result<(), ConfigError> {
        self.check_tls()?;
        let Auth {
            keys,
            issuer,
            audience,
            anonymous,
            ..
        } = &self.auth;
        // An address may have a key of its own in its query.
        let has_keys = !keys.expose_secret().is_empty();
        let (key, why) = match (has_keys, anonymous) {
            (false, false) if !issuer.is_empty() => (
                "auth.keys",
                "must name the file with the public keys (JWKS) of auth.issuer",
            ),
            (false, true) if !self.grpc.addr.ip().is_loopback() => {
                ("auth.anonymous", "must be false where grpc.addr is no loopback address")
            }
            (false, true) if self.web.addr.is_some_and(|addr| !addr.ip().is_loopback()) => {
                ("auth.anonymous", "must be false where web.addr is no loopback address")
            }
            (true, true) => ("auth.anonymous", "must be false where auth.keys is set"),
            (true, false) if issuer.is_empty() => ("auth.issuer", "must be the iss of the tokens"),
            (true, false) if audience.is_empty() => ("auth.audience", "must be the aud of the tokens"),
            _ => return Ok(()),
        };
        Err(ConfigError::Value {
            key: key.into(),
            why: why.to_owned(),
        })
    }

    /// Whoever can be reached from other machines speaks TLS, or says that it ends before.
    pub(super) fn check_tls(&self) -> Result<(), ConfigError> {
        let Tls {
            cert,
            key,
            client_ca,
            plaintext,
        } = &self.tls;
        let is_set = |path: &Path| !path.as_os_str().is_empty();
        let (key_name, why) = match (is_set(cert), is_set(key), is_set(client_ca)) {
            (true, false, _) => ("tls.key", "must name the key of tls.cert"),
            (false, true, _) => ("tls.cert", "must name the certificate of tls.key"),
            (false, _, true) => ("tls.cert", "must be set where tls.client_ca is"),
            (true, true, _) if *plaintext => ("tls.plaintext", "must be false where tls.cert is set"),
            (false, false, false) if !plaintext && self.is_public() => (
                "tls.cert",
                "and tls.key must be set where grpc.addr, web.addr or webhooks.addr is no loopback address; or say with \
                 tls.plaintext = true that TLS ends before this server",
            ),
            _ => return Ok(()),
        };
        Err(ConfigError::Value {
            key: key_name.into(),
            why: why.to_owned(),
        })
    }

    /// What browsers would not understand.
    fn check_web(&self) -> Result<(), ConfigError> {
        let bad = |key: &'static str, why: String| Err(ConfigError::Value { key: key.into(), why });
        for origin in &self.web.origins {
            if web_origin(origin).is_none() {
                let why = format!("has {origin:?}, which is no origin such as \"https://app.example.com\"");
                return bad("web.origins", why);
            }
        }
        if !self.web.tiles.is_empty() && tile_origin(&self.web.tiles).is_none() {
            let why = "must be an address such as \"https://tiles.example.com/{z}/{x}/{y}.png\"".to_owned();
            return bad("web.tiles", why);
        }
        Ok(())
    }

    /// Who is believed about the address of a caller.
    fn check_proxies(&self) -> Result<(), ConfigError> {
        let bad = |key: &'static str, why: String| Err(ConfigError::Value { key: key.into(), why });
        let trusted = &self.proxies.trusted;
        if let Some(other) = trusted.iter().find(|text| edge::network(text).is_none()) {
            let why = format!("has {other:?}, which is no network such as \"10.0.0.0/8\" or \"fd00::/8\"");
            return bad("proxies.trusted", why);
        }
        let listeners = [
            ("grpc.proxy_protocol", self.grpc.proxy_protocol),
            ("web.proxy_protocol", self.web.proxy_protocol),
        ];
        match listeners.into_iter().find(|(_, is_on)| *is_on && trusted.is_empty()) {
            Some((key, _)) => bad(key, "must be false where proxies.trusted names no network".to_owned()),
            None => Ok(()),
        }
    }

    /// What no single value shows.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let bad = |key: &'static str, why: &str| {
            Err(ConfigError::Value {
                key: key.into(),
                why: why.to_owned(),
            })
        };
        if let Some(key) = self.zeros().next() {
            return bad(key, "must be at least 1");
        }
        if self.postgres.pool_max < POOL_MIN {
            return bad(
                "postgres.pool_max",
                "must be at least 3: for calls that do something, for those that only read, and for sagas",
            );
        }
        if self.grpc.services.is_empty() {
            return bad(
                "grpc.services",
                "must name at least one of order, location, fleet, operator",
            );
        }
        self.check_payments()?;
        self.check_web()?;
        self.check_proxies()?;
        self.check_stores()?;
        if self.redis.shards == 0 {
            return bad("redis.shards", "must be at least 1");
        }
        // Also false for what is not a number.
        if !(self.limits.tenant_share > 0.0 && self.limits.tenant_share <= 1.0) {
            return bad("limits.tenant_share", "must be a number above 0 and up to 1");
        }
        if !(self.locations.caller_share > 0.0 && self.locations.caller_share <= 1.0) {
            return bad("locations.caller_share", "must be a number above 0 and up to 1");
        }
        if !(self.orders.assignment_radius_m.is_finite() && self.orders.assignment_radius_m > 0.0) {
            return bad(
                "orders.assignment_radius_m",
                "must be a number of metres greater than 0",
            );
        }
        if self.payments.total_timeout.0 + 2 * self.postgres.statement_timeout.0 > self.orders.lease.0 {
            return bad(
                "orders.lease",
                "must be at least payments.total_timeout and two statement timeouts long",
            );
        }
        if self.orders.key_retention.0 < KEY_RETENTION_MIN {
            return bad("orders.key_retention", "must be at least 24h");
        }
        if self.orders.settle_within.0.is_zero() {
            return bad("orders.settle_within", "must be longer than nothing");
        }
        if self.orders.hold_max.0.is_zero() {
            return bad("orders.hold_max", "must be longer than nothing");
        }
        if self.orders.sweep_interval.0.is_zero() {
            return bad("orders.sweep_interval", "must be longer than nothing");
        }
        if self.orders.key_expiry_interval.0.is_zero() {
            return bad("orders.key_expiry_interval", "must be longer than nothing");
        }
        if self.locations.retention_days < 2 {
            return bad("locations.retention_days", "must be at least 2");
        }
        // A stream that is full of stored entries would never have room again.
        if self.locations.high_water < self.locations.kept_max() {
            return bad(
                "locations.high_water",
                "must be at least locations.keep_stored, locations.history_batch_max and 100 together",
            );
        }
        let otlp = &self.telemetry.otlp_endpoint;
        if !otlp.is_empty() && !otlp.starts_with("http://") {
            return bad("telemetry.otlp_endpoint", "must be empty or begin with http://");
        }
        if self.drain.unready.0 + self.drain.work.0 > self.drain.hard_stop.0 {
            return bad(
                "drain.hard_stop",
                "must be at least drain.unready and drain.work together",
            );
        }
        Ok(())
    }
}
