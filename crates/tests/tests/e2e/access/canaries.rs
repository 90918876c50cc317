//! X6: no secret is in a log, a metric, an error or the list of processes; whatever callers put where.

use std::time::Duration;

use jiff::Timestamp;
use testkit::wire::{PICKUP, a_ride, by, fix, get};
use testkit::{Rig, ServerProcess, until};
use tokio_stream::StreamExt as _;
use tonic::Status;
use waybill_proto::admin::v1::RetryOrderRequest;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::fleet::v1::GetDriverRequest;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::location::v1::{ReportLocationsRequest, StreamLocationsRequest};
use waybill_proto::order::v1::{
    CancelOrderRequest, CreateOrderRequest, GetOrderRequest, ListOrdersRequest, RefundOrderRequest,
    ReleaseDriverRequest, RevokeShareRequest, ShareOrderRequest, WatchOrderRequest,
};
use waybill_proto::tracking::v1::WatchSharedRequest;
use waybill_proto::tracking::v1::tracking_service_client::TrackingServiceClient;
use waybill_sandbox::tokens::TokenSigner;

use super::api_keys::create;
use crate::cli::on_stores;

/// Everything that is to be looked through, by its name.
#[derive(Default)]
struct Outputs(Vec<(String, String)>);

impl Outputs {
    fn add(&mut self, name: &str, text: String) {
        self.0.push((name.to_owned(), text));
    }

    /// What a caller is answered.
    fn answered<T>(&mut self, name: &str, answer: Result<T, Status>) {
        if let Err(status) = answer {
            self.add(name, format!("{status:?}"));
        }
    }
}

