//! Orders that are followed by a link: [`Tracking`] makes and ends links, [`watch`] follows one.
//!
//! A link is its secret, 128 random bits, of which only a hash is stored. Whoever shows it sees where the order stands and
//! where its driver is: no ids, no names and no amounts. Nothing else needs to be known of the caller.

mod watch;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use waybill_domain::access::Authority;
use waybill_domain::id::OrderId;

pub use self::watch::{Followed, Follower, WatchError};
use crate::metrics::Metrics;
use crate::resilience::{PlaceLimits, Places};
use crate::storage::StoreError;
use crate::storage::live::LiveStore;
use crate::storage::orders::{NewShare, OrderStore, Share, Shared};

/// Links of an order that have not ended.
const LINKS_MAX: i64 = 20;
/// Followers of one customer's orders: a link that many have does not take the places of all.
const FOLLOWERS_OF_ONE_MAX: usize = 50;
/// How long a link shows how its order ended.
const AFTERWARDS: Duration = Duration::from_mins(15);
/// Reads of orders at a time: of all followers, and of those who begin, who may be anyone. The callers' connections are for others.
const READS_MAX: usize = 2;
/// The random bytes of a secret.
const SECRET_BYTES: usize = 16;

/// The hash of a link's secret.
type LinkHash = Vec<u8>;

/// Makes, ends and follows links.
#[derive(Clone)]
pub struct Tracking {
    orders: OrderStore,
    live: LiveStore,
    places: Places,
    reads: Arc<Semaphore>,
    first_reads: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    draining: CancellationToken,
}

/// Why a link was not made or ended.
#[derive(Debug, Error)]
pub enum ShareError {
    /// There is no such order, as far as the caller may see.
    #[error("there is no such order")]
    NotFound,
    /// The order has no such link.
    #[error("the order has no such link")]
    NoSuchLink,
    /// Its order is over.
    #[error("the order is over")]
    Ended,
    /// The order has as many as it may have.
    #[error("the order has {LINKS_MAX} links that have not ended: revoke one first")]
    TooMany,
    /// The operating system.
    #[error("the system gives no random bytes")]
    Random,
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Tracking {
    /// Over these stores, with room for so many followers, of which a tenant has its share. Streams end when `draining` is cancelled.
    pub fn new(
        orders: OrderStore,
        live: LiveStore,
        followers_max: usize,
        tenant_share: f64,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        draining: CancellationToken,
    ) -> Tracking {
        Tracking {
            orders,
            live,
            places: Places::new(PlaceLimits {
                all_max: followers_max,
                tenant_share,
                caller_max: FOLLOWERS_OF_ONE_MAX,
            }),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            first_reads: Arc::new(Semaphore::new(READS_MAX)),
            metrics,
            tasks,
            draining,
        }
    }

    /// A new link to an order, and its secret, which is nowhere else.
    pub async fn share(
        &self,
        by: &Authority,
        order: OrderId,
        lifetime: Duration,
    ) -> Result<(String, Share), ShareError> {
        let mut secret = [0; SECRET_BYTES];
        rand::fill(&mut secret).map_err(|_| ShareError::Random)?;
        let secret = BASE64_URL_SAFE_NO_PAD.encode(secret);
        let new = NewShare {
            order,
            token_hash: hash(&secret),
            lifetime,
        };
        match self.orders.in_name_of(by).share(&by.scope, &new, LINKS_MAX).await? {
            Shared::Made(share) => Ok((secret, share)),
            Shared::NotFound => Err(ShareError::NotFound),
            Shared::Ended => Err(ShareError::Ended),
            Shared::TooMany => Err(ShareError::TooMany),
        }
    }

    /// Ends a link of the order, or all of them.
    pub async fn revoke(&self, by: &Authority, order: OrderId, share: Option<Uuid>) -> Result<(), ShareError> {
        if self.orders.in_name_of(by).revoke_share(&by.scope, order, share).await? {
            return Ok(());
        }
        let is_there = self.orders.read(&by.scope, order).await?.is_some();
        match share {
            _ if !is_there => Err(ShareError::NotFound),
            Some(_) => Err(ShareError::NoSuchLink),
            // It has none to end.
            None => Ok(()),
        }
    }
}

fn hash(secret: &str) -> LinkHash {
    digest(&SHA256, secret.as_bytes()).as_ref().to_vec()
}
