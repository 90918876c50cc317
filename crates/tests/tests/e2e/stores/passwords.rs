//! Passwords in files, replaced while the server runs, as an orchestrator does it and as tokens that expire need it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use testkit::wire::{PICKUP, a_ride, fix, get};
use testkit::{Rig, ServerProcess, until};
use waybill_proto::location::v1::ReportLocationsRequest;

use crate::cli::on_stores_with;

const FIRST: &str = "first-canary";
const SECOND: &str = "second-canary";

/// A file as Kubernetes mounts a secret: a link to a folder that is replaced by another link.
struct Secret(PathBuf);

impl Secret {
    fn new(rig: &Rig, contents: &str) -> Secret {
        let secret = Secret(rig.folder().join("secret"));
        fs::create_dir(&secret.0).unwrap();
        secret.write(contents);
        symlink("..data/password", secret.path()).unwrap();
        secret
    }

    fn path(&self) -> PathBuf {
        self.0.join("password")
    }

    fn write(&self, contents: &str) {
        let name = format!("..{}", uuid::Uuid::now_v7());
        let folder = self.0.join(&name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("password"), contents).unwrap();
        symlink(name, self.0.join("..next")).unwrap();
        fs::rename(self.0.join("..next"), self.0.join("..data")).unwrap();
    }
}

/// The rig's Postgres asks the user `app` for a password; its URL for that user, without one.
async fn app(rig: &Rig, password: &str) -> String {
    let create = format!("create role app superuser login password '{password}'");
    rig.execute(&create).await;
    let data: PathBuf = rig.folder().join("postgres/data/pg_hba.conf");
    let others = fs::read_to_string(&data).unwrap();
    let mut file = OpenOptions::new().write(true).truncate(true).open(&data).unwrap();
    let asked = format!("host all app 127.0.0.1/32 scram-sha-256\n{others}");
    file.write_all(asked.as_bytes()).unwrap();
    rig.execute("select pg_reload_conf()").await;
    rig.flags()["postgres.url"].replacen("waybill@", "app@", 1)
}

