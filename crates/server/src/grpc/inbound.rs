//! Fixes on their way in: they are parsed, and pass as the limits of their drivers let them.
//!
//! A stream of one driver is slowed: its messages wait for the driver's tokens, one after the other. On a stream of several drivers none waits for
//! another: what one sends beyond its limit is rejected. Which of both a stream is shows as it is read. So a stream that may carry several drivers is
//! read on while the first of them waits, and with the first fix of another one that wait is over: what lacks tokens then is rejected.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};
use waybill_domain::fix::{Fix, TimeWindow};
use waybill_domain::id::DriverId;
use waybill_proto::location::v1 as pb;

use super::edge::{Class, IngressLimits, Wait};
use super::fields::Violations;
use super::fixes::Batch;
use crate::identity::Access;
use crate::locations::ingest::Ingest;

/// Fixes in one message of a stream: what 64 KiB hold of drivers with short names. It would hold 30 times as many that are empty, of which each is
/// a rejection of some 200 bytes.
const MESSAGE_FIXES_MAX: usize = 1_000;
/// While so many fixes wait for the tokens of their driver, a stream is not read on: a backlog of two large messages, behind which those of other drivers
/// are seen. What waits takes some 100 bytes for each.
const WAITING_MAX: usize = 2 * MESSAGE_FIXES_MAX;

/// How streams are treated. See `[locations]` in `config/waybill.toml`.
#[derive(Debug, Clone)]
pub struct LocationLimits {
    /// The times of fixes that are accepted.
    pub window: TimeWindow,
    /// How long a stream may be idle.
    pub idle_max: Duration,
    /// How many streams may be open.
    pub streams_max: usize,
    /// Which share of them a tenant with a name may have.
    pub tenant_share: f64,
}

/// What takes fixes in, of calls and of streams.
#[derive(Clone)]
pub struct Intake {
    /// Where they go.
    pub ingest: Ingest,
    /// How many pass.
    pub limits: Arc<IngressLimits>,
    /// Which are good.
    pub settings: LocationLimits,
}

/// Tokens that a driver has already, for fixes that still lack some.
#[derive(Default)]
pub struct Credit {
    driver: Option<DriverId>,
    tokens: u32,
}

/// A stream that is read.
pub struct Inbound<'a> {
    intake: &'a Intake,
    access: &'a Access,
    messages: Streaming<pb::StreamLocationsRequest>,
    /// The lowest sequence that may come next.
    next_sequence: u64,
    /// Of whom the first fix was.
    driver: Option<DriverId>,
    /// Whether it has carried fixes of others, too: none of them waits for another one then.
    is_shared: bool,
    /// The next message, if it has the tokens of its drivers.
    passing: Option<Passing<'a>>,
    /// Those behind it. While the stream is not shared they wait for the tokens of its driver.
    waiting: VecDeque<Message>,
    /// How many fixes those have, the rejected ones among them.
    waiting_size: usize,
    /// While the first of them waits.
    wait: Option<Wait<'a>>,
    /// How the stream ends behind all of them, if that is known.
    end: Option<Result<(), Status>>,
}

/// The fixes of one message, or of several in a row, which are stored and acknowledged together.
pub struct Taken {
    /// The fixes.
    pub batch: Batch,
    /// The sequence of the last one.
    pub last: u64,
}

/// A message that was read.
struct Message {
    batch: Batch,
    first_sequence: u64,
    last_sequence: u64,
    /// How many tokens of its driver it lacks.
    lacks: u32,
}

/// A message that waits for the tokens of all.
struct Passing<'a> {
    /// How many fixes of it can be stored.
    fixes: usize,
    admitted: Pin<Box<dyn Future<Output = Taken> + Send + 'a>>,
}

impl Intake {
    /// Sorts the fixes of one message into good and bad, and counts the bad ones.
    pub fn parse(&self, fixes: Vec<pb::Fix>, first_sequence: u64, access: &Access) -> Batch {
        let (window, only) = (self.settings.window, access.scope.driver());
        let batch = Batch::parse(fixes, first_sequence, Timestamp::now(), window, &access.tenant(), only);
        for rejection in &batch.rejections {
            self.ingest.rejected(rejection.reason().as_str_name());
        }
        self.ingest.clocks_off(batch.clock_offsets.len());
        batch
    }

    /// Rejects what drivers send beyond their limits; `credit` is used up first.
    pub fn reject_excess(&self, batch: &mut Batch, first_sequence: u64, credit: &mut Credit) {
        let mut excess = HashMap::new();
        for (driver, count) in batch.by_driver() {
            let credited = credit.use_up(driver, count);
            let passed = credited + self.limits.pass_some(Class::Fixes, driver, count - credited);
            if passed < count {
                excess.insert(driver.to_owned(), count - passed);
            }
        }
        if excess.is_empty() {
            return;
        }
        for _ in 0..excess.values().sum() {
            self.ingest.rejected(pb::RejectionReason::RateLimited.as_str_name());
        }
        batch.reject_excess(excess, first_sequence);
    }

