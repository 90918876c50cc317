//! A pooler between the program and Postgres: `PgBouncer`, each transaction on whichever session is free.

use std::fs::{self, File};
use std::path::Path;

use testkit::process::{installed, read, waybill};
use testkit::{Rig, until};
use tokio_postgres::NoTls;
use waybill_sandbox::port;
use waybill_sandbox::process::{Launch, Process};
use waybill_server::storage::postgres::PLANNER;

/// Starts `PgBouncer` before the rig's Postgres, with these settings; it, and the URL of the rig's database through it.
async fn pooler(program: &Path, rig: &Rig, more: &str) -> (Process, String) {
    let direct = rig.flags()["postgres.url"].clone();
    let (_, rest) = direct.split_once('@').expect("a user");
    let (address, database) = rest.split_once('/').expect("a database");
    let (host, postgres) = address.split_once(':').expect("a port");
    let (port, folder) = (port::free(), rig.folder());
    let settings = format!(
        "[databases]
{database} = host={host} port={postgres} user=waybill
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
{more}
"
    );
    let (file, log) = (folder.join("pgbouncer.ini"), folder.join("pgbouncer.log"));
    fs::write(&file, settings).unwrap();
    // It refuses to be root.
    let mut args = vec![file.into_os_string()];
    if nix::unistd::geteuid().is_root() {
        args.extend(["-u".into(), "nobody".into()]);
    }
    let process = Process::start(Launch {
        program: program.to_owned(),
        args,
        output: File::create(&log).unwrap(),
    })
    .expect("PgBouncer starts");
    let url = direct.replace(address, &format!("127.0.0.1:{port}"));
    until("PgBouncer answers", async || {
        let answer = tokio_postgres::connect(&url, NoTls).await;
        answer.map(drop).map_err(|error| format!("{error}: {}", read(&log)))
    })
    .await;
    (process, url)
}

/// Without what its sessions are set to, one caller's lock or statement could hold up all others.
#[tokio::test]
async fn what_is_behind_a_pooler_is_refused_in_one_line() {
    let Some(pgbouncer) = installed("pgbouncer") else {
        return;
    };
    let rig = Rig::builder().no_server().start().await;
    let drops = "ignore_startup_parameters = options";
    // At last with a database whose own defaults hide what is dropped.
    for (more, is_hidden) in [("", false), (drops, false), (drops, true)] {
        let others = [("statement_timeout", "2000"), ("lock_timeout", "500")];
        for (name, value) in PLANNER.into_iter().chain(others).filter(|_| is_hidden) {
            rig.execute(&format!(
                "do $$ begin execute format('alter database %I set {name} = {value}', current_database()); end $$"
            ))
            .await;
        }
        let (_pooler, url) = pooler(&pgbouncer, &rig, more).await;
        let variables = [
            ("DATABASE_URL", url.as_str()),
            ("REDIS_URL", rig.flags()["redis.url"].as_str()),
            ("WAYBILL_PAYMENTS__SECRET_KEY", "sk_test_sandbox"),
            ("WAYBILL_AUTH__ANONYMOUS", "true"),
        ];
        let served = waybill(&["serve"], &variables).await;
        assert_eq!(served.status, Some(69), "{served:?}");
        let reported: Vec<&str> = served
            .stderr
            .lines()
            .filter(|line| line.contains("PgBouncer"))
            .collect();
        assert_eq!(reported.len(), 1, "{served:?}");
        let doctor = waybill(&["doctor"], &variables).await;
        assert_eq!(doctor.status, Some(1), "{doctor:?}");
        assert!(doctor.stdout.contains("PgBouncer"), "{doctor:?}");
    }
    assert_eq!(rig.count("select count(*) from order_sagas").await, 0);
}
