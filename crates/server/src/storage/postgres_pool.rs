//! The pool of connections to Postgres: how its sessions are set, and when one is looked at before it is lent again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    ClientWrapper, ConfigConnectImpl, Connect, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
};
use secrecy::SecretString;
use tokio::time::timeout;
use tokio_postgres::{NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use super::StoreError;
use super::error::NOT_AS_ASKED;
use super::password_file::{PasswordFile, WithPassword};
use super::postgres_hosts::{EachAddress, limit_of_all};
use super::postgres_url::parse_url;
use super::tls::StoreTlsFiles;

/// How Postgres is used. See `[postgres]` in `config/waybill.toml`.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database`
    pub url: SecretString,
    /// The file of the password; `None`: the URL has it, or none is asked for.
    pub password_file: Option<PasswordFile>,
    /// The files of TLS; `None`: plaintext.
    pub tls: Option<StoreTlsFiles>,
    /// Connections at most. Calls from outside share all but a quarter of them.
    pub pool_max: usize,
    /// How long a call from outside waits for a connection, and how long it may take to make one to one address.
    pub acquire_timeout: Duration,
    /// How long one statement may run, by the server.
    pub statement_timeout: Duration,
    /// How long one statement may wait for a lock, by the server.
    pub lock_timeout: Duration,
    /// Whether a server that takes no writes will do.
    pub may_be_standby: bool,
}

impl PostgresSettings {
    /// How long one whole call may take: a transaction of a few statements at their worst, and the wait for its
    /// connection.
    pub fn call_timeout(&self) -> Duration {
        self.acquire_timeout + 2 * self.statement_timeout
    }
}

/// How sessions plan: a statement once, which took a quarter of Postgres's time when each execution was planned for its parameters; and by
/// index, whatever statistics say. What reads whole tables says so (`audit`).
pub const PLANNER: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// A session makes its plans anew when it was used 2, 4, 8 times, and so on, and then each so many times. Postgres itself looks again at a table a
/// minute after it grew, and a plan for an empty table may read all of it, whatever its size is by then.
const USES_OF_PLANS: usize = 1024;

/// What sessions need whatever the database's own defaults are. Each transition of an order locks the rows that it reads.
const ISOLATION: &str = "-c default_transaction_isolation=read\\ committed";

/// When a connection that carries nothing is looked at, and after how long without an acknowledgement one that carries something is given up: an
/// address that a failover left behind says nothing any more.
const KEEPALIVE: Duration = Duration::from_secs(5);
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(8);

/// Why a session is not used: a standby, and a server that was demoted, are no place for this pool.
pub(super) const READ_ONLY: &str = "it takes no writes: a standby, or demoted";

/// When Postgres last did not answer. A failover leaves the open connections of an address without a word: each that is older than that is asked
/// before it is lent again.
#[derive(Debug, Default)]
pub(super) struct Silence(Mutex<Option<Instant>>);

impl Silence {
    /// There was no answer, as of now.
    pub(super) fn noticed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether there was since then.
    fn is_since(&self, then: Instant) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|at| at >= then)
    }
}

/// A setting of our own by which a session is known for one that this pool made and set. Each pool has a value of its own: settings of a role, of the
/// database, or of another client of a pooler cannot be taken for ours.
const MARK: &str = "waybill.session";

/// What a new session says of itself.
const OF_SESSION: &str = "select current_setting('transaction_read_only'), current_setting('waybill.session', true)";

/// Looks at a new session before it is used.
async fn look_at(session: &ClientWrapper, may_be_standby: bool, mark: &str) -> Result<(), HookError> {
    let answer = session.simple_query(OF_SESSION).await.map_err(HookError::Backend)?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let setting = |at| row.and_then(|row| row.get(at)).unwrap_or_default();
    if setting(0) == "on" && !may_be_standby {
        return Err(HookError::message(READ_ONLY));
    }
    // All that a session is set to goes together.
    if setting(1) != mark {
        return Err(HookError::message(NOT_AS_ASKED));
    }
    Ok(())
}

/// The pool, and one of a single connection, for pings alone.
pub(super) fn build(settings: &PostgresSettings, silence: &Arc<Silence>) -> Result<(Pool, Pool), StoreError> {
    let mark: Arc<str> = Uuid::now_v7().simple().to_string().into();
    let config = config(settings, &mark)?;
    let silence = Arc::clone(silence);
    let answer_max = settings.acquire_timeout;
    let create_max = limit_of_all(&config, settings.acquire_timeout);
    let may_be_standby = settings.may_be_standby;
    let look = || {
        let mark = Arc::clone(&mark);
        Hook::async_fn(move |session, _| {
            let mark = Arc::clone(&mark);
            Box::pin(async move {
                let looked = timeout(answer_max, look_at(session, may_be_standby, &mark)).await;
                looked.unwrap_or(Err(HookError::message("a new session does not answer")))
            })
        })
    };
    let pool = Pool::builder(manager(settings, &config)?)
        .max_size(settings.pool_max)
        .post_create(look())
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(settings.statement_timeout))
        .create_timeout(Some(create_max))
        .recycle_timeout(Some(settings.acquire_timeout))
        .pre_recycle(Hook::async_fn(move |client, metrics| {
            let is_due =
                plans_are_due(metrics.recycle_count) || silence.is_since(metrics.recycled.unwrap_or(metrics.created));
            Box::pin(async move {
                if is_due {
                    let asked = timeout(answer_max, client.batch_execute("discard plans")).await;
                    let answer = asked.map_err(|_| HookError::message("no answer"))?;
                    answer.map_err(HookError::Backend)?;
                }
                Ok(())
            })
        }))
        .build()
        .map_err(StoreError::unexpected)?;
    let pings = Pool::builder(manager(settings, &config)?)
        .max_size(1)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(settings.acquire_timeout))
        .create_timeout(Some(create_max))
        .post_create(look())
        .build();
    Ok((pool, pings.map_err(StoreError::unexpected)?))
}