    /// Lets a message pass that has the tokens of its drivers.
    fn pass(&self, message: Message) -> Passing<'_> {
        let Message {
            batch,
            last_sequence: last,
            ..
        } = message;
        Passing {
            fixes: batch.fixes.len(),
            admitted: Box::pin(async move {
                for (driver, count) in batch.by_driver() {
                    self.limits.pace_passed(Class::Fixes, driver, count).await;
                }
                Taken { batch, last }
            }),
        }
    }
}

impl Credit {
    /// So many of these tokens are used up now.
    fn use_up(&mut self, driver: &str, count: u32) -> u32 {
        let is_its_own = self.driver.as_ref().is_some_and(|own| own.as_str() == driver);
        let used = if is_its_own { self.tokens.min(count) } else { 0 };
        self.tokens -= used;
        used
    }
}

impl<'a> Inbound<'a> {
    /// Reads what comes of this stream, which `access` may send.
    pub fn new(intake: &'a Intake, access: &'a Access, messages: Streaming<pb::StreamLocationsRequest>) -> Inbound<'a> {
        Inbound {
            intake,
            access,
            messages,
            next_sequence: 0,
            driver: None,
            is_shared: false,
            passing: None,
            waiting: VecDeque::new(),
            waiting_size: 0,
            wait: None,
            end: None,
        }
    }

    /// The next message, once its fixes may pass; `None` at the end of the stream. Nothing is lost where this is dropped before it is done.
    pub async fn next(&mut self) -> Result<Option<Taken>, Status> {
        loop {
            if let Some(taken) = self.ready() {
                return Ok(Some(taken));
            }
            if let Some(passing) = &mut self.passing {
                let taken = (&mut passing.admitted).await;
                self.passing = None;
                return Ok(Some(taken));
            }
            if !self.waiting.is_empty() {
                if let Some(retry_after) = self.lack() {
                    tokio::select! {
                        () = sleep(retry_after) => {}
                        message = self.messages.message(), if self.reads_on() => self.take(message),
                    }
                }
                continue;
            }
            if let Some(end) = self.end.take() {
                return end.map(|()| None);
            }
            let idle_max = self.intake.settings.idle_max;
            let Ok(message) = timeout(idle_max, self.messages.message()).await else {
                let idle = idle_max.as_secs();
                return Err(Status::deadline_exceeded(format!("the stream was idle for {idle} s")));
            };
            self.take(message);
        }
    }

    /// The next message, if it is there and its fixes may pass now.
    pub fn ready(&mut self) -> Option<Taken> {
        loop {
            if let Some(passing) = &mut self.passing {
                let taken = (&mut passing.admitted).now_or_never()?;
                self.passing = None;
                return Some(taken);
            }
            if self.waiting.is_empty() {
                if self.end.is_some() {
                    return None;
                }
                let message = self.messages.message().now_or_never()?;
                self.take(message);
            } else if self.lack().is_some() {
                return None;
            }
        }
    }

    /// How many fixes were read that can be stored, and were not taken.
    pub fn left(&self) -> usize {
        let waiting = self.waiting.iter().map(|message| message.batch.fixes.len());
        let passing = self.passing.as_ref().map_or(0, |passing| passing.fixes);
        passing + waiting.sum::<usize>()
    }

    /// Whether it is read while its driver has no tokens: only where that may show another driver.
    fn reads_on(&self) -> bool {
        let may_be_shared = !self.is_shared && self.access.scope.driver().is_none();
        may_be_shared && self.end.is_none() && self.waiting_size < WAITING_MAX
    }

    /// Takes tokens for the first message that waits. How long it takes until there are more, if it lacks some; if not, it is the next one to pass.
    fn lack(&mut self) -> Option<Duration> {
        let limits: &'a IngressLimits = &self.intake.limits;
        let message = self.waiting.front_mut()?;
        let first = message.batch.fixes.first().map(|fix| &fix.driver);
        while let (Some(lacks), Some(driver)) = (NonZeroU32::new(message.lacks), self.access.scope.driver().or(first)) {
            match limits.pass_part(Class::Fixes, driver.as_str(), lacks) {
                Ok(passed) => message.lacks -= passed,
                Err(retry_after) => {
                    self.wait.get_or_insert_with(|| limits.begin_wait());
                    return Some(retry_after);
                }
            }
        }
        self.wait = None;
        let message = self.waiting.pop_front()?;
        self.waiting_size -= message.batch.size();
        self.passing = Some(self.intake.pass(message));
        None
    }

    /// Looks at what came of the stream.
    fn take(&mut self, message: Result<Option<pb::StreamLocationsRequest>, Status>) {
        match message.and_then(|message| message.map(|message| self.parse(message)).transpose()) {
            Ok(Some(message)) => {
                self.waiting_size += message.batch.size();
                self.waiting.push_back(message);
            }
            Ok(None) => self.end = Some(Ok(())),
            Err(status) => self.end = Some(Err(status)),
        }
    }

    fn parse(&mut self, message: pb::StreamLocationsRequest) -> Result<Message, Status> {
        let first_sequence = message.first_sequence;
        let (last_sequence, after) = parse_sequences(&message, self.next_sequence)?;
        self.next_sequence = after;
        let mut batch = self.intake.parse(message.fixes, first_sequence, self.access);
        let mut lacks = 0;
        if self.is_shared {
            self.intake
                .reject_excess(&mut batch, first_sequence, &mut Credit::default());
        } else if self.has_another_driver(&batch.fixes) {
            self.share(&mut batch, first_sequence);
        } else {
            // A driver's own message waits for one token though none of its fixes is good: each is named in a response.
            let least = u32::from(self.access.scope.driver().is_some());
            lacks = count(batch.fixes.len()).max(least);
        }
        Ok(Message {
            batch,
            first_sequence,
            last_sequence,
            lacks,
        })
    }

    /// Whether some of these fixes are of another driver than the first one of the stream.
    fn has_another_driver(&mut self, fixes: &[Fix]) -> bool {
        fixes
            .iter()
            .any(|fix| *self.driver.get_or_insert_with(|| fix.driver.clone()) != fix.driver)
    }

    /// Has no driver wait for another from now on. What waits passes as far as its driver has tokens, the newest of it, and the rest is rejected.
    fn share(&mut self, newest: &mut Batch, first_sequence: u64) {
        self.is_shared = true;
        let tokens = self
            .waiting
            .iter()
            .map(|message| count(message.batch.fixes.len()) - message.lacks);
        let mut credit = Credit {
            driver: self.driver.clone(),
            tokens: tokens.sum(),
        };
        self.intake.reject_excess(newest, first_sequence, &mut credit);
        for message in self.waiting.iter_mut().rev() {
            let Message {
                batch, first_sequence, ..
            } = message;
            self.intake.reject_excess(batch, *first_sequence, &mut credit);
            message.lacks = 0;
        }
    }
}

