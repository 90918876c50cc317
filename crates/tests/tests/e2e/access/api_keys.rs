//! API keys: how programs call. They are shown once, stored as hashes, and worth nothing once they are revoked (X4).

use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::process::{Ended, waybill};
use testkit::wire::{PICKUP, a_ride, assert_refused, fix, refusal_fields};
use testkit::{Rig, until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt as _, pending};
use tonic::{Code, Status};
use uuid::Uuid;
use waybill_domain::text::has_refused;
use waybill_proto::admin::v1::RetryOrderRequest;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{ReportLocationsRequest, StreamLocationsRequest};
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{ListOrdersRequest, ShareOrderRequest, WatchOrderRequest};
use waybill_sandbox::proxy::Mode;

use super::{Doors, by, in_time};
use crate::cli::on_stores;

/// A name with characters that an older release took, and that no new name may have.
const OLDER_NAME: &str = "sh\u{ad}op\u{200e}";
/// How it is printed.
const SHOWN_NAME: &str = r"sh\u{ad}op\u{200e}";

/// `waybill keys create ARGS`: the key, which is all that it prints on standard output.
pub async fn create(rig: &Rig, args: &[&str]) -> String {
    let ended = on_stores(rig, &[&["keys", "create"], args].concat()).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let key = ended.stdout.trim().to_owned();
    assert!(key.starts_with("wbk_") && !key.contains(char::is_whitespace), "{key}");
    key
}

/// The part of the key that is shown in lists.
fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

async fn revoke(rig: &Rig, id: &str) -> Ended {
    on_stores(rig, &["keys", "revoke", id]).await
}

impl Doors {
    async fn list(&self, key: &str) -> Result<usize, Status> {
        let mut orders = OrderServiceClient::new(self.rig.channel());
        let listed = orders.list_orders(by(Some(key), ListOrdersRequest::default())).await?;
        Ok(listed.into_inner().orders.len())
    }

    async fn report(&self, key: &str) -> Result<(), Status> {
        let fixes = vec![fix("cab-1", PICKUP.0, PICKUP.1, Timestamp::now())];
        let mut locations = LocationServiceClient::new(self.rig.channel());
        let reported = locations.report_locations(by(Some(key), ReportLocationsRequest { fixes }));
        reported.await.map(drop)
    }

    /// Until the server knows the key.
    async fn until_known(&self, key: &str) {
        until("the key is known", async || self.list(key).await).await;
    }

    /// Gives the key [`OLDER_NAME`], as if it was made by an older release, from which the server is upgraded.
    async fn rename(&mut self, key: &str) {
        let sql = self.rig.sql().await;
        let update = "update api_keys set name = $2 where key_id = $1";
        assert_eq!(sql.execute(update, &[&id(key), &OLDER_NAME]).await.unwrap(), 1);
        self.rig.restart_server().await;
    }
}

#[tokio::test]
async fn a_program_calls_with_its_key_and_may_what_its_role_may() {
    let doors = Doors::start(Rig::builder()).await;
    let shop = create(&doors.rig, &["--name", "shop"]).await;
    let olga = create(&doors.rig, &["--name", "olga", "--role", "operator"]).await;
    doors.until_known(&shop).await;
    doors.until_known(&olga).await;

    doors.report(&shop).await.unwrap();
    let mut orders = OrderServiceClient::new(doors.rig.channel());
    let placed = orders.create_order(by(Some(&shop), a_ride())).await.unwrap();
    let driver = placed.into_inner().order.unwrap().assignment.unwrap().driver_id;
    assert_eq!(driver, "cab-1");
    // Two keys may have one name: the log has the key's id.
    let sql = doors.rig.sql().await;
    let create = "select requested_by from order_saga_steps where step = 'create'";
    let name: String = sql.query_one(create, &[]).await.unwrap().get(0);
    assert_eq!(name, format!("service shop, key {}", id(&shop)));
    assert_eq!(doors.list(&olga).await.unwrap(), 1);
    let refused = orders.create_order(by(Some(&olga), a_ride())).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, "ROLE_NOT_ALLOWED");
}

#[tokio::test]
async fn a_key_is_shown_once_and_nowhere_again() {
    let doors = Doors::start(Rig::builder()).await;
    let key = create(&doors.rig, &["--name", "shop", "--expires-in", "720h"]).await;
    let secret = key.rsplit_once(id(&key)).unwrap().1.trim_start_matches('_');
    assert_eq!(secret.len(), 43, "256 bits");

    let sql = doors.rig.sql().await;
    let row = sql.query_one("select api_keys::text from api_keys", &[]).await.unwrap();
    let row: String = row.get(0);
    assert!(row.contains(id(&key)) && !row.contains(secret), "{row}");
    for args in [&["keys", "list"][..], &["keys", "list", "--json"]] {
        let listed = on_stores(&doors.rig, args).await;
        assert_eq!(listed.status, Some(0), "{listed:?}");
        for shown in [id(&key), "shop", "service"] {
            assert!(listed.stdout.contains(shown), "{shown}: {}", listed.stdout);
        }
        assert!(!format!("{listed:?}").contains(secret), "{}", listed.stdout);
    }
}

