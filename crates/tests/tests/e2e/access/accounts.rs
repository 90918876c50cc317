//! A business with an account of its own at the payment provider: its money goes there and comes back from there, and what
//! is wrong with that account is wrong for no other business.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use testkit::process::Flags;
use testkit::sql::column;
use testkit::wire::{PICKUP, a_ride, by, get, http};
use testkit::{Builder, Rig, ServerProcess, until};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use uuid::Uuid;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{CancelOrderRequest, CreateOrderRequest, Money, Order, OrderStatus, RefundOrderRequest};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget, MovementKind, Provider, webhook_signature};
use waybill_server::app::{ReconcileRange, Reconciliation};

use super::Doors;
use crate::cli::on_stores;
use crate::webhooks::events::{PATH, SECRET, event_about};

/// Far more than an order takes.
const PATIENCE: Duration = Duration::from_secs(30);
const ACMES_SECRET: &str = "whsec_acme";
const ACMES_URL: &str = "payments.accounts.acme.url";
const ACMES_KEY: &str = "payments.accounts.acme.secret_key";

/// Another account, and its ledger's folder.
pub(super) struct Account {
    pub(super) provider: Provider,
    _folder: tempfile::TempDir,
}

impl Account {
    pub(super) async fn start() -> Account {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("payments.jsonl");
        let provider = Provider::start(SocketAddr::from(([127, 0, 0, 1], 0)), &ledger).await;
        Account {
            provider: provider.unwrap(),
            _folder: folder,
        }
    }

    fn count(&self, kind: MovementKind) -> usize {
        let ledger = self.provider.ledger();
        ledger.iter().filter(|movement| movement.kind == kind).count()
    }

    /// Charges and refunds.
    fn counts(&self) -> (usize, usize) {
        (self.count(MovementKind::Charge), self.count(MovementKind::Refund))
    }

    fn settings(&self) -> [(&'static str, String); 2] {
        [(ACMES_URL, self.provider.url()), (ACMES_KEY, "sk_test_acme".to_owned())]
    }

    pub(super) fn is_in(&self, builder: Builder) -> Builder {
        let settings = self.settings().into_iter();
        settings.fold(builder, |builder, (key, value)| builder.set(key, &value))
    }
}

pub(super) fn of_two() -> Builder {
    let builder = Rig::builder().impatient().set("tenants.names", "acme,beta");
    builder.set("grpc.deadline_default", "2s")
}

async fn with_acmes() -> (Doors, Account) {
    let account = Account::start().await;
    (Doors::start(account.is_in(of_two())).await, account)
}

impl Doors {
    /// An order in so much time as the server gives by default, which is little here: most that call this are refused.
    pub(super) async fn try_to_place(
        &self,
        mut orders: OrderServiceClient<Channel>,
        tenant: &str,
    ) -> Result<Order, Status> {
        let placed = orders.create_order(self.ride_in(tenant)).await?;
        Ok(placed.into_inner().order.unwrap())
    }

    /// An order that is placed, however busy the machine is.
    pub(super) async fn place(&self, mut orders: OrderServiceClient<Channel>, tenant: &str) -> Order {
        let mut ride = self.ride_in(tenant);
        ride.set_timeout(PATIENCE);
        orders.create_order(ride).await.unwrap().into_inner().order.unwrap()
    }

    fn ride_in(&self, tenant: &str) -> Request<CreateOrderRequest> {
        let token = self.token_in(tenant, "customer", "anna");
        let ride = CreateOrderRequest {
            user_id: "anna".to_owned(),
            ..a_ride()
        };
        by(Some(&token), ride)
    }

    /// Until no order of acme is begun, since it could not be charged.
    async fn until_acmes_are_refused(&self) {
        until("acme's orders are refused at once", async || {
            let refused = self.try_to_place(self.orders(), "acme").await.unwrap_err();
            if refused.code() == Code::Unavailable {
                Ok(())
            } else {
                Err(refused)
            }
        })
        .await;
    }

