//! A round: a fault befalls whoever leads, and it is seen when another leads and when Waybill serves again.

use std::cell::Cell;
use std::time::Duration;

use testkit::chance::pass;
use testkit::load::findings::Findings;
use testkit::until_within;
use tokio::time::Instant;

use crate::engine::Engine;
use crate::network::Machine;
use crate::probe::Probe;

/// Far beyond what an engine takes.
const FAILS_OVER_WITHIN: Duration = Duration::from_mins(2);
const SERVES_WITHIN: Duration = Duration::from_mins(3);
const WHOLE_WITHIN: Duration = Duration::from_mins(3);
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// How long the load runs before the first fault and after each.
const LOAD_ALONE: Duration = Duration::from_secs(2);

/// What befalls a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// All that runs on it ends at once.
    Kill,
    /// All that runs on it stands still.
    Freeze,
    /// It is cut off from all others.
    Partition,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 3] = [Fault::Kill, Fault::Freeze, Fault::Partition];

    async fn befall(self, machine: &mut Machine) {
        match self {
            Fault::Kill => machine.kill().await,
            Fault::Freeze => machine.freeze(),
            Fault::Partition => machine.cut_off(),
        }
    }

    fn end(self, machine: &mut Machine) {
        match self {
            Fault::Kill => machine.start(),
            Fault::Freeze => machine.thaw(),
            Fault::Partition => machine.join(),
        }
    }
}

/// How long a round took, from the fault on.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// What it was.
    pub fault: Fault,
    /// Until another machine led.
    pub engine: Duration,
    /// Until an order and fixes were answered that were sent after that.
    pub serves: Duration,
}

/// The rounds of a store.
pub async fn run<E: Engine>(engine: &mut E, faults: &[Fault], probe: &mut Probe, findings: &Findings) -> Vec<Measured> {
    let mut all = Vec::new();
    pass(LOAD_ALONE).await;
    for (turn, fault) in faults.iter().enumerate() {
        if findings.any.is_cancelled() {
            break;
        }
        match round(engine, turn, *fault, probe).await {
            Ok(measured) => {
                println!(
                    "failover: {} {fault:?}: {:.1} s until another led, {:.1} s until orders and fixes were served",
                    E::NAME,
                    measured.engine.as_secs_f64(),
                    measured.serves.as_secs_f64()
                );
                all.push(measured);
            }
            Err(what) => findings.add("V4", &format!("{} {fault:?}: {what}", E::NAME)),
        }
    }
    all
}

async fn round<E: Engine>(engine: &mut E, turn: usize, fault: Fault, probe: &mut Probe) -> Result<Measured, String> {
    let leader = until_within(WHOLE_WITHIN, async || engine.leader(turn).await).await;
    let leader = leader.map_err(|_| "no one leads".to_owned())?;
    let began = Instant::now();
    fault.befall(&mut engine.machines()[leader]).await;
    let led = Cell::new(None);
    let watch = async {
        until_within(FAILS_OVER_WITHIN, async || engine.has_successor(leader).await)
            .await
            .map_err(|_| "no other machine leads".to_owned())?;
        led.set(Some(began.elapsed()));
        Ok::<(), String>(())
    };
    let (watched, served) = tokio::join!(watch, serves_again(probe, began, &led));
    fault.end(&mut engine.machines()[leader]);
    watched?;
    let (engine_took, until_served) = served?;
    until_within(WHOLE_WITHIN, async || engine.is_whole().await)
        .await
        .map_err(|state| format!("not whole again: {state}"))?;
    pass(LOAD_ALONE).await;
    Ok(Measured {
        fault,
        engine: engine_took,
        serves: until_served,
    })
}

/// When another led, and when the first probe that was sent after that was answered.
async fn serves_again(
    probe: &mut Probe,
    began: Instant,
    led: &Cell<Option<Duration>>,
) -> Result<(Duration, Duration), String> {
    let mut last_failure = String::new();
    while began.elapsed() < SERVES_WITHIN {
        let sent = began.elapsed();
        match probe.once().await {
            Ok(()) => {
                if let Some(led) = led.get().filter(|led| *led <= sent) {
                    return Ok((led, began.elapsed()));
                }
            }
            Err(what) => last_failure = what,
        }
        pass(PROBE_EVERY).await;
    }
    Err(format!("not served after {SERVES_WITHIN:?}: {last_failure}"))
}
