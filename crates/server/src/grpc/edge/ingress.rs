//! Rate limits: no caller starves the others, and all callers together ask for no more than the service can do.
//!
//! A call passes the bucket of its principal, then that of its class; the other way round, one caller over its own
//! limit would empty the bucket that all share. It waits a little if that is enough, never past its deadline, and is
//! refused otherwise. A stream is slowed instead: the handler stops reading, sooner or later, and flow control stops the sender. On a stream
//! of several principals each passes as far as its own limit lets it.
//! The health service has no limit: it must answer when all other calls are refused.
//!
//! The buckets are GCRA, the leaky bucket as a meter, of `governor`. They are kept in memory, so each instance has its
//! own.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;
use tonic::Request;

use super::CallDeadline;
use crate::metrics::Metrics;

/// How often idle principals are evicted, each of which takes some 50 bytes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(10);

/// The kind of a call. Each has its own buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Placing orders, and sharing them. The principal is the customer or the driver who calls, else the user or the order that the call is about.
    Orders,
    /// What frees, ends, gives back or repairs something: completing, cancelling and refunding orders, releasing drivers, duty, ending links, what operators do
    /// about orders, and erasing people. It has tokens of its own: no flood of new orders keeps those busy who could serve them, and no flood of anything else
    /// keeps those waiting who end trouble. The principal is the same; of what operators do, and of an erasure, it is the caller, or its address.
    Completions,
    /// Reading. The principal is the customer or the driver who calls, else the user, driver or order that is read, or the
    /// caller's address.
    Reads,
    /// Positions. The principal is the driver.
    Fixes,
    /// Following a link, which anyone may try. The principal is the caller's address.
    Links,
}

/// A token bucket.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Tokens that it gains in a second.
    pub per_second: NonZeroU32,
    /// Tokens that it holds.
    pub burst: NonZeroU32,
}

/// The limits of one class.
#[derive(Debug, Clone, Copy)]
pub struct ClassLimit {
    /// Of each principal.
    pub principal: Rate,
    /// Of all together.
    pub all: Rate,
}

/// The limits of all classes.
#[derive(Debug, Clone)]
pub struct IngressSettings {
    /// Of [`Class::Orders`].
    pub orders: ClassLimit,
    /// Of [`Class::Completions`].
    pub completions: ClassLimit,
    /// Of [`Class::Reads`].
    pub reads: ClassLimit,
    /// Of [`Class::Fixes`].
    pub fixes: ClassLimit,
    /// Of [`Class::Links`].
    pub links: ClassLimit,
    /// Which share of what all together have one named tenant may take, above 0 and up to 1.
    pub tenant_share: f64,
    /// How long a call may wait for its token before it is refused.
    pub wait_max: Duration,
}

/// The buckets. Share it in an `Arc`.
#[derive(Debug)]
pub struct IngressLimits {
    orders: Buckets,
    completions: Buckets,
    reads: Buckets,
    fixes: Buckets,
    links: Buckets,
    repeats: Buckets,
    wait_max: Duration,
    metrics: Arc<Metrics>,
}

/// A call came too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many calls; try again in {} ms", retry_after.as_millis())]
pub struct RateLimited {
    /// When a call would pass, if no other came.
    pub retry_after: Duration,
}

#[derive(Debug)]
struct Buckets {
    name: &'static str,
    limit: ClassLimit,
    /// Of one named tenant.
    tenant: Rate,
    /// By hash of the principal, which spares a copy of it. Two that share a hash, one pair in billions, share a
    /// bucket; no one can aim at it, since the hasher is random.
    principals: DefaultKeyedRateLimiter<u64>,
    /// By hash of the tenant's name: one business does not take what all have.
    tenants: DefaultKeyedRateLimiter<u64>,
    all: DefaultDirectRateLimiter,
    hasher: RandomState,
    clock: DefaultClock,
}

/// Which tokens a call has already.
#[derive(Debug, Default)]
struct Passed {
    own: bool,
    tenant: bool,
}

/// One wait, counted even if the caller goes away in it.
#[derive(Debug)]
pub struct Wait<'a> {
    metrics: &'a Metrics,
    began: Instant,
}

impl Default for IngressSettings {
    fn default() -> IngressSettings {
        IngressSettings {
            orders: ClassLimit {
                principal: Rate::new(5, 20),
                all: Rate::new(500, 1_000),
            },
            completions: ClassLimit {
                principal: Rate::new(5, 20),
                all: Rate::new(1_000, 2_000),
            },
            reads: ClassLimit {
                principal: Rate::new(50, 100),
                all: Rate::new(5_000, 10_000),
            },
            fixes: ClassLimit {
                principal: Rate::new(20, 100),
                all: Rate::new(50_000, 100_000),
            },
            links: ClassLimit {
                principal: Rate::new(10, 50),
                all: Rate::new(100, 500),
            },
            tenant_share: 0.5,
            wait_max: Duration::from_millis(100),
        }
    }
}