/// One status for each, word for word: which of them it was is nothing that a caller learns.
#[tokio::test]
async fn what_is_no_key_of_ours_is_refused_alike() {
    let doors = Doors::start(Rig::builder()).await;
    let (one, other) = (
        create(&doors.rig, &["--name", "one"]).await,
        create(&doors.rig, &["--name", "other"]).await,
    );
    doors.until_known(&one).await;
    doors.until_known(&other).await;
    let of_other = one.replace(id(&one), id(&other));
    let unknown = one.replace(id(&one), "aaaaaaaaaaaa");
    let long = format!("{one}A");
    let short = &one[..one.len() - 1];
    let id_alone = format!("wbk_{}", id(&one));
    for bad in [&of_other, &unknown, &long, short, &id_alone, "wbk_", "wbk__", "wbk_ä_ä"] {
        let refused = doors.list(bad).await.unwrap_err();
        let reason = if bad.is_ascii() {
            "TOKEN_UNTRUSTED"
        } else {
            "TOKEN_MISSING"
        };
        assert_refused(&refused, Code::Unauthenticated, reason);
    }
    doors.list(&one).await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_is_refused_and_ends_its_streams() {
    let doors = Doors::start(Rig::builder()).await;
    let key = create(&doors.rig, &["--name", "shop"]).await;
    doors.until_known(&key).await;
    let (messages, receiver) = tokio::sync::mpsc::channel(1);
    let mut acknowledged = LocationServiceClient::new(doors.rig.channel())
        .stream_locations(by(Some(&key), ReceiverStream::new(receiver)))
        .await
        .unwrap()
        .into_inner();
    let fixes = vec![fix("cab-1", PICKUP.0, PICKUP.1, Timestamp::now())];
    let message = StreamLocationsRequest {
        first_sequence: 1,
        fixes,
    };
    messages.send(message).await.unwrap();
    assert_eq!(acknowledged.next().await.unwrap().unwrap().acknowledged_sequence, 1);

    let revoked = revoke(&doors.rig, id(&key)).await;
    assert_eq!(revoked.status, Some(0), "{revoked:?}");
    let end = in_time(acknowledged.next()).await.unwrap().unwrap_err();
    assert_refused(&end, Code::Unauthenticated, "TOKEN_REVOKED");
    let refused = doors.list(&key).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_UNTRUSTED");

    let again = revoke(&doors.rig, id(&key)).await;
    assert_eq!(again.status, Some(0), "it is revoked: {again:?}");
    let unknown = revoke(&doors.rig, "aaaaaaaaaaaa").await;
    assert_eq!(unknown.status, Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("no API key"), "{unknown:?}");
}

#[tokio::test]
async fn a_key_expires() {
    let doors = Doors::start(Rig::builder()).await;
    let key = create(&doors.rig, &["--name", "shop", "--expires-in", "4s"]).await;
    doors.until_known(&key).await;
    let silent = by(Some(&key), pending::<StreamLocationsRequest>());
    let mut answers = LocationServiceClient::new(doors.rig.channel())
        .stream_locations(silent)
        .await
        .unwrap()
        .into_inner();
    let end = in_time(answers.next()).await.unwrap().unwrap_err();
    assert_refused(&end, Code::Unauthenticated, "TOKEN_EXPIRED");
    let refused = doors.list(&key).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_EXPIRED");
}

/// Positions are taken while Postgres is away, from programs that call with a key, too.
#[tokio::test]
async fn a_known_key_is_good_while_the_database_is_away() {
    let doors = Doors::start(Rig::builder().postgres_through_proxy()).await;
    let key = create(&doors.rig, &["--name", "trackers"]).await;
    doors.until_known(&key).await;
    doors.rig.postgres_line().set_mode(Mode::Refuse);
    until("Postgres is seen to be away", async || doors.list(&key).await.err()).await;
    for _ in 0..20 {
        doors.report(&key).await.unwrap();
    }
    doors.rig.postgres_line().set_mode(Mode::Pass);
    doors.until_known(&key).await;
}

#[tokio::test]
async fn bad_usage_names_the_flag() {
    let rig = Rig::builder().no_server().start().await;
    for (args, named) in [
        (&["--role", "operator"][..], "--name"),
        (&["--name", ""], "--name"),
        (&["--name", "two\nlines"], "--name"),
        (&["--name", OLDER_NAME], "--name"),
        (&["--name", "anna", "--role", "customer"], "--role"),
        (&["--name", "shop", "--expires-in", "0s"], "--expires-in"),
        (&["--name", "shop", "--expires-in", "-1h"], "--expires-in"),
    ] {
        let ended = on_stores(&rig, &[&["keys", "create"], args].concat()).await;
        assert_eq!(ended.status, Some(64), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(named), "{args:?}: {ended:?}");
        assert_eq!(ended.stdout, "", "{args:?}");
    }
    let ended = revoke(&rig, "wbk_aaaaaaaaaaaa_secret").await;
    assert_eq!(ended.status, Some(64), "{ended:?}");
    assert!(!ended.stderr.contains("secret"), "{ended:?}");
}

/// Whoever watches an order with a token sees nothing more once the key that signed it is removed.
#[tokio::test]
async fn a_stream_ends_once_the_key_that_signed_its_token_is_removed() {
    let doors = Doors::start(Rig::builder()).await;
    let anna = doors.token("customer", "anna");
    let order_id = doors.searching("anna").await;
    let watch = WatchOrderRequest {
        order_id,
        after_step_id: None,
    };
    let mut orders = OrderServiceClient::new(doors.rig.channel());
    let mut changes = orders.watch_order(by(Some(&anna), watch)).await.unwrap().into_inner();
    changes.next().await.unwrap().unwrap();
    let other = waybill_sandbox::tokens::TokenSigner::new().unwrap();
    std::fs::write(&doors.keys, other.key_set().unwrap()).unwrap();
    let mut last = changes.next().await.unwrap();
    while last.is_ok() {
        last = in_time(changes.next()).await.expect("the watch ends with a reason");
    }
    assert_refused(&last.unwrap_err(), Code::Unauthenticated, "TOKEN_REVOKED");
    let refused = doors.list(&anna).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_UNTRUSTED");
}

/// Load and replay call as a program of the business does.
#[tokio::test]
async fn load_calls_with_a_key() {
    let doors = Doors::start(Rig::builder()).await;
    let key = create(&doors.rig, &["--name", "load"]).await;
    doors.until_known(&key).await;
    let address = doors.rig.grpc_addr();
    for workload in ["orders", "nearby", "ingest"] {
        let args = [
            "load",
            workload,
            "--for",
            "1s",
            "--warm-up",
            "0s",
            "--grpc-addr",
            &address,
            "--json",
            "-",
        ];
        let ended = waybill(&args, &[("SERVICE_TOKEN", &key)]).await;
        assert_eq!(ended.status, Some(0), "{ended:?}");
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let operation = &report["operations"][0];
        assert!(operation["totals"]["answered"].as_u64() > Some(0), "{operation}");
        assert_eq!(operation["errors"], json!({}), "{operation}");
        assert!(!format!("{ended:?}").contains(&key), "{ended:?}");

        let refused = waybill(&args, &[]).await;
        assert_ne!(refused.status, Some(0), "{refused:?}");
        assert!(
            format!("{refused:?}").contains("authorization: Bearer TOKEN"),
            "{refused:?}"
        );
    }
    let broken = ["load", "nearby", "--for", "1s", "--grpc-addr", &address];
    let ended = waybill(&broken, &[("SERVICE_TOKEN", "two\nlines")]).await;
    assert_eq!(ended.status, Some(64), "{ended:?}");
    assert!(
        ended.stderr.contains("--token") && !ended.stderr.contains("lines"),
        "{ended:?}"
    );
}

/// Of a key that others may have had, the links that it made are theirs, too. Where a key is only replaced, they go on.
#[tokio::test]
async fn a_key_is_revoked_with_the_links_that_it_made_or_without() {
    let doors = Doors::start(Rig::builder()).await;
    let order_id = doors.annas().await.order_id;
    let mut links = Vec::new();
    for name in ["stolen", "replaced"] {
        let key = create(&doors.rig, &["--name", name]).await;
        doors.until_known(&key).await;
        let request = ShareOrderRequest {
            order_id: order_id.clone(),
            lifetime: None,
        };
        let shared = doors.orders().share_order(by(Some(&key), request)).await.unwrap();
        links.push((key, shared.into_inner().token));
    }
    let anna = doors.anna();
    let request = ShareOrderRequest {
        order_id,
        lifetime: None,
    };
    let annas = doors.orders().share_order(by(Some(&anna), request)).await.unwrap();
    let annas = annas.into_inner().token;

    let args = ["keys", "revoke", id(&links[0].0), "--with-links"];
    let ended = on_stores(&doors.rig, &args).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("1 link"), "{ended:?}");
    assert_eq!(revoke(&doors.rig, id(&links[1].0)).await.status, Some(0));
    let refused = doors.refused(&links[0].1).await;
    assert_refused(&refused, Code::NotFound, "LINK_ENDED");
    for token in [&links[1].1, &annas] {
        doors.follow(token).await.unwrap();
    }
    let sql = doors.rig.sql().await;
    let query = "select revoked_by from order_shares where revoked_at is not null";
    let by: String = sql.query_one(query, &[]).await.unwrap().get(0);
    assert_eq!(by, "keys revoke");
}

