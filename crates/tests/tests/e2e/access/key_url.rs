//! Keys from an identity provider's address: fetched, followed, and kept while it is away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::wire::{assert_refused, assert_refused_for_now, by, get_json};
use testkit::{Rig, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};
use waybill_proto::order::v1::ListOrdersRequest;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_sandbox::tokens::TokenSigner;

use super::key_reads::reads;

/// Publishes keys, as identity providers do; or whatever else it is to answer.
pub struct IdentityProvider {
    pub url: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl IdentityProvider {
    pub async fn start() -> IdentityProvider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (answer, asked) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
        let (answers, counts) = (Arc::clone(&answer), Arc::clone(&asked));
        let tasks = TaskTracker::new();
        let peers = tasks.clone();
        tasks.spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                counts.fetch_add(1, Ordering::Relaxed);
                let answer = answers.lock().unwrap().clone();
                peers.spawn(async move {
                    let _ = peer.read(&mut [0; 4_096]).await;
                    let _ = peer.write_all(answer.as_bytes()).await;
                });
            }
        });
        let provider = IdentityProvider { url, answer, asked };
        provider.fails();
        provider
    }

    pub fn answers(&self, status: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    }

    fn publishes(&self, signers: &[&TokenSigner]) {
        let sets = signers.iter().map(|signer| {
            let set: serde_json::Value = serde_json::from_str(&signer.key_set().unwrap()).unwrap();
            set["keys"][0].clone()
        });
        let keys: Vec<_> = sets.collect();
        self.answers("200 OK", &serde_json::json!({ "keys": keys }).to_string());
    }

    fn fails(&self) {
        self.answers("503 Service Unavailable", "");
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    async fn server(&self) -> Rig {
        Rig::builder()
            .set("auth.anonymous", "false")
            .set("auth.keys", &self.url)
            .set("auth.issuer", TokenSigner::ISSUER)
            .start()
            .await
    }
}

/// A server that trusts the old key, which its provider publishes; a new one, and one that is no one's.
struct World {
    old: TokenSigner,
    new: TokenSigner,
    stranger: TokenSigner,
    provider: IdentityProvider,
    rig: Rig,
}

impl World {
    async fn start() -> World {
        let signer = || TokenSigner::new().unwrap();
        let (old, provider) = (signer(), IdentityProvider::start().await);
        provider.publishes(&[&old]);
        World {
            rig: provider.server().await,
            new: signer(),
            stranger: signer(),
            old,
            provider,
        }
    }
}

async fn list(rig: &Rig, signer: &TokenSigner) -> Result<(), Status> {
    let token = signer.token("customer", "anna", Duration::from_mins(10)).unwrap();
    let mut orders = OrderServiceClient::new(rig.channel());
    orders
        .list_orders(by(Some(&token), ListOrdersRequest::default()))
        .await
        .map(drop)
}

#[tokio::test]
async fn a_key_that_is_new_is_fetched_when_it_is_needed_and_a_flood_of_unknown_ones_is_not() {
    let World {
        old,
        new,
        stranger,
        provider,
        rig,
    } = World::start().await;
    list(&rig, &old).await.unwrap();
    let before = provider.asked();
    provider.publishes(&[&old, &new]);
    // No one waits for the next round: the first call with the new key is let in.
    list(&rig, &new).await.unwrap();
    assert_eq!(provider.asked(), before + 1);
    for _ in 0..50 {
        let refused = list(&rig, &stranger).await.unwrap_err();
        assert_refused(&refused, Code::Unauthenticated, "TOKEN_UNTRUSTED");
    }
    assert!(provider.asked() <= before + 2, "{} times", provider.asked());
    list(&rig, &old).await.unwrap();
}

#[tokio::test]
async fn keys_are_kept_while_the_provider_is_away() {
    let (signer, stranger) = (TokenSigner::new().unwrap(), TokenSigner::new().unwrap());
    let provider = IdentityProvider::start().await;
    provider.publishes(&[&signer]);
    let rig = provider.server().await;
    provider.fails();
    let before = provider.asked();
    list(&rig, &stranger).await.unwrap_err();
    assert_eq!(provider.asked(), before + 1);
    list(&rig, &signer).await.unwrap();
    // How long it has been away can be seen before keys are too old.
    assert_eq!(reads(&rig, "auth.keys", "ok").await, 1);
    assert_eq!(reads(&rig, "auth.keys", "failed").await, 1);
}

/// Whoever asks for an unknown key and hangs up does not use up the one time that the provider is asked.
#[tokio::test]
async fn a_caller_who_hangs_up_does_not_keep_others_from_a_new_key() {
    let World {
        old,
        new,
        stranger,
        provider,
        rig,
    } = World::start().await;
    provider.publishes(&[&old, &new]);
    let token = stranger.token("customer", "anna", Duration::from_mins(10)).unwrap();
    let mut hasty = by(Some(&token), ListOrdersRequest::default());
    hasty.set_timeout(Duration::from_millis(1));
    OrderServiceClient::new(rig.channel())
        .list_orders(hasty)
        .await
        .unwrap_err();
    until("the new key is known", async || list(&rig, &new).await).await;
}

#[tokio::test]
async fn without_any_keys_yet_a_server_is_not_ready_and_says_so_and_gets_well_by_itself() {
    let signer = TokenSigner::new().unwrap();
    let provider = IdentityProvider::start().await;
    let rig = provider.server().await;
    let refused = list(&rig, &signer).await.unwrap_err();
    assert_refused_for_now(&refused, Code::Unavailable);
    let (status, report) = get_json(&format!("{}/readyz", rig.http())).await;
    assert_eq!(status, 503, "{report}");
    let why = report["checks"]["auth.keys"].as_str().unwrap();
    assert!(why.contains("503"), "{report}");
    assert!(reads(&rig, "auth.keys", "failed").await > 0);
    provider.publishes(&[&signer]);
    until("the keys are there", async || list(&rig, &signer).await).await;
    let (status, report) = get_json(&format!("{}/readyz", rig.http())).await;
    assert_eq!(
        (status, &report["checks"]["auth.keys"]),
        (200, &"ok".into()),
        "{report}"
    );
}