/// Of calls that are read though there is no room. All of them are as many as are looked for among what was answered before.
fn repeats() -> ClassLimit {
    ClassLimit {
        principal: Rate::new(25, 25),
        all: Rate::new(100, 100),
    }
}

impl Rate {
    /// A bucket that gains `per_second` tokens and holds `burst`; 0 is taken for 1.
    pub fn new(per_second: u32, burst: u32) -> Rate {
        let at_least_one = |tokens| NonZeroU32::new(tokens).unwrap_or(NonZeroU32::MIN);
        Rate {
            per_second: at_least_one(per_second),
            burst: at_least_one(burst),
        }
    }

    /// A part of it, and at least one token.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of what fits"
    )]
    fn share(self, share: f64) -> Rate {
        let part = |tokens: NonZeroU32| (f64::from(tokens.get()) * share).ceil() as u32;
        Rate::new(part(self.per_second), part(self.burst))
    }

    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

impl IngressLimits {
    /// All buckets full.
    pub fn new(settings: &IngressSettings, metrics: Arc<Metrics>) -> IngressLimits {
        IngressLimits {
            orders: Buckets::new("orders", settings.orders, settings.tenant_share),
            completions: Buckets::new("completions", settings.completions, settings.tenant_share),
            reads: Buckets::new("reads", settings.reads, settings.tenant_share),
            fixes: Buckets::new("fixes", settings.fixes, settings.tenant_share),
            links: Buckets::new("links", settings.links, settings.tenant_share),
            repeats: Buckets::new("repeats", repeats(), settings.tenant_share),
            wait_max: settings.wait_max,
            metrics,
        }
    }

    /// Lets one call of `principal` pass, now or after a short wait.
    pub async fn admit(
        &self,
        class: Class,
        principal: &str,
        deadline: Option<CallDeadline>,
    ) -> Result<(), RateLimited> {
        self.admit_items(class, principal, NonZeroU32::MIN, Passed::default(), deadline)
            .await
    }

    /// The same for a call that costs as much as `weight` others. It needs a full bucket at most.
    pub async fn admit_weighted<T>(
        &self,
        class: Class,
        principal: &str,
        weight: NonZeroU32,
        request: &Request<T>,
    ) -> Result<(), RateLimited> {
        let limit = self.buckets(class).limit;
        let weight = weight.min(limit.principal.burst).min(limit.all.burst);
        let passed = Passed::default();
        self.admit_items(class, principal, weight, passed, CallDeadline::of(request))
            .await
    }

    /// The same for `count` items that passed the limit of their principal.
    pub async fn admit_passed(
        &self,
        class: Class,
        principal: &str,
        count: u32,
        deadline: Option<CallDeadline>,
    ) -> Result<(), RateLimited> {
        let passed = Passed {
            own: true,
            tenant: false,
        };
        let Some(count) = NonZeroU32::new(count) else {
            return Ok(());
        };
        self.admit_items(class, principal, count, passed, deadline).await
    }

    async fn admit_items(
        &self,
        class: Class,
        principal: &str,
        count: NonZeroU32,
        mut passed: Passed,
        deadline: Option<CallDeadline>,
    ) -> Result<(), RateLimited> {
        let buckets = self.buckets(class);
        let latest = Instant::now() + self.wait_max;
        let latest = deadline.map_or(latest, |CallDeadline(deadline)| latest.min(deadline));
        let mut wait = None;
        loop {
            let Err(retry_after) = buckets.take(principal, count, &mut passed) else {
                return Ok(());
            };
            if Instant::now() + retry_after > latest {
                self.metrics.ingress.refused(buckets.name);
                return Err(RateLimited { retry_after });
            }
            wait.get_or_insert_with(|| Wait::begin(&self.metrics));
            sleep(retry_after).await;
        }
    }

    /// The same for the call of `request`, which brings its deadline.
    pub async fn admit_call<T>(&self, class: Class, principal: &str, request: &Request<T>) -> Result<(), RateLimited> {
        self.admit(class, principal, CallDeadline::of(request)).await
    }

    /// Takes tokens of `principal` for `count` items on a stream, or for as many of them as it can have tokens for at once: how many those are. Or how
    /// long it takes until it has those tokens.
    pub fn pass_part(&self, class: Class, principal: &str, count: NonZeroU32) -> Result<u32, Duration> {
        let buckets = self.buckets(class);
        let part = count.min(buckets.limit.principal.burst);
        buckets.take_of(&buckets.principals, principal, part)?;
        Ok(part.get())
    }

    /// Whether a call of `caller` is read though there is no room for what it asks for: it may repeat a call that was answered.
    pub fn may_be_a_repeat(&self, caller: &str) -> bool {
        let passed = self.repeats.take(caller, NonZeroU32::MIN, &mut Passed::default());
        passed.is_ok()
    }

