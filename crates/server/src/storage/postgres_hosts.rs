//! Several hosts in `postgres.url`, and several addresses of one: each has a limit for all that makes a session, so that one which accepts and says
//! nothing keeps no one from the next. The driver alone has a limit for the first step, and one after the other within it.

use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::future::{BoxFuture, join_all};
use tokio::net::lookup_host;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Error};

/// So many addresses of one name have their time in one attempt, such as one of each family. The next attempt begins with those after them.
const ADDRESSES_MAX: usize = 2;
const DEFAULT_PORT: u16 = 5432;

/// Makes sessions with the first address that takes one, and begins with the one that did so last.
pub(super) struct EachAddress<C> {
    connect: C,
    /// Of each address.
    limit: Duration,
    /// Whether a server that takes no writes will do.
    may_be_standby: bool,
    next: AtomicUsize,
}

/// Where a server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    host: Option<Host>,
    address: Option<IpAddr>,
    port: u16,
}

impl<C> EachAddress<C> {
    pub(super) fn new(connect: C, limit: Duration, may_be_standby: bool) -> EachAddress<C> {
        EachAddress {
            connect,
            limit,
            may_be_standby,
            next: AtomicUsize::new(0),
        }
    }
}

impl<C: Connect> Connect for EachAddress<C> {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let config = config.clone();
        Box::pin(async move {
            let candidates = candidates(&config, self.limit).await;
            if candidates.len() < 2 {
                return self.connect.connect(&config).await;
            }
            let begin = self.next.load(Ordering::Relaxed);
            let mut failed = None;
            for n in 0..tries(&config).min(candidates.len()) {
                let at = begin.wrapping_add(n) % candidates.len();
                let Some(candidate) = candidates.get(at) else { break };
                // Whoever gives up has the next attempt begin with the next.
                self.next.store(at + 1, Ordering::Relaxed);
                let mut one = candidate.only(&config);
                if !self.may_be_standby {
                    one.target_session_attrs(TargetSessionAttrs::ReadWrite);
                }
                match timeout(self.limit, self.connect.connect(&one)).await {
                    Ok(Ok(session)) => {
                        self.next.store(at, Ordering::Relaxed);
                        return Ok(session);
                    }
                    Ok(Err(error)) => failed = Some(error),
                    Err(_) => {}
                }
            }
            match failed {
                Some(error) => Err(error),
                // All were silent, for which the driver has no error that others can make. The pool's limit ends it (`limit_of_all`).
                None => pending().await,
            }
        })
    }
}

/// How long an attempt may take in all, where each address may take so long.
pub(super) fn limit_of_all(config: &Config, limit: Duration) -> Duration {
    limit.saturating_mul(u32::try_from(tries(config)).unwrap_or(u32::MAX))
}

/// How many addresses have their time in one attempt.
fn tries(config: &Config) -> usize {
    let has_addresses = !config.get_hostaddrs().is_empty();
    let of_hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) if !has_addresses && name.parse::<IpAddr>().is_err() => ADDRESSES_MAX,
        _ => 1,
    });
    of_hosts.sum::<usize>().max(config.get_hostaddrs().len()).max(1)
}

/// All that the URL names, in its order. Names are looked up, each for so long at most.
async fn candidates(config: &Config, limit: Duration) -> Vec<Candidate> {
    let count = config.get_hosts().len().max(config.get_hostaddrs().len());
    join_all((0..count).map(|n| of_host(config, n, limit))).await.concat()
}

async fn of_host(config: &Config, n: usize, limit: Duration) -> Vec<Candidate> {
    let ports = config.get_ports();
    let host = config.get_hosts().get(n);
    // One port for all hosts, or one for each; without any, the default.
    let port = *ports.get(n).or(ports.first()).unwrap_or(&DEFAULT_PORT);
    let candidate = |address| Candidate {
        host: host.cloned(),
        address,
        port,
    };
    match (config.get_hostaddrs().get(n), host) {
        (Some(address), _) => vec![candidate(Some(*address))],
        (None, Some(Host::Tcp(name))) => {
            let found = timeout(limit, lookup_host((name.as_str(), port))).await;
            let found: Vec<SocketAddr> = found
                .ok()
                .and_then(Result::ok)
                .map(Iterator::collect)
                .unwrap_or_default();
            found.iter().map(|address| candidate(Some(address.ip()))).collect()
        }
        _ => vec![candidate(None)],
    }
}