#[tokio::test]
async fn no_secret_is_in_a_log_a_metric_an_error_or_the_list_of_processes() {
    let rig = Rig::builder().no_server().start().await;
    let signer = TokenSigner::new().unwrap();
    let keys = rig.folder().join("keys.json");
    std::fs::write(&keys, signer.key_set().unwrap()).unwrap();
    let database = rig.flags()["postgres.url"].replacen("waybill@", "waybill:postgres-canary@", 1);
    let password = rig.folder().join("redis-password");
    std::fs::write(&password, "redis-canary\n").unwrap();
    let server = ServerProcess::start(
        &rig,
        &[
            ("redis.password_file", password.to_str().unwrap()),
            ("auth.anonymous", "false"),
            ("auth.keys", keys.to_str().unwrap()),
            ("auth.issuer", TokenSigner::ISSUER),
            ("grpc.services", "order,location,fleet,operator"),
            ("payments.webhook_secrets", "whsec_canary"),
            ("webhooks.addr", "127.0.0.1:0"),
            ("web.addr", "127.0.0.1:0"),
            ("postgres.url", &database),
            ("log.filter", "waybill=trace,debug"),
        ],
    )
    .await;
    let channel = testkit::wire::channel(server.grpc_addr());
    let token = |role: &str, subject: &str| signer.token(role, subject, Duration::from_mins(10)).unwrap();
    let (anna, shop, cab, olga) = (
        token("customer", "anna"),
        token("service", "shop"),
        token("driver", "cab-1"),
        token("operator", "olga"),
    );
    let key = create(&rig, &["--name", "trackers"]).await;
    let mut outputs = Outputs::default();
    let mut orders = server.orders();
    until("the key is known", async || {
        let list = by(Some(&key), ListOrdersRequest::default());
        server.orders().list_orders(list).await
    })
    .await;

    // A good order, and a link to it.
    let fixes = vec![fix("cab-1", PICKUP.0, PICKUP.1, Timestamp::now())];
    let report = by(Some(&key), ReportLocationsRequest { fixes });
    server.locations().report_locations(report).await.unwrap();
    let ride = CreateOrderRequest {
        user_id: "anna".to_owned(),
        ..a_ride()
    };
    let placed = orders.create_order(by(Some(&anna), ride.clone())).await.unwrap();
    let order_id = placed.into_inner().order.unwrap().order_id;
    let share = ShareOrderRequest {
        order_id: order_id.clone(),
        lifetime: None,
    };
    let shared = orders.share_order(by(Some(&anna), share)).await.unwrap().into_inner();
    let link = shared.token.clone();
    let follow = |token: &str| WatchSharedRequest {
        token: token.to_owned(),
    };
    let mut tracking = TrackingServiceClient::new(channel.clone());
    let mut followed = tracking.watch_shared(follow(&link)).await.unwrap().into_inner();
    followed.next().await.unwrap().unwrap();

    let secrets = [
        ("the customer's token", signature(&anna)),
        ("the program's token", signature(&shop)),
        ("the driver's token", signature(&cab)),
        ("the operator's token", signature(&olga)),
        ("the API key", key.splitn(3, '_').nth(2).unwrap().to_owned()),
        ("the link", link.clone()),
        ("the provider's key", testkit::rig::SECRET_KEY.to_owned()),
        ("the webhooks' secret", "whsec_canary".to_owned()),
        ("the database's password", "postgres-canary".to_owned()),
        ("the password of Redis", "redis-canary".to_owned()),
    ];

    // Secrets where they do not belong: as every id of every call, and as the token of another.
    let misplaced = [anna.as_str(), &key, &link];
    let mut fleet = FleetServiceClient::new(channel.clone());
    let mut operators = AdminServiceClient::new(channel.clone());
    let mut locations = server.locations();
    for secret in misplaced {
        let id = || secret.to_owned();
        for caller in [&anna, &shop, &cab, &olga, &format!("{secret}x"), &format!("x{secret}")] {
            let caller = Some(caller.as_str());
            for request in [
                CreateOrderRequest {
                    idempotency_key: id(),
                    payment_method: id(),
                    ..ride.clone()
                },
                CreateOrderRequest {
                    user_id: id(),
                    provider_customer_id: id(),
                    ..ride.clone()
                },
                CreateOrderRequest {
                    provider_customer_id: id(),
                    ..ride.clone()
                },
            ] {
                let mut request = by(caller, request);
                // Where it is taken, no driver is left for it.
                request.set_timeout(Duration::from_millis(300));
                outputs.answered("CreateOrder", orders.create_order(request).await);
            }
            let request = by(caller, GetOrderRequest { order_id: id() });
            outputs.answered("GetOrder", orders.get_order(request).await);
            let request = WatchOrderRequest {
                order_id: id(),
                after_step_id: None,
            };
            outputs.answered("WatchOrder", orders.watch_order(by(caller, request)).await);
            let request = ListOrdersRequest {
                user_id: id(),
                page_token: id(),
                ..ListOrdersRequest::default()
            };
            outputs.answered("ListOrders", orders.list_orders(by(caller, request)).await);
            let request = CancelOrderRequest {
                order_id: id(),
                cancellation_fee: None,
            };
            outputs.answered("CancelOrder", orders.cancel_order(by(caller, request)).await);
            let request = RefundOrderRequest {
                order_id: id(),
                idempotency_key: id(),
                ..RefundOrderRequest::default()
            };
            outputs.answered("RefundOrder", orders.refund_order(by(caller, request)).await);
            let request = ReleaseDriverRequest {
                order_id: order_id.clone(),
                driver_id: id(),
                reason: "a test".to_owned(),
            };
            outputs.answered("ReleaseDriver", orders.release_driver(by(caller, request)).await);
            let request = RevokeShareRequest {
                order_id: order_id.clone(),
                share_id: id(),
            };
            outputs.answered("RevokeShare", orders.revoke_share(by(caller, request)).await);
            let request = by(caller, GetDriverRequest { driver_id: id() });
            outputs.answered("GetDriver", fleet.get_driver(request).await);
            let fixes = vec![fix(secret, PICKUP.0, PICKUP.1, Timestamp::now())];
            let reported = locations
                .report_locations(by(caller, ReportLocationsRequest { fixes: fixes.clone() }))
                .await;
            if let Ok(reported) = &reported {
                outputs.add("the rejections", format!("{reported:?}"));
            }
            outputs.answered("ReportLocations", reported);
            let message = StreamLocationsRequest {
                first_sequence: 1,
                fixes,
            };
            let streamed = locations
                .stream_locations(by(caller, tokio_stream::once(message)))
                .await;
            if let Ok(answers) = streamed {
                let answers: Vec<_> = answers.into_inner().collect().await;
                outputs.add("StreamLocations", format!("{answers:?}"));
            }
            let request = RetryOrderRequest {
                order_id: id(),
                operator: id(),
                reason: "a test".to_owned(),
            };
            outputs.answered("RetryOrder", operators.retry_order(by(caller, request)).await);
        }
        outputs.answered(
            "WatchShared",
            tracking.watch_shared(follow(&format!("{secret}x"))).await,
        );
    }

    // What operators see.
    for path in ["/metrics", "/metrics?format=prometheus", "/readyz", "/livez"] {
        outputs.add(path, get(&format!("{}{path}", server.http())).await.1);
    }
    for args in [
        &["keys", "list", "--json"][..],
        &["orders", "list"],
        &["orders", "show", &order_id],
        &["doctor"],
    ] {
        let ended = on_stores(&rig, args).await;
        outputs.add(&args.join(" "), format!("{}{}", ended.stdout, ended.stderr));
    }
    let processes = tokio::process::Command::new("ps")
        .args(["-axww", "-o", "args="])
        .output()
        .await
        .unwrap();
    outputs.add("ps", String::from_utf8_lossy(&processes.stdout).into_owned());
    let log = server.log();
    assert!(
        log.contains("order settled") && log.contains("callers are refused"),
        "the log has what it should: {log}"
    );
    outputs.add("the log", log);
    server.stop().await;

    let mut found = Vec::new();
    for (output, text) in &outputs.0 {
        for (name, secret) in &secrets {
            if let Some(at) = text.find(secret.as_str()) {
                let from = text[..at].rfind('\n').map_or(0, |line| line + 1);
                found.push(format!(
                    "{name} is in {output}: {}",
                    &text[from..(at + secret.len()).min(from + 600)]
                ));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(outputs.0.len() > 100, "{} outputs", outputs.0.len());
}

/// The part of a token that is secret: who has the rest knows whom it is about.
fn signature(token: &str) -> String {
    token.rsplit_once('.').unwrap().1.to_owned()
}