    /// Begins to wait for tokens, which lasts until the wait is dropped.
    pub fn begin_wait(&self) -> Wait<'_> {
        Wait::begin(&self.metrics)
    }

    /// Refuses a call none of whose items passed the limit of its principal: when one more would.
    pub fn refuse(&self, class: Class) -> RateLimited {
        let buckets = self.buckets(class);
        self.metrics.ingress.refused(buckets.name);
        let retry_after = Duration::from_secs(1) / buckets.limit.principal.per_second.get();
        RateLimited { retry_after }
    }

    /// How many of `count` items of `principal` may pass by its own limit, now. They wait for what all have with [`pace_passed`](IngressLimits::pace_passed).
    pub fn pass_some(&self, class: Class, principal: &str, count: u32) -> u32 {
        let buckets = self.buckets(class);
        let mut part = count.min(buckets.limit.principal.burst.get());
        while let Some(items) = NonZeroU32::new(part) {
            if buckets.take_of(&buckets.principals, principal, items).is_ok() {
                break;
            }
            part /= 2;
        }
        part
    }

    /// Waits until `count` items of `principal` on a stream, which passed its own limit, may pass those of its tenant and of all, however long that
    /// takes. While it waits, do not read from the stream.
    pub async fn pace_passed(&self, class: Class, principal: &str, count: u32) {
        let buckets = self.buckets(class);
        // A bucket never holds more than its burst, so larger counts pass in parts.
        let part_max = buckets.limit.principal.burst.min(buckets.limit.all.burst);
        let mut wait = None;
        let mut left = count;
        while let Some(remaining) = NonZeroU32::new(left) {
            let part = remaining.min(part_max);
            let mut passed = Passed {
                own: true,
                tenant: false,
            };
            while let Err(retry_after) = buckets.take(principal, part, &mut passed) {
                wait.get_or_insert_with(|| Wait::begin(&self.metrics));
                sleep(retry_after).await;
            }
            left -= part.get();
        }
    }

    /// Evicts principals whose buckets are full again, until `stop`. Run it beside the server, or every principal
    /// that ever called is kept.
    pub async fn evict_idle(&self, stop: CancellationToken) {
        let mut ticks = interval(UPKEEP_INTERVAL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let all = [
                &self.orders,
                &self.completions,
                &self.reads,
                &self.fixes,
                &self.links,
                &self.repeats,
            ];
            for buckets in all {
                buckets.principals.retain_recent();
            }
        }
    }

    fn buckets(&self, class: Class) -> &Buckets {
        match class {
            Class::Orders => &self.orders,
            Class::Completions => &self.completions,
            Class::Reads => &self.reads,
            Class::Fixes => &self.fixes,
            Class::Links => &self.links,
        }
    }
}

impl Buckets {
    fn new(name: &'static str, limit: ClassLimit, tenant_share: f64) -> Buckets {
        let tenant = limit.all.share(tenant_share);
        Buckets {
            name,
            limit,
            tenant,
            principals: RateLimiter::keyed(limit.principal.quota()),
            tenants: RateLimiter::keyed(tenant.quota()),
            all: RateLimiter::direct(limit.all.quota()),
            hasher: RandomState::new(),
            clock: DefaultClock::default(),
        }
    }

    /// Takes `count` tokens of the principal and of its tenant, unless `passed` shows that it did so before, and of all; or
    /// returns how long to wait. A count over the burst of its tenant or of all takes all of that; over its own it passes:
    /// callers ask for less.
    fn take(&self, principal: &str, count: NonZeroU32, passed: &mut Passed) -> Result<(), Duration> {
        if !passed.own {
            self.take_of(&self.principals, principal, count)?;
            passed.own = true;
        }
        if !passed.tenant {
            // As in ids: what is of the business without a name has nothing before a '/'.
            if let Some((tenant, _)) = principal.split_once('/').filter(|(tenant, _)| !tenant.is_empty()) {
                self.take_of(&self.tenants, tenant, count.min(self.tenant.burst))?;
            }
            passed.tenant = true;
        }
        match self.all.check_n(count.min(self.limit.all.burst)) {
            Ok(Err(not_until)) => Err(not_until.wait_time_from(self.clock.now())),
            _ => Ok(()),
        }
    }
}

impl Buckets {
    fn take_of(&self, of: &DefaultKeyedRateLimiter<u64>, name: &str, count: NonZeroU32) -> Result<(), Duration> {
        match of.check_key_n(&self.hasher.hash_one(name), count) {
            Ok(Err(not_until)) => Err(not_until.wait_time_from(self.clock.now())),
            _ => Ok(()),
        }
    }
}

impl Wait<'_> {
    fn begin(metrics: &Metrics) -> Wait<'_> {
        metrics.ingress.wait_begun();
        Wait {
            metrics,
            began: Instant::now(),
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.metrics.ingress.waited(self.began.elapsed());
    }
}