impl Taken {
    /// The next message's, too.
    pub fn add(&mut self, next: Taken) {
        self.batch.add(next.batch);
        self.last = next.last;
    }
}

fn count(fixes: usize) -> u32 {
    u32::try_from(fixes).unwrap_or(u32::MAX)
}

/// The sequence of the last fix, and the lowest that may come after it.
pub fn parse_sequences(message: &pb::StreamLocationsRequest, next: u64) -> Result<(u64, u64), Status> {
    let first = message.first_sequence;
    let mut bad = Violations::default();
    if first < next {
        bad.add("first_sequence", &format!("must be at least {next}, not {first}"));
        return Err(bad.into_status());
    }
    let count = message.fixes.len();
    let last_offset = (count as u64).checked_sub(1).filter(|_| count <= MESSAGE_FIXES_MAX);
    let Some(last_offset) = last_offset else {
        let why = format!("must hold 1 to {MESSAGE_FIXES_MAX} fixes, not {count}");
        bad.add("fixes", &why);
        return Err(bad.into_status());
    };
    let last = first.checked_add(last_offset);
    last.and_then(|last| Some((last, last.checked_add(1)?))).ok_or_else(|| {
        bad.add("first_sequence", "is too large");
        bad.into_status()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credit_is_of_one_driver_and_used_up_once() {
        let mut credit = Credit {
            driver: Some("cab-1".parse().unwrap()),
            tokens: 10,
        };
        let used: Vec<u32> = [("cab-2", 5), ("cab-1", 0), ("cab-1", 7), ("cab-1", 7), ("cab-1", 7)]
            .into_iter()
            .map(|(driver, count)| credit.use_up(driver, count))
            .collect();
        assert_eq!(used, [0, 0, 7, 3, 0]);
        assert_eq!(Credit::default().use_up("cab-1", 5), 0);
    }

    #[test]
    fn a_message_takes_as_many_sequences_as_it_has_fixes_up_to_1000() {
        let message = |first_sequence, count| pb::StreamLocationsRequest {
            first_sequence,
            fixes: vec![pb::Fix::default(); count],
        };
        assert_eq!(parse_sequences(&message(7, 1_000), 7).unwrap(), (1_006, 1_007));
        for (first, count, field) in [
            (7, 0, "fixes"),
            (7, 1_001, "fixes"),
            (6, 1, "first_sequence"),
            (u64::MAX - 2, 4, "first_sequence"),
        ] {
            let refusal = parse_sequences(&message(first, count), 7).unwrap_err();
            assert!(refusal.message().contains(field), "{refusal:?}");
        }
    }
}