    /// A business gives back a part of an order's payment.
    async fn refund_in(&self, mut orders: OrderServiceClient<Channel>, tenant: &str, order: &Order) {
        let request = RefundOrderRequest {
            order_id: order.order_id.clone(),
            idempotency_key: Uuid::now_v7().to_string(),
            amount: Some(Money {
                minor_units: 100,
                currency_code: order.amount.as_ref().unwrap().currency_code.clone(),
            }),
            reason: "late".to_owned(),
        };
        let token = self.token_in(tenant, "service", "shop");
        orders.refund_order(by(Some(&token), request)).await.unwrap();
    }
}

/// All that the reconciliation finds: how many charges and refunds it read, and how many differ.
async fn reconciled(rig: &Rig) -> (usize, usize, i64) {
    let mut all = Reconciliation::begin(&rig.config(), ReconcileRange::default())
        .await
        .unwrap();
    while all.compare_next().await.unwrap() {}
    let result = all.result();
    (result.charges, result.refunds, result.differences + result.in_flight)
}

#[tokio::test]
async fn its_money_goes_to_its_own_account_and_comes_back_from_there() {
    let (doors, acmes) = with_acmes().await;
    let rig = &doors.rig;
    for tenant in ["", "acme", "beta"] {
        doors.report_in(tenant, "cab-1", PICKUP).await;
        let order = doors.place(doors.orders(), tenant).await;
        doors.refund_in(doors.orders(), tenant, &order).await;
    }
    rig.until_all_settled().await;
    assert_eq!(acmes.counts(), (1, 1));
    assert_eq!(
        rig.movements_count(),
        (2, 2),
        "who has no account pays into that of [payments]"
    );
    rig.assert_clean().await;
    assert_eq!(reconciled(rig).await, (3, 3, 0));

    // What the ledger has of an order must be at the account of the order.
    let sql = rig.sql().await;
    // Past the trigger that keeps it.
    sql.batch_execute("set session_replication_role = replica; update order_sagas set payment_account = null")
        .await
        .unwrap();
    let mut redis = rig.redis().await;
    for key in ["payments:rate", "payments:rate:{acme}"] {
        let there: bool = redis::cmd("EXISTS").arg(key).query_async(&mut redis).await.unwrap();
        assert!(there, "{key}");
    }
    let sources = waybill_server::app::Sources {
        provider: true,
        ..Default::default()
    };
    let report = waybill_server::app::run_audit(&rig.config(), sources).await.unwrap();
    let found = report.findings.iter().filter(|finding| finding.count > 0);
    let found: Vec<_> = found.map(|finding| (finding.check.promise, finding.count)).collect();
    assert_eq!(found, [("M18", 2)], "a charge and a refund are at acme's account");
}

#[tokio::test]
async fn an_account_that_does_not_answer_keeps_no_other_business_from_ordering() {
    let (doors, acmes) = with_acmes().await;
    for tenant in ["", "acme"] {
        doors.report_in(tenant, "cab-1", PICKUP).await;
    }
    acmes.provider.set_faults([Fault::always(FaultKind::ErrorBeforeEffect)]);
    doors.until_acmes_are_refused().await;
    doors.place(doors.orders(), "").await;

    let (_, metrics) = get(&format!("{}/metrics", doors.rig.http())).await;
    let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
    let breakers = &metrics["dependencies"]["breakers"];
    assert_eq!(breakers["payments"], "closed", "{metrics}");
    // It may be asked at this moment whether it is back.
    assert_ne!(breakers["payments.accounts.acme"], "closed", "{metrics}");
}

#[tokio::test]
async fn an_account_that_rejects_us_makes_no_server_unready() {
    let (doors, acmes) = with_acmes().await;
    acmes.provider.set_faults([Fault::always(FaultKind::Rejected)]);
    doors.until_acmes_are_refused().await;
    let (status, ready) = get(&format!("{}/readyz", doors.rig.http())).await;
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    assert_eq!((status, &ready["checks"]["payments"]), (200, &json!("ok")));
    let warning = ready["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("payments.accounts.acme: "), "{warning}");
}

/// A server of its own settings, on the rig's stores.
async fn serve(doors: &Doors, settings: impl IntoIterator<Item = (&'static str, String)>) -> ServerProcess {
    let settings: Flags = settings.into_iter().collect();
    let settings: Vec<(&'static str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    ServerProcess::start(&doors.rig, &settings).await
}

async fn needs_attention(doors: &Doors) -> Vec<String> {
    let sql = doors.rig.sql().await;
    let query = "select needs_attention from order_sagas where needs_attention is not null";
    column(&sql, query, &[]).await.unwrap()
}

#[tokio::test]
async fn an_order_stays_with_the_account_that_it_was_paid_into() {
    let account = Account::start().await;
    let doors = Doors::start(of_two().no_server()).await;
    let rig = &doors.rig;

    // Before acme had an account.
    let server = serve(&doors, []).await;
    doors.report_to(server.locations(), "acme", "cab-1", PICKUP).await;
    let early = doors.place(server.orders(), "acme").await;
    assert!(server.stop().await.success());

    // It has one.
    let server = serve(&doors, account.settings()).await;
    doors.refund_in(server.orders(), "acme", &early).await;
    rig.until_all_settled().await;
    assert_eq!((rig.movements_count(), account.counts()), ((1, 1), (0, 0)));
    doors.report_to(server.locations(), "acme", "cab-2", PICKUP).await;
    let late = doors.place(server.orders(), "acme").await;
    assert!(server.stop().await.success());
    assert_eq!((rig.movements_count(), account.counts()), ((1, 1), (1, 0)));

    // It is taken out: its order waits for it, and says so.
    let server = serve(&doors, []).await;
    doors.refund_in(server.orders(), "acme", &late).await;
    until("the order asks for an operator", async || {
        let found = needs_attention(&doors).await;
        let is_named = |why: &String| why.contains("payments.accounts.acme");
        if found.iter().any(is_named) { Ok(()) } else { Err(found) }
    })
    .await;
    assert!(server.stop().await.success());
    assert_eq!((rig.movements_count(), account.counts()), ((1, 1), (1, 0)));

    let server = serve(&doors, account.settings()).await;
    rig.until_all_settled().await;
    assert_eq!((rig.movements_count(), account.counts()), ((1, 1), (1, 1)));
    assert!(needs_attention(&doors).await.is_empty());
    assert!(server.stop().await.success());
}

async fn send(doors: &Doors, path: &str, secret: &str, event: &serde_json::Value) -> u16 {
    let body = event.to_string();
    let signature = webhook_signature(secret, jiff::Timestamp::now().as_second(), body.as_bytes());
    let request = http().post(format!("{}{path}", doors.rig.webhooks_url()));
    let request = request.header("stripe-signature", signature);
    request.body(body).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn an_event_is_of_the_account_that_signed_it_and_about_orders_of_that_account_alone() {
    let account = Account::start().await;
    let builder = account.is_in(of_two()).set("payments.webhook_secrets", SECRET);
    let builder = builder.set("payments.accounts.acme.webhook_secrets", ACMES_SECRET);
    let doors = Doors::start(builder).await;
    let acmes_path = format!("{PATH}/acme");
    let mut orders = Vec::new();
    for tenant in ["", "acme"] {
        doors.report_in(tenant, "cab-1", PICKUP).await;
        orders.push(doors.place(doors.orders(), tenant).await.order_id);
    }
    let (ours, acmes) = (event_about(&orders[0]), event_about(&orders[1]));

    assert_eq!(send(&doors, &acmes_path, SECRET, &acmes).await, 401, "another's secret");
    assert_eq!(send(&doors, PATH, ACMES_SECRET, &ours).await, 401, "another's secret");
    for path in ["/beta", "/gamma", "/"] {
        let path = format!("{PATH}{path}");
        assert_eq!(send(&doors, &path, SECRET, &ours).await, 404, "{path}");
    }
    assert_eq!(send(&doors, &acmes_path, ACMES_SECRET, &acmes).await, 200);
    assert_eq!(send(&doors, PATH, SECRET, &ours).await, 200);
    // Acme says something of an order that is not its own, under the id of an event that is not its own.
    assert_eq!(send(&doors, &acmes_path, ACMES_SECRET, &ours).await, 200);

    let sql = doors.rig.sql().await;
    let query = "select coalesce(order_id::text, 'none') from payment_events order by received_at";
    let stored: Vec<String> = column(&sql, query, &[]).await.unwrap();
    assert_eq!(stored, [&*orders[1], &*orders[0], "none"]);
}

/// A server that was started without the account, or is of a version that knows none, would charge into another business's.
#[tokio::test]
async fn who_does_not_know_the_account_of_a_business_charges_nothing_for_it() {
    let account = Account::start().await;
    let doors = Doors::start(of_two().no_server()).await;
    let with = serve(&doors, account.settings()).await;
    let without = serve(&doors, []).await;
    for tenant in ["", "acme"] {
        doors.report_to(with.locations(), tenant, "cab-1", PICKUP).await;
    }
    let refused = doors.try_to_place(without.orders(), "acme").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    doors.place(without.orders(), "").await;
    doors.place(with.orders(), "acme").await;
    assert_eq!((doors.rig.movements_count(), account.counts()), ((1, 0), (1, 0)));
    let sql = doors.rig.sql().await;
    let moved = sql
        .execute("update order_sagas set payment_account = null", &[])
        .await
        .unwrap_err();
    let constraint = moved.as_db_error().unwrap().constraint();
    assert_eq!(constraint, Some("order_sagas_payment_account"));
    for server in [with, without] {
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn an_account_that_is_given_up_serves_its_own_orders_and_gets_no_new_ones() {
    let account = Account::start().await;
    let doors = Doors::start(of_two().no_server()).await;
    let server = serve(&doors, account.settings()).await;
    for cab in ["cab-1", "cab-2"] {
        doors.report_to(server.locations(), "acme", cab, PICKUP).await;
    }
    let early = doors.place(server.orders(), "acme").await;
    assert!(server.stop().await.success());

    let given_up = ("payments.accounts.acme.new_orders", "false".to_owned());
    let server = serve(&doors, account.settings().into_iter().chain([given_up])).await;
    doors.place(server.orders(), "acme").await;
    doors.refund_in(server.orders(), "acme", &early).await;
    doors.rig.until_all_settled().await;
    assert_eq!((doors.rig.movements_count(), account.counts()), ((1, 0), (1, 1)));
    assert!(server.stop().await.success());
}

/// What was never sent needs no account to be ended.
#[tokio::test]
async fn an_order_without_its_account_that_was_never_charged_is_cancelled() {
    let account = Account::start().await;
    let doors = Doors::start(of_two().no_server()).await;
    let server = serve(&doors, account.settings()).await;
    let away = Fault::always(FaultKind::RateLimited).on(FaultTarget::Charge);
    account.provider.set_fault(away);
    doors.try_to_place(server.orders(), "acme").await.unwrap_err();
    assert!(server.stop().await.success());

    let server = serve(&doors, []).await;
    let sql = doors.rig.sql().await;
    let query = "select order_id::text from order_sagas";
    let order_id: String = sql.query_one(query, &[]).await.unwrap().get(0);
    let token = doors.token_in("acme", "service", "shop");
    let request = CancelOrderRequest {
        order_id: order_id.clone(),
        ..CancelOrderRequest::default()
    };
    let cancelled = server.orders().cancel_order(by(Some(&token), request)).await.unwrap();
    assert_eq!(cancelled.into_inner().order.unwrap().status(), OrderStatus::Failed);
    assert_eq!(account.counts(), (0, 0));
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn who_compares_without_an_account_of_the_ledger_learns_which() {
    let (doors, _account) = with_acmes().await;
    doors.report_in("acme", "cab-1", PICKUP).await;
    doors.place(doors.orders(), "acme").await;
    for command in [&["reconcile"][..], &["audit"]] {
        // On the stores and the provider of the rig, and without its accounts.
        let ended = on_stores(&doors.rig, command).await;
        assert_eq!(ended.status, Some(64), "{ended:?}");
        assert!(ended.stderr.contains("payments.accounts.acme"), "{ended:?}");
    }
}

#[tokio::test]
async fn accounts_that_reject_us_leave_the_server_ready_for_the_others() {
    let (doors, _account) = with_acmes().await;
    doors.report_in("acme", "cab-1", PICKUP).await;
    let rejects = Fault::always(FaultKind::Rejected).on(FaultTarget::Charge);
    doors.rig.payments().set_fault(rejects);
    until(
        "orders of the business without a name are refused at once",
        async || {
            let refused = doors.try_to_place(doors.orders(), "").await.unwrap_err();
            if refused.code() == Code::Unavailable {
                Ok(())
            } else {
                Err(refused)
            }
        },
    )
    .await;
    let (status, _) = get(&format!("{}/readyz", doors.rig.http())).await;
    assert_eq!(status, 200);
    doors.place(doors.orders(), "acme").await;
}
