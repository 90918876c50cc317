//! Who may call what, and what it sees: callers with tokens, on a server that trusts who signed them.

mod accounts;
mod actors;
mod addresses;
mod api_keys;
mod canaries;
mod followed;
mod key_reads;
pub mod key_url;
mod matrix;
mod narrow;
mod places;
mod shares;
mod streams;
mod tenants;
mod unfinished;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
pub use testkit::wire::by;
use testkit::wire::{PICKUP, a_ride, fix};
use testkit::{Builder, Rig};
use tonic::transport::Channel;
use waybill_proto::location::v1::ReportLocationsRequest;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{CompleteOrderRequest, CreateOrderRequest, Order};
use waybill_sandbox::tokens::TokenSigner;

/// A server that lets in whom this signer signed for, and the signer.
pub struct Doors {
    pub rig: Rig,
    signer: TokenSigner,
    /// The file of `auth.keys`.
    keys: PathBuf,
    _folder: tempfile::TempDir,
}

/// What has to come well within this time, and in a program that is broken never would.
pub async fn in_time<T>(what: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_mins(1), what).await;
    waited.expect("it comes in time")
}

impl Doors {
    pub async fn start(builder: Builder) -> Doors {
        let signer = TokenSigner::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.json");
        std::fs::write(&keys, signer.key_set().unwrap()).unwrap();
        let rig = builder
            .set("auth.anonymous", "false")
            .set("auth.keys", keys.to_str().unwrap())
            .set("auth.issuer", TokenSigner::ISSUER)
            .set("grpc.services", "order,location,fleet,operator")
            .start()
            .await;
        Doors {
            rig,
            signer,
            keys,
            _folder: folder,
        }
    }

    fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.rig.channel())
    }

    pub fn token(&self, role: &str, subject: &str) -> String {
        self.signer.token(role, subject, Duration::from_mins(10)).unwrap()
    }

    /// The id of an order of this user that finds no driver, and is searched for longer than a test takes.
    pub async fn searching(&self, user: &str) -> String {
        let ride = CreateOrderRequest {
            user_id: user.to_owned(),
            ..a_ride()
        };
        let token = self.token("customer", user);
        let mut call = by(Some(&token), ride);
        call.set_timeout(Duration::from_secs(1));
        let mut orders = OrderServiceClient::new(self.rig.channel());
        orders.create_order(call).await.unwrap_err();
        let sql = self.rig.sql().await;
        let row = sql
            .query_one("select order_id::text from order_sagas", &[])
            .await
            .unwrap();
        row.get(0)
    }

    pub async fn drive(&self, driver: &str, (lat, lon): (f64, f64)) {
        let fixes = vec![fix(driver, lat, lon, Timestamp::now())];
        let call = by(Some(&self.token("driver", driver)), ReportLocationsRequest { fixes });
        let mut locations = LocationServiceClient::new(self.rig.channel());
        assert_eq!(
            locations.report_locations(call).await.unwrap().into_inner().rejections,
            []
        );
    }

    /// Anna's order, served by cab-1.
    pub async fn annas(&self) -> Order {
        self.drive("cab-1", PICKUP).await;
        let ride = CreateOrderRequest {
            user_id: "anna".to_owned(),
            ..a_ride()
        };
        let placed = self.orders().create_order(by(Some(&self.anna()), ride)).await;
        placed.unwrap().into_inner().order.unwrap()
    }

    pub fn anna(&self) -> String {
        self.token("customer", "anna")
    }

    /// The driver has served the order.
    pub async fn complete(&self, driver: &str, order_id: &str) {
        let request = CompleteOrderRequest {
            order_id: order_id.to_owned(),
            ..CompleteOrderRequest::default()
        };
        let by_driver = by(Some(&self.token("driver", driver)), request);
        self.orders().complete_order(by_driver).await.unwrap();
    }
}
