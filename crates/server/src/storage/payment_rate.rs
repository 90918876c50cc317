//! The rate of calls to an account at the payment provider, as one bucket of tokens for all instances.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::debug;

use super::StoreError;
use super::live::{Script, ScriptCall};
use super::redis::Redis;
use crate::resilience::{CallRate, SharedBucket, Taken};

/// The bucket.
pub struct PaymentRate {
    redis: Redis,
    key: String,
    script: Script,
    rate: CallRate,
}

impl PaymentRate {
    /// The bucket of this key in this Redis. Who takes from it has to name the same rate.
    pub fn new(redis: Redis, key: String, per_second: NonZeroU32) -> PaymentRate {
        PaymentRate {
            redis,
            key,
            script: Script::new(include_str!("payment_rate.lua")),
            rate: CallRate { per_second },
        }
    }

    async fn take_now(&self, tokens: u32) -> Result<Taken, StoreError> {
        let interval_us = 1e6 / f64::from(self.rate.per_second.get());
        let mut connection = self.redis.connection();
        let mut call = ScriptCall::new(&self.script, std::iter::once(self.key.as_str()), 3);
        call.arg(interval_us).arg(self.rate.burst().get()).arg(tokens);
        let work = async { call.send(&mut connection).await };
        let (taken, wait_us): (u32, u64) = self.redis.call(work).await?;
        Ok(NonZeroU32::new(taken).map_or(Taken::NoneFor(Duration::from_micros(wait_us)), Taken::Tokens))
    }
}

impl SharedBucket for PaymentRate {
    fn take(&self, tokens: u32) -> BoxFuture<'_, Option<Taken>> {
        Box::pin(async move {
            // Counted where it is handled, and a Redis that is away is in the log already.
            let taken = self.take_now(tokens).await;
            taken
                .inspect_err(|error| debug!(%error, "the bucket of the payment rate does not answer"))
                .ok()
        })
    }
}

impl fmt::Debug for PaymentRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentRate")
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}
