//! A Postgres pair under Patroni, with etcd, behind HAProxy. Commits wait for the standby.

use std::path::Path;
use std::time::Duration;

use nix::unistd::User;
use serde_json::Value;
use testkit::process::Flags;
use testkit::sql::connect;
use testkit::until_within;

use crate::engine::{Engine, Watch, write};
use crate::haproxy::Haproxy;
use crate::network::{Machine, Network, Rights};
use crate::programs::Programs;

const STARTS_WITHIN: Duration = Duration::from_mins(2);
const ASKED_WITHIN: Duration = Duration::from_millis(300);
/// How long a leader that says nothing keeps its lead, and how long what failed is tried again, in seconds:
/// `ttl >= loop_wait + 2 * retry_timeout`.
const EAGER: &str = "ttl: 10
    retry_timeout: 3";
/// Patroni's own defaults.
const PATIENT: &str = "ttl: 30
    retry_timeout: 10";
/// What Postgres is set to: where leaders are killed, but not the kernel that has what they wrote; and where speed is measured, with the
/// connections of three servers and of what they are compared with.
const PARAMETERS: &str = r#"max_connections: 100, shared_buffers: 32MB, fsync: "off""#;
const PARAMETERS_FOR_SPEED: &str =
    r#"max_connections: 200, shared_buffers: 256MB, max_wal_size: 8GB, checkpoint_timeout: 30min, fsync: "on""#;
/// How Patroni is asked who leads.
const CHECK: &str = "    option httpchk GET /primary
    http-check expect status 200";

/// The pair.
pub struct Patroni {
    machines: Vec<Machine>,
    _etcd: Machine,
    haproxy: Haproxy,
    http: reqwest::Client,
}

impl Patroni {
    /// Starts it; when this returns the database is there, and the standby follows.
    pub async fn start(network: &Network, programs: &Programs, folder: &Path, watch: Watch) -> Patroni {
        let mut etcd = network.machine(&folder.join("etcd")).await;
        let urls = [2379, 2380].map(|port| format!("http://{}:{port}", etcd.ip));
        let [client, peer] = &urls;
        let data = etcd.folder().join("data").display().to_string();
        let cluster = format!("etcd={peer}");
        let args = [
            "--name=etcd",
            // Patroni 3.0, which Debian 12 has, loses count of the synchronous standby after a freeze where it speaks version 3.
            "--enable-v2=true",
            "--data-dir",
            &data,
            "--listen-client-urls",
            client,
            "--advertise-client-urls",
            client,
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
            "--initial-cluster",
            &cluster,
        ];
        etcd.run("etcd", Rights::Root, &programs.etcd, &args);
        let unprivileged = User::from_name("nobody").expect("the users").expect("this one");
        let mut machines = Vec::new();
        for number in [11, 12] {
            let mut machine = network.machine(&folder.join(format!("postgres-{number}"))).await;
            let own = machine.folder().to_owned();
            nix::unistd::chown(&own, Some(unprivileged.uid), Some(unprivileged.gid)).expect("a folder of ours");
            let config = own.join("patroni.yml");
            write(
                &config,
                &settings(number, [&machine.ip, &etcd.ip], &own, &programs.postgres_bin, watch),
            );
            let rights = Rights::User(unprivileged.uid.as_raw(), unprivileged.gid.as_raw());
            machine.run("patroni", rights, &programs.patroni, &[&config.display().to_string()]);
            machines.push(machine);
        }
        let servers: Vec<_> = machines
            .iter()
            .map(|machine| (format!("{}:5432", machine.ip), 8008))
            .collect();
        let patroni = Patroni {
            haproxy: Haproxy::start(&programs.haproxy, &folder.join("haproxy"), CHECK, &servers, watch),
            machines,
            _etcd: etcd,
            http: reqwest::Client::builder()
                .timeout(ASKED_WITHIN)
                .build()
                .expect("a client"),
        };
        let ready = until_within(STARTS_WITHIN, async || patroni.is_whole().await).await;
        ready.unwrap_or_else(|state| panic!("the pair does not start: {state}; see {}", folder.display()));
        let sql = until_within(STARTS_WITHIN, async || connect(&patroni.url("postgres")).await).await;
        let created = sql
            .expect("Postgres answers")
            .batch_execute("create database waybill")
            .await;
        created.expect("a database");
        patroni
    }

    /// `postgres://` URL of a database, through HAProxy.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.haproxy.address())
    }

    async fn status(&self, machine: &Machine, path: &str) -> Option<(u16, Value)> {
        let answer = self
            .http
            .get(format!("http://{}:8008/{path}", machine.ip))
            .send()
            .await
            .ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }
}

impl Engine for Patroni {
    const NAME: &'static str = "postgres";

    fn flags(&self) -> Flags {
        Flags::from([("postgres.url", self.url("waybill"))])
    }

    fn machines(&mut self) -> &mut [Machine] {
        &mut self.machines
    }

    async fn leader(&self, _turn: usize) -> Option<usize> {
        for (number, machine) in self.machines.iter().enumerate() {
            if matches!(self.status(machine, "primary").await, Some((200, _))) {
                return Some(number);
            }
        }
        None
    }

    async fn has_successor(&self, of: usize) -> bool {
        matches!(self.status(&self.machines[1 - of], "primary").await, Some((200, _)))
    }

    async fn is_whole(&self) -> Result<(), String> {
        let mut seen = Vec::new();
        for machine in &self.machines {
            let sync = self.status(machine, "sync").await;
            let primary = self.status(machine, "primary").await;
            seen.push((sync.map(|answer| answer.0), primary.map(|answer| answer.0)));
        }
        let has = |wanted| seen.contains(&wanted);
        // The leader alone says 200 to `primary`, the standby that commits wait for to `sync`.
        if has((Some(503), Some(200))) && has((Some(200), Some(503))) {
            Ok(())
        } else {
            Err(format!("sync and primary are {seen:?}"))
        }
    }

    fn keeps_fixes(&self) -> bool {
        // Redis is not touched.
        true
    }
}

fn settings(number: u8, [ip, etcd]: [&str; 2], folder: &Path, postgres_bin: &Path, watch: Watch) -> String {
    let (folder, bin) = (folder.display(), postgres_bin.display());
    let (patience, parameters) = match watch {
        Watch::Eager => (EAGER, PARAMETERS),
        Watch::Patient => (PATIENT, PARAMETERS_FOR_SPEED),
    };
    format!(
        r#"scope: waybill
name: postgres{number}
restapi: {{listen: "{ip}:8008", connect_address: "{ip}:8008"}}
etcd: {{host: "{etcd}:2379"}}
bootstrap:
  dcs:
    {patience}
    loop_wait: 1
    maximum_lag_on_failover: 1048576
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      parameters: {{{parameters}, wal_log_hints: "on", wal_keep_size: 128MB}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, {{auth: trust}}, no-sync]
  pg_hba: ["host all all 0.0.0.0/0 trust", "host replication all 0.0.0.0/0 trust", "local all all trust"]
postgresql:
  listen: "{ip}:5432"
  connect_address: "{ip}:5432"
  data_dir: {folder}/data
  bin_dir: {bin}
  pgpass: {folder}/pgpass
  authentication: {{superuser: {{username: postgres}}, replication: {{username: postgres}}, rewind: {{username: postgres}}}}
  parameters: {{unix_socket_directories: {folder}}}
"#
    )
}
