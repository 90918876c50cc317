//! The ledger's file over the end of a provider, and what a provider holds while it runs.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use tokio_util::task::TaskTracker;
use waybill_sandbox::Error;
use waybill_sandbox::payments::{Fault, FaultKind, Provider};

use super::{ANY_PORT, CHARGED, INTENTS, TestProvider, VISA, charge_form};
use crate::rig::until;

fn append(path: &Path, bytes: &[u8]) {
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

#[tokio::test]
async fn a_provider_that_died_comes_back_with_all_it_knew() {
    let test = TestProvider::start().await;
    let charged = test.charge("c", "500").await;
    let intent = charged.id().to_owned();
    let refund = |amount| [("payment_intent", intent.as_str()), ("amount", amount)];
    let refunded = test.refund("r", &refund("100")).await;
    let declined = test.charge_card("d", "pm_card_chargeDeclined").await;
    let ledger = test.provider.ledger();

    let test = test.restart().await;

    assert_eq!(test.provider.ledger(), ledger);
    assert_eq!(test.charge("c", "500").await, charged.replay());
    assert_eq!(test.charge_card("d", "pm_card_chargeDeclined").await, declined.replay());
    assert_eq!(test.refund("r", &refund("100")).await, refunded.replay());
    let too_much = test.refund("r2", &refund("401")).await;
    assert_eq!(too_much.status, 400, "the rest of the charge is known too");
    assert_eq!(test.provider.ledger(), ledger);
}

#[tokio::test]
async fn a_line_that_a_death_cut_off_never_happened() {
    let test = TestProvider::start().await;
    test.charge("c1", "500").await;
    let path = test.ledger_path();
    test.provider.stop().await;
    let whole = fs::read(&path).unwrap();
    append(&path, &whole[..whole.len() / 2]);

    let test = TestProvider::start_in(test.folder).await;
    assert_eq!(test.movements(), [CHARGED]);
    test.charge("c2", "500").await;

    let test = test.restart().await;
    let movements = test.movements();
    assert_eq!(
        movements,
        [CHARGED, CHARGED],
        "the next line is not glued to half a line"
    );
}

#[tokio::test]
async fn a_damaged_ledger_is_refused_by_the_number_of_its_line() {
    let test = TestProvider::start().await;
    test.charge("c1", "500").await;
    let path = test.ledger_path();
    test.provider.stop().await;
    append(&path, b"nonsense\n");

    let error = Provider::start(ANY_PORT, &path).await.unwrap_err();

    assert!(matches!(error, Error::LedgerDamaged { line: 2, .. }), "{error}");
}

#[tokio::test]
async fn two_providers_do_not_share_a_ledger_or_a_port() {
    let test = TestProvider::start().await;
    let error = Provider::start(ANY_PORT, &test.ledger_path()).await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    let other = test.folder.path().join("other.jsonl");
    let error = Provider::start(test.provider.addr(), &other).await.unwrap_err();
    assert!(matches!(error, Error::PortInUse { .. }), "{error}");
}

#[tokio::test]
async fn stopping_cuts_requests_that_hang_and_frees_the_port() {
    let test = TestProvider::start().await;
    test.provider.set_fault(Fault::always(FaultKind::Hang));
    let request = test.request(INTENTS, "", &charge_form("500", "o", VISA));
    let hanging = TaskTracker::new().spawn(request.send());
    until("the request hangs", async || test.provider.requests() == 1).await;
    let (addr, path) = (test.provider.addr(), test.ledger_path());

    test.provider.stop().await;

    assert!(hanging.await.unwrap().is_err());
    let provider = Provider::start(addr, &path).await.unwrap();
    assert_eq!(provider.addr(), addr);
    assert!(provider.ledger().is_empty());
}