impl Candidate {
    /// The settings for this one alone.
    fn only(&self, config: &Config) -> Config {
        let mut only = Config::new();
        match &self.host {
            Some(Host::Tcp(name)) => {
                only.host(name);
            }
            #[cfg(unix)]
            Some(Host::Unix(folder)) => {
                only.host_path(folder);
            }
            None => {}
        }
        if let Some(address) = self.address {
            only.hostaddr(address);
        }
        only.port(self.port);
        copy_others(config, &mut only);
        only
    }
}

/// All settings but those of where the server is.
fn copy_others(config: &Config, only: &mut Config) {
    if let Some(user) = config.get_user() {
        only.user(user);
    }
    if let Some(password) = config.get_password() {
        only.password(password);
    }
    if let Some(name) = config.get_dbname() {
        only.dbname(name);
    }
    if let Some(options) = config.get_options() {
        only.options(options);
    }
    if let Some(name) = config.get_application_name() {
        only.application_name(name);
    }
    if let Some(limit) = config.get_connect_timeout() {
        only.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        only.tcp_user_timeout(*limit);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        only.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        only.keepalives_retries(retries);
    }
    only.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        text.parse().unwrap()
    }

    /// A setting that is not copied would be lost where there are several hosts, and only there.
    #[test]
    fn the_settings_for_one_of_several_hosts_are_those_of_all() {
        let others = "user=app password=secret dbname=waybill options='-c a=b' application_name=waybill sslmode=require \
                      sslnegotiation=direct connect_timeout=3 tcp_user_timeout=4 keepalives=1 keepalives_idle=5 keepalives_interval=6 \
                      keepalives_retries=7 target_session_attrs=read-only channel_binding=require load_balance_hosts=random";
        let several = config(&format!("host=a,b hostaddr=10.0.0.1,10.0.0.2 port=1,2 {others}"));
        let second = Candidate {
            host: Some(Host::Tcp("b".to_owned())),
            address: Some(IpAddr::from([10, 0, 0, 2])),
            port: 2,
        };
        let one = config(&format!("host=b hostaddr=10.0.0.2 port=2 {others}"));
        assert!(
            second.only(&several) == one,
            "{:?} is not {one:?}",
            second.only(&several)
        );
    }

    #[tokio::test]
    async fn each_host_is_a_candidate_by_its_addresses_and_its_port() {
        let limit = Duration::from_secs(30);
        let found = async |text: &str| {
            let candidates = candidates(&config(text), limit).await;
            let shown = candidates
                .into_iter()
                .map(|one| (one.address.map(|address| address.to_string()), one.port));
            shown.collect::<Vec<_>>()
        };
        let at = |address: &str, port: u16| (Some(address.to_owned()), port);
        assert_eq!(
            found("host=127.0.0.1,::1 port=1,2 user=a").await,
            [at("127.0.0.1", 1), at("::1", 2)]
        );
        assert_eq!(
            found("hostaddr=10.0.0.1,10.0.0.2 user=a").await,
            [at("10.0.0.1", 5432), at("10.0.0.2", 5432)]
        );
        let socket: (Option<String>, u16) = (None, 7);
        assert_eq!(found("host=/run/pg port=7 user=a").await, [socket]);
        // What is no name has no address, and keeps no other from being tried.
        let mut bad = config("host=127.0.0.1 port=1 user=a");
        bad.host("\0");
        assert_eq!(candidates(&bad, limit).await.len(), 1);
    }

    #[test]
    fn each_host_has_its_time_and_a_name_that_of_two_addresses() {
        for (text, expected) in [
            ("host=127.0.0.1 user=a", 1),
            ("host=/run/pg user=a", 1),
            ("host=db.example user=a", 2),
            ("host=db.example hostaddr=10.0.0.1 user=a", 1),
            ("host=a.example,10.0.0.1 user=a", 3),
            ("hostaddr=10.0.0.1,10.0.0.2 user=a", 2),
        ] {
            assert_eq!(tries(&config(text)), expected, "{text}");
        }
    }
}