/// An order, and a driver who is free to serve it.
async fn place(server: &ServerProcess) -> Result<(), tonic::Status> {
    let driver = format!("cab-{}", uuid::Uuid::now_v7().simple());
    let drivers = ReportLocationsRequest {
        fixes: vec![fix(&driver, PICKUP.0, PICKUP.1, Timestamp::now())],
    };
    server.locations().report_locations(drivers).await?;
    server.orders().create_order(a_ride()).await.map(drop)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The rig's Redis asks new connections for this password.
async fn ask_for(redis: &mut MultiplexedConnection, password: &str) {
    let mut command = redis::cmd("CONFIG");
    command.arg("SET").arg("requirepass").arg(password);
    command.exec_async(redis).await.unwrap();
}

/// Ends all connections to it but this one.
async fn end_others(redis: &mut MultiplexedConnection) {
    let mut command = redis::cmd("CLIENT");
    command.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
    command.exec_async(redis).await.unwrap();
}

/// How many passwords Redis was shown, and how many of them it took.
async fn shown(redis: &mut MultiplexedConnection) -> (u32, u32) {
    let mut command = redis::cmd("INFO");
    command.arg("commandstats");
    let info: String = command.query_async(redis).await.unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_auth:"))
        .unwrap();
    let count = |name: &str| -> u32 {
        let counts = line.split(',').filter_map(|part| part.split_once('='));
        let mut counts = counts.filter(|(counted, _)| *counted == name);
        counts.next().unwrap().1.parse().unwrap()
    };
    let (calls, failed) = (count("calls"), count("failed_calls"));
    (calls, calls - failed)
}

/// Waits until the server is unready because Redis refuses its password.
async fn until_refused(server: &ServerProcess) {
    let readyz = format!("{}/readyz", server.http());
    until("its password is refused", async || match get(&readyz).await {
        (503, body) if body.contains("Password authentication failed") => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test]
async fn a_new_password_of_postgres_is_used_by_new_sessions_without_a_restart() {
    let rig = Rig::builder().private_stores().no_server().start().await;
    let url = app(&rig, FIRST).await;
    let secret = Secret::new(&rig, &format!("{FIRST}\n"));
    let path = secret.path();
    let settings = [
        ("postgres.url", url.as_str()),
        ("postgres.password_file", text(&path)),
        ("log.filter", "waybill=trace,debug"),
    ];
    let server = ServerProcess::start(&rig, &settings).await;
    place(&server).await.unwrap();
    let sessions = "select count(*) from pg_stat_activity where usename = 'app'";
    let before = rig.count(sessions).await;
    assert!(before > 0);

    // Sessions that are open go on.
    rig.execute(&format!("alter role app password '{SECOND}'")).await;
    secret.write(&format!("{SECOND}\n"));
    place(&server).await.unwrap();
    // New ones use the new password.
    let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'app'";
    rig.count(end).await;
    until("orders are placed by new sessions", async || place(&server).await).await;

    // Half of a replacement: the last password is kept.
    secret.write("");
    rig.count(end).await;
    until("orders are placed by the last password", async || place(&server).await).await;
    server.until_logged("the file of a password cannot be used").await;
    let log = server.log();
    assert!(
        log.contains("postgres.password_file") && log.contains("is empty"),
        "{log}"
    );
    assert!(!log.contains(FIRST) && !log.contains(SECOND), "{log}");
}

#[tokio::test]
async fn a_new_password_of_redis_is_shown_by_the_open_connection_and_by_the_next_one() {
    let rig = Rig::builder().private_stores().no_server().start().await;
    // This one stays as it is, whatever is asked of others.
    let mut redis = rig.redis().await;
    ask_for(&mut redis, FIRST).await;
    let secret = Secret::new(&rig, FIRST);
    let path = secret.path();
    let settings = [
        ("redis.password_file", text(&path)),
        ("log.filter", "waybill=trace,debug"),
    ];
    let server = ServerProcess::start(&rig, &settings).await;
    place(&server).await.unwrap();

    ask_for(&mut redis, SECOND).await;
    let before = shown(&mut redis).await;
    secret.write(&format!("{SECOND}\r\n"));
    place(&server).await.unwrap();
    until("the open connection shows the new password", async || {
        shown(&mut redis.clone()).await.0 > before.0
    })
    .await;

    end_others(&mut redis).await;
    until("fixes are stored by the next connection", async || place(&server).await).await;

    fs::remove_file(secret.path()).unwrap();
    end_others(&mut redis).await;
    until("fixes are stored by the last password", async || place(&server).await).await;
    server.until_logged("the file of a password cannot be used").await;
    let log = server.log();
    assert!(
        log.contains("redis.password_file") && log.contains("cannot be read"),
        "{log}"
    );
    assert!(!log.contains(FIRST) && !log.contains(SECOND), "{log}");
}

/// Redis asks for another password before the file has it, and the connection ends in between.
#[tokio::test]
async fn a_redis_that_refused_a_password_is_tried_again_with_the_next() {
    let rig = Rig::builder().private_stores().no_server().start().await;
    let mut redis = rig.redis().await;
    ask_for(&mut redis, FIRST).await;
    let secret = Secret::new(&rig, FIRST);
    let path = secret.path();
    let settings = [("redis.password_file", text(&path))];
    let server = ServerProcess::start(&rig, &settings).await;
    place(&server).await.unwrap();

    ask_for(&mut redis, SECOND).await;
    end_others(&mut redis).await;
    until_refused(&server).await;
    secret.write(SECOND);
    until("fixes are stored by the next password", async || place(&server).await).await;
    let log = server.log();
    assert!(!log.contains(FIRST) && !log.contains(SECOND), "{log}");
}

/// The file is written before Redis knows the password: the open connection goes on, and is shown it until it is taken.
#[tokio::test]
async fn a_new_password_that_redis_does_not_know_yet_is_shown_again() {
    let rig = Rig::builder().private_stores().no_server().start().await;
    let mut redis = rig.redis().await;
    ask_for(&mut redis, FIRST).await;
    let secret = Secret::new(&rig, FIRST);
    let path = secret.path();
    let server = ServerProcess::start(&rig, &[("redis.password_file", text(&path))]).await;
    secret.write(SECOND);
    server.until_logged("redis does not take the new password").await;
    let (_, taken) = shown(&mut redis).await;
    place(&server).await.unwrap();

    ask_for(&mut redis, SECOND).await;
    until("the open connection shows it again, and it is taken", async || {
        shown(&mut redis.clone()).await.1 > taken
    })
    .await;
    place(&server).await.unwrap();
    let log = server.log();
    assert!(!log.contains(FIRST) && !log.contains(SECOND), "{log}");
}

#[tokio::test]
async fn a_server_that_starts_on_a_password_that_redis_refuses_is_ready_with_the_next() {
    let rig = Rig::builder().private_stores().no_server().start().await;
    let mut redis = rig.redis().await;
    ask_for(&mut redis, SECOND).await;
    let secret = Secret::new(&rig, FIRST);
    let path = secret.path();
    let server = ServerProcess::start_unready(&rig, &[("redis.password_file", text(&path))]).await;
    until_refused(&server).await;

    secret.write(SECOND);
    until("fixes are stored by the next password", async || place(&server).await).await;
}

#[tokio::test]
async fn the_doctor_says_what_is_wrong_with_a_file_of_a_password() {
    let rig = Rig::builder().private_stores().no_server().start().await;
    let url = app(&rig, FIRST).await;
    let secret = Secret::new(&rig, SECOND);
    let path = secret.path();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("WAYBILL_POSTGRES__PASSWORD_FILE", text(&path)),
    ];
    let wrong = on_stores_with(&rig, &["doctor"], &variables).await;
    assert_eq!(wrong.status, Some(1), "{wrong:?}");
    let lines: Vec<&str> = wrong
        .stdout
        .lines()
        .filter(|line| line.contains("password authentication failed") && line.contains("postgres.password_file"))
        .collect();
    assert_eq!(lines.len(), 1, "{wrong:?}");

    secret.write("\n");
    let empty = on_stores_with(&rig, &["doctor"], &variables).await;
    assert_eq!(empty.status, Some(64), "{empty:?}");
    let said = "postgres.password_file is empty";
    assert!(
        empty.stderr.contains(said) && !empty.stderr.contains(SECOND),
        "{empty:?}"
    );

    secret.write(FIRST);
    let good = on_stores_with(&rig, &["doctor"], &variables).await;
    assert_eq!(good.status, Some(0), "{good:?}");
}