/// Rules for texts grow stricter, and what was made before stays what it was.
#[tokio::test]
async fn a_key_that_was_named_under_older_rules_is_good_and_listed_and_can_be_revoked() {
    let mut doors = Doors::start(Rig::builder()).await;
    let key = create(&doors.rig, &["--name", "shop"]).await;
    doors.rename(&key).await;

    doors.report(&key).await.unwrap();
    let placed = doors.orders().create_order(by(Some(&key), a_ride())).await.unwrap();
    assert_eq!(
        placed.into_inner().order.unwrap().assignment.unwrap().driver_id,
        "cab-1"
    );
    let sql = doors.rig.sql().await;
    let create = "select requested_by from order_saga_steps where step = 'create'";
    let name: String = sql.query_one(create, &[]).await.unwrap().get(0);
    assert_eq!(name, format!("service {OLDER_NAME}, key {}", id(&key)));

    let table = on_stores(&doors.rig, &["keys", "list"]).await;
    assert_eq!(table.status, Some(0), "{table:?}");
    for shown in [id(&key), SHOWN_NAME] {
        assert!(table.stdout.contains(shown), "{shown}: {}", table.stdout);
    }
    let listed = on_stores(&doors.rig, &["keys", "list", "--json"]).await;
    let report: Value = serde_json::from_str(&listed.stdout).expect("one JSON object");
    assert_eq!(report["keys"][0]["name"], OLDER_NAME, "{report}");

    let revoked = revoke(&doors.rig, id(&key)).await;
    assert_eq!((revoked.status, revoked.stderr.as_str()), (Some(0), ""), "{revoked:?}");
    assert!(revoked.stdout.contains(SHOWN_NAME), "{revoked:?}");
    for printed in [&table.stdout, &listed.stdout, &revoked.stdout] {
        assert!(!has_refused(&printed.replace('\n', "")), "{printed:?}");
    }
    let refused = until("the key is worth nothing", async || doors.list(&key).await.err()).await;
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_UNTRUSTED");
}

