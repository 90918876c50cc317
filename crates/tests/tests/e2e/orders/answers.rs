//! The first answer to a key is kept whole and goes out as it was kept, whichever server and version gives it.

use testkit::Rig;
use testkit::wire::{PICKUP, a_ride};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use waybill_proto::order::v1::CreateOrderRequest;

/// Field 1 after field 999, which no version of ours has, and its length in one byte more than it needs: any reader
/// takes it, and no writer of ours makes it.
const OF_ANOTHER_VERSION: &[u8] = b"\xba\x3e\x03new\x0a\x85\x80\x00\x0a\x03a-b";

fn is_replayed(metadata: &MetadataMap) -> bool {
    metadata.get("idempotent-replayed").is_some_and(|value| value == "true")
}

/// Two servers on the same stores, and a request that the first of them served.
async fn served() -> (Rig, CreateOrderRequest, Vec<u8>) {
    let rig = Rig::builder().servers(2).start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let request = a_ride();
    let first = rig.place_raw(0, &request).await.unwrap();
    assert!(!is_replayed(first.metadata()));
    (rig, request, first.into_inner())
}

/// Puts another answer in the place of the one that was given, past the guard that forbids it.
async fn put_answer(rig: &Rig, code: Code, message: &str, details: &[u8], body: &[u8]) {
    let sql = rig.sql().await;
    sql.batch_execute("begin; alter table order_sagas disable trigger order_sagas_guard")
        .await
        .unwrap();
    let put = "update order_sagas
                  set response_code = $1, response_message = $2, response_details = $3, response_body = $4";
    let code = i16::try_from(i32::from(code)).unwrap();
    assert_eq!(sql.execute(put, &[&code, &message, &details, &body]).await.unwrap(), 1);
    sql.batch_execute("alter table order_sagas enable trigger order_sagas_guard; commit")
        .await
        .unwrap();
}

#[tokio::test]
async fn the_first_answer_is_the_stored_bytes() {
    let (rig, request, first) = served().await;
    let query = "select response_code, response_message, response_details, response_body from order_sagas";
    let row = rig.sql().await.query_one(query, &[]).await.unwrap();
    let (code, message, details): (i16, &str, &[u8]) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((code, message, details), (0, "", &b""[..]));
    assert_eq!(row.get::<_, Vec<u8>>(3), first);
    for server in [0, 1] {
        let again = rig.place_raw(server, &request).await.unwrap();
        assert!(is_replayed(again.metadata()));
        assert_eq!(again.into_inner(), first);
    }
}

#[tokio::test]
async fn an_answer_that_another_version_wrote_is_replayed_byte_for_byte() {
    let (mut rig, request, _) = served().await;
    put_answer(&rig, Code::Ok, "", b"", OF_ANOTHER_VERSION).await;
    for (server, restart) in [(0, false), (1, false), (0, true)] {
        if restart {
            rig.restart_server().await;
        }
        let again = rig.place_raw(server, &request).await.unwrap();
        assert!(is_replayed(again.metadata()));
        let bytes = again.into_inner();
        assert_eq!(bytes, OF_ANOTHER_VERSION, "server {server}, restarted: {restart}");
    }
    assert_eq!(rig.charges().len(), 1);
}

/// Today every answer to an accepted order is OK; a version that refuses one may come, or have been.
#[tokio::test]
async fn a_stored_refusal_is_replayed_as_that_refusal() {
    let (mut rig, request, _) = served().await;
    let details = ErrorDetails::with_error_info("CARD_STOLEN", "waybill", [("bank".to_owned(), "ü".to_owned())]);
    let refusal = Status::with_error_details(Code::FailedPrecondition, "100 % gestohlen: ü", details);
    put_answer(&rig, refusal.code(), refusal.message(), refusal.details(), b"").await;
    for (server, restart) in [(0, false), (1, false), (0, true)] {
        if restart {
            rig.restart_server().await;
        }
        let again = rig.place_raw(server, &request).await.unwrap_err();
        assert_eq!(again.code(), refusal.code());
        assert_eq!(again.message(), refusal.message());
        assert_eq!(again.details(), refusal.details());
        assert!(
            is_replayed(again.metadata()),
            "server {server}, restarted: {restart}: {again:?}"
        );
    }
    assert_eq!(rig.charges().len(), 1);
}
