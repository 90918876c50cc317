//! What must hold of the stores' URLs, and of TLS with them.

use super::{Config, ConfigError, StoreTlsMode};
use crate::storage::password_file::PasswordFile;
use crate::storage::tls::{self, StoreTlsFiles};
use crate::storage::{postgres_url, redis};
use crate::tls::TlsError;

/// Of `redis.key_prefix`, in bytes: it is in each key.
const KEY_PREFIX_MAX: usize = 32;

impl Config {
    /// The TLS of the connections to Postgres; `None`: they have none.
    pub fn postgres_tls(&self) -> Option<StoreTlsFiles> {
        (self.postgres.tls == StoreTlsMode::Verify).then(|| self.postgres_files())
    }

    /// The TLS of the connection to Redis, which its URL asks for; `None`: it has none.
    pub fn redis_tls(&self) -> Option<StoreTlsFiles> {
        redis::asks_for_tls(&self.redis.url).then(|| self.redis_files())
    }

    /// The file of the password of Postgres; `None`: there is none.
    pub fn postgres_password(&self) -> Option<PasswordFile> {
        PasswordFile::new("postgres.password_file", &self.postgres.password_file)
    }

    /// The file of the password of Redis; `None`: there is none.
    pub fn redis_password(&self) -> Option<PasswordFile> {
        PasswordFile::new("redis.password_file", &self.redis.password_file)
    }

    /// The settings whose store is on another machine and spoken to in plaintext, passwords and all.
    pub fn plaintext_stores(&self) -> Vec<&'static str> {
        let postgres = self.postgres.tls == StoreTlsMode::Off && postgres_url::is_remote(&self.postgres.url);
        let redis = self.redis_tls().is_none() && redis::is_remote(&self.redis.url);
        let settings = [(postgres, "postgres.tls"), (redis, "redis.url")];
        settings
            .into_iter()
            .filter_map(|(is_so, setting)| is_so.then_some(setting))
            .collect()
    }

    pub(super) fn check_stores(&self) -> Result<(), ConfigError> {
        let bad = |key: &'static str, why: &str| ConfigError::Value {
            key: key.into(),
            why: why.to_owned(),
        };
        let postgres_tls = self.postgres_tls();
        postgres_url::parse_url(&self.postgres.url, postgres_tls.is_some()).map_err(|why| bad("postgres.url", why))?;
        let nodes = redis::parse_urls(&self.redis.url).map_err(|why| bad("redis.url", why))?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ":._-".contains(c);
        if self.redis.key_prefix.len() > KEY_PREFIX_MAX || !self.redis.key_prefix.chars().all(is_plain) {
            let why = format!("must be letters, digits and : . _ -, {KEY_PREFIX_MAX} of them at most");
            return Err(bad("redis.key_prefix", &why));
        }
        if nodes.len() > 1 && !self.redis.cluster {
            return Err(bad("redis.url", "must name one Redis where redis.cluster is false"));
        }
        if self.redis.cluster
            && nodes
                .iter()
                .any(|node| node.get_connection_info().redis_settings().db() != 0)
        {
            return Err(bad(
                "redis.url",
                "must name no database but 0 where redis.cluster is true: a cluster has no other",
            ));
        }
        if self.redis.cluster && self.redis.shards == 1 {
            let why = "must be 2 or more where redis.cluster is true, some times the number of masters, such as 8 for three: \
                       the plain names of one shard are in slots of their own";
            return Err(bad("redis.shards", why));
        }
        let redis_tls = self.redis_tls();
        // Whoever names certificates means to have them looked at.
        if postgres_tls.is_none() && !self.postgres_files().is_empty() {
            let why = "must be \"verify\" where postgres.ca, postgres.client_cert or postgres.client_key is set";
            return Err(bad("postgres.tls", why));
        }
        if redis_tls.is_none() && !self.redis_files().is_empty() {
            let why = "must begin with rediss:// where redis.ca, redis.client_cert or redis.client_key is set";
            return Err(bad("redis.url", why));
        }
        let passwords = [
            (
                "postgres.password_file",
                self.postgres_password(),
                postgres_url::has_password(&self.postgres.url),
            ),
            (
                "redis.password_file",
                self.redis_password(),
                redis::has_password(&self.redis.url),
            ),
        ];
        for (key, file, is_in_url) in passwords {
            let Some(file) = file else { continue };
            if is_in_url {
                return Err(bad(key, "must be empty where the URL has a password"));
            }
            file.check().map_err(|why| bad(key, &why))?;
        }
        for files in [postgres_tls, redis_tls].into_iter().flatten() {
            files
                .check()
                .map_err(|TlsError { key, why }| ConfigError::Value { key: key.into(), why })?;
        }
        Ok(())
    }

    fn postgres_files(&self) -> StoreTlsFiles {
        let settings = &self.postgres;
        StoreTlsFiles {
            keys: tls::POSTGRES,
            ca: settings.ca.clone(),
            client_cert: settings.client_cert.clone(),
            client_key: settings.client_key.clone(),
        }
    }

    fn redis_files(&self) -> StoreTlsFiles {
        let settings = &self.redis;
        StoreTlsFiles {
            keys: tls::REDIS,
            ca: settings.ca.clone(),
            client_cert: settings.client_cert.clone(),
            client_key: settings.client_key.clone(),
        }
    }
}