/// How sessions are made, with this mark.
fn config(settings: &PostgresSettings, mark: &str) -> Result<tokio_postgres::Config, StoreError> {
    let mut config = parse_url(&settings.url, settings.tls.is_some())
        .map_err(|why| StoreError::unexpected(format!("postgres.url {why}")))?;
    config.connect_timeout(settings.acquire_timeout);
    config.application_name("waybill");
    config
        .keepalives_idle(KEEPALIVE)
        .keepalives_interval(KEEPALIVE / 2)
        .keepalives_retries(2)
        .tcp_user_timeout(UNACKNOWLEDGED_MAX);
    // `idle_in_transaction`: a worker that stops between two statements must not hold its locks for ever. Notices are of what was made
    // "if not exists", and no news. What the URL sets besides stays set.
    let of_url = config.get_options().unwrap_or_default().to_owned();
    config.options(format!(
            "{of_url} -c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=5000 -c client_min_messages=warning \
             -c {MARK}={mark} {ISOLATION} {}",
            settings.statement_timeout.as_millis(),
            settings.lock_timeout.as_millis(),
            PLANNER.map(|(name, value)| format!("-c {name}={value}")).join(" "),
        ));
    Ok(config)
}

/// What makes the connections.
fn manager(settings: &PostgresSettings, config: &tokio_postgres::Config) -> Result<Manager, StoreError> {
    Ok(match &settings.tls {
        Some(files) => {
            let tls = files.load().map_err(StoreError::unexpected)?;
            let tls = MakeRustlsConnect::new(tls.config);
            connecting(settings, config, ConfigConnectImpl { tls })
        }
        None => connecting(settings, config, ConfigConnectImpl { tls: NoTls }),
    })
}

fn connecting(
    settings: &PostgresSettings,
    config: &tokio_postgres::Config,
    connect: impl Connect + 'static,
) -> Manager {
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let connect = EachAddress::new(connect, settings.acquire_timeout, settings.may_be_standby);
    match settings.password_file.clone() {
        Some(file) => Manager::from_connect(config.clone(), WithPassword { file, connect }, recycling),
        None => Manager::from_connect(config.clone(), connect, recycling),
    }
}

/// Whether a session that was used so often makes its plans anew.
fn plans_are_due(uses: usize) -> bool {
    uses.is_power_of_two() || uses.is_multiple_of(USES_OF_PLANS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of(url: &str) -> tokio_postgres::Config {
        let settings = PostgresSettings {
            url: SecretString::from(url),
            password_file: None,
            tls: None,
            pool_max: 3,
            acquire_timeout: Duration::from_millis(250),
            statement_timeout: Duration::from_secs(2),
            lock_timeout: Duration::from_millis(500),
            may_be_standby: false,
        };
        config(&settings, "a-mark").unwrap()
    }

    /// An address that says nothing any more is given up within ten seconds, whether or not anything was sent there.
    #[test]
    fn a_connection_without_a_word_of_the_network_is_given_up_within_ten_seconds() {
        for url in [
            "postgres://w@db/w",
            "postgres://w@db/w?keepalives_idle=600&tcp_user_timeout=600",
        ] {
            let config = config_of(url);
            assert!(config.get_keepalives(), "{url}");
            let (interval, retries) = (config.get_keepalives_interval(), config.get_keepalives_retries());
            let silent_max = config.get_keepalives_idle() + interval.unwrap() * retries.unwrap();
            let unacknowledged_max = config.get_tcp_user_timeout().copied().unwrap();
            for limit in [silent_max, unacknowledged_max] {
                assert!(
                    limit > Duration::ZERO && limit <= Duration::from_secs(10),
                    "{url}: {limit:?}"
                );
            }
        }
    }

    /// Of two values for one setting Postgres takes the later one.
    #[test]
    fn what_the_url_sets_comes_first_and_what_sessions_need_after_it() {
        let url = "postgres://w@db/w?options=-c%20work_mem%3D7MB%20-c%20statement_timeout%3D77s%20-c%20jit%3Don";
        let config = config_of(url);
        let options = config.get_options().unwrap();
        assert!(
            options.starts_with("-c work_mem=7MB -c statement_timeout=77s -c jit=on "),
            "{options}"
        );
        let last = |name: &str| {
            let settings = options.split("-c ").filter_map(|setting| setting.split_once('='));
            let values = settings.filter(|(set, _)| *set == name).map(|(_, value)| value.trim());
            values.last()
        };
        for (name, value) in [
            ("work_mem", "7MB"),
            ("statement_timeout", "2000"),
            ("lock_timeout", "500"),
            ("idle_in_transaction_session_timeout", "5000"),
            ("default_transaction_isolation", "read\\ committed"),
            ("jit", "off"),
            (MARK, "a-mark"),
        ] {
            assert_eq!(last(name), Some(value), "{name} in {options}");
        }
    }
}
