//! The live screen of a run: what the clients see, twice a second. Where standard error is not a terminal, a line every
//! few seconds instead.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waybill_simulator::stats::{Snapshot, Stats};

/// How often the screen is drawn; how often a line is written where there is none.
const DRAW: Duration = Duration::from_millis(500);
const LINE: Duration = Duration::from_secs(5);

/// A screen that draws until it is ended.
pub struct Screen {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Screen {
    /// Begins to draw. `expected`: how long the run takes, where that is known.
    pub fn start(title: String, expected: Option<Duration>, stats: Arc<Stats>) -> Screen {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let token = stop.clone();
        if std::io::stderr().is_terminal() {
            tasks.spawn(draw(title, expected, stats, token));
        } else {
            tasks.spawn(write_lines(stats, token));
        }
        Screen { stop, tasks }
    }

    /// Draws the last state and stops.
    pub async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn draw(title: String, expected: Option<Duration>, stats: Arc<Stats>, stop: CancellationToken) {
    let screen = MultiProgress::new();
    let length = expected.map_or(0, |expected| u64::try_from(expected.as_millis()).unwrap_or(u64::MAX));
    let time = screen.add(ProgressBar::new(length));
    let template = if expected.is_some() {
        "{prefix}  {bar:30.cyan/dim}  {msg}"
    } else {
        "{prefix}  {msg}"
    };
    time.set_style(style(template));
    time.set_prefix(title);
    let lines: Vec<ProgressBar> = (0..ROWS)
        .map(|_| {
            let line = screen.add(ProgressBar::new(0));
            line.set_style(style("  {msg}"));
            line
        })
        .collect();
    loop {
        let seen = stats.snapshot();
        time.set_position(u64::try_from(seen.elapsed.as_millis()).unwrap_or(u64::MAX).min(length));
        time.set_message(format!("{:.0} s", seen.elapsed.as_secs_f64()));
        for (line, text) in lines.iter().zip(rows(&seen)) {
            line.set_message(text);
        }
        if stop.is_cancelled() {
            break;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(DRAW) => {}
        }
    }
    time.abandon();
    for line in lines {
        line.abandon();
    }
}

#[allow(clippy::print_stderr, reason = "the screen of those who have none")]
async fn write_lines(stats: Arc<Stats>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LINE)).await.is_some() {
        let seen = stats.snapshot();
        let mut line = format!("{:>4.0} s", seen.elapsed.as_secs_f64());
        for row in rows(&seen) {
            let words: Vec<&str> = row.split_whitespace().collect();
            let _ = write!(line, " | {}", words.join(" "));
        }
        eprintln!("{line}");
    }
}

const ROWS: usize = 4;

fn rows(seen: &Snapshot) -> [String; ROWS] {
    let (orders, fixes) = (&seen.orders, &seen.locations);
    let busy = orders.succeeded.saturating_sub(orders.completed);
    [
        format!(
            "orders    {:>6} placed    {:>5} in flight  {:>6} succeeded  {:>5} refunded  {:>5} failed{}",
            orders.placed,
            orders.in_flight,
            orders.succeeded,
            orders.refunded,
            orders.failed,
            // Only where there is something to worry about.
            if orders.gave_up > 0 {
                format!("  {:>5} GIVEN UP", orders.gave_up)
            } else {
                String::new()
            },
        ),
        format!(
            "settled   {:>6} ms p50    {:>5} ms p99     {:>6} retries",
            orders.latency_p50.as_millis(),
            orders.latency_p99.as_millis(),
            orders.retries,
        ),
        format!(
            "fixes     {:>6.0} a second  {:>5} sent       {:>6} acknowledged  {:>3} rejected",
            fixes.per_second, fixes.sent, fixes.acknowledged, fixes.rejected,
        ),
        format!(
            "drivers   {:>6} seen      {:>5} busy       {:>6} free",
            fixes.drivers_seen,
            busy,
            fixes.drivers_seen.saturating_sub(busy),
        ),
    ]
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file; a broken one would show as plain bars.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