#[tokio::test]
async fn an_operator_whose_key_was_named_under_older_rules_names_itself() {
    let mut doors = Doors::start(Rig::builder()).await;
    let key = create(&doors.rig, &["--name", "olga", "--role", "operator"]).await;
    doors.rename(&key).await;
    let refusal = async |operator: &str| {
        let request = RetryOrderRequest {
            order_id: Uuid::now_v7().to_string(),
            operator: operator.to_owned(),
            reason: String::new(),
        };
        let mut operators = AdminServiceClient::new(doors.rig.channel());
        operators.retry_order(by(Some(&key), request)).await.unwrap_err()
    };
    let no_such_order = refusal(OLDER_NAME).await;
    assert_eq!(no_such_order.code(), Code::NotFound, "{no_such_order:?}");
    assert_eq!(refusal_fields(&refusal("ol\u{ad}ga").await), ["operator"]);
}

/// What this program cannot call by is a key nevertheless: it hides no other one, and can be ended.
#[tokio::test]
async fn a_key_of_a_role_that_a_newer_program_knows_is_listed_and_can_be_revoked() {
    let rig = Rig::builder().no_server().start().await;
    let newer = create(&rig, &["--name", "audits"]).await;
    let shop = create(&rig, &["--name", "shop"]).await;
    rig.execute(
        "alter table api_keys drop constraint api_keys_role_check;
         update api_keys set role = 'auditor' where name = 'audits'",
    )
    .await;

    let listed = on_stores(&rig, &["keys", "list", "--json"]).await;
    let report: Value = serde_json::from_str(&listed.stdout).expect("one JSON object");
    let roles = json!([report["keys"][0]["role"], report["keys"][1]["role"]]);
    assert_eq!(
        (listed.status, roles),
        (Some(0), json!(["auditor", "service"])),
        "{listed:?}"
    );
    for key in [&newer, &shop] {
        let revoked = revoke(&rig, id(key)).await;
        assert_eq!((revoked.status, revoked.stderr.as_str()), (Some(0), ""), "{revoked:?}");
    }
    assert_eq!(
        rig.count("select count(*) from api_keys where revoked_at is null")
            .await,
        0
    );
}
