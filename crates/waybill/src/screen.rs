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

use crate::print;

/// How often the screen is drawn; how often a line is written where there is none.
const DRAW: Duration = Duration::from_millis(500);
const LINE: Duration = Duration::from_secs(5);

/// The first line, where it is not known how long a run takes and where it is.
const TIME: &str = "{prefix}  {msg}";
const TIME_WITH_BAR: &str = "{prefix}  {bar:30.cyan/dim}  {msg}";

/// A screen that draws until it is ended.
pub struct Screen {
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What is drawn.
pub struct View {
    /// How long the run has gone on.
    pub elapsed: Duration,
    /// How long it takes, where that is known.
    pub expected: Option<Duration>,
    /// What is shown beside the time; may be empty.
    pub note: &'static str,
    /// One under the other.
    pub rows: Vec<String>,
}

impl Screen {
    /// Begins to draw the run of a city. `expected`: how long it takes, where that is known.
    pub fn of_city(title: String, expected: Option<Duration>, stats: &Arc<Stats>) -> Screen {
        let stats = Arc::clone(stats);
        Screen::showing(title, move || {
            let seen = stats.snapshot();
            View {
                elapsed: seen.elapsed,
                expected,
                note: "",
                rows: rows(&seen).into(),
            }
        })
    }

    /// Begins to draw what `view` returns.
    pub fn showing(title: String, view: impl Fn() -> View + Send + 'static) -> Screen {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let token = stop.clone();
        if std::io::stderr().is_terminal() {
            tasks.spawn(draw(title, view, token));
        } else {
            tasks.spawn(write_lines(view, token));
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

async fn draw(title: String, view: impl Fn() -> View, stop: CancellationToken) {
    let screen = MultiProgress::new();
    let time = ProgressBar::new(0).with_prefix(title).with_style(style(TIME));
    let time = screen.add(time);
    let mut lines: Vec<ProgressBar> = Vec::new();
    loop {
        let seen = view();
        let length = seen.expected.map_or(0, millis);
        time.set_length(length);
        time.set_position(millis(seen.elapsed).min(length));
        time.set_message(format!("{:.0} s  {}", seen.elapsed.as_secs_f64(), seen.note));
        // After what it shows: a bar of no length is drawn as a full one.
        time.set_style(style(if length > 0 { TIME_WITH_BAR } else { TIME }));
        while lines.len() < seen.rows.len() {
            let line = screen.add(ProgressBar::new(0));
            line.set_style(style("  {msg}"));
            lines.push(line);
        }
        for (line, text) in lines.iter().zip(seen.rows) {
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

/// The screen of those who have none.
async fn write_lines(view: impl Fn() -> View, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LINE)).await.is_some() {
        let seen = view();
        let mut line = format!("{:>4.0} s", seen.elapsed.as_secs_f64());
        if !seen.note.is_empty() {
            let _ = write!(line, " ({})", seen.note);
        }
        for row in seen.rows {
            let words: Vec<&str> = row.split_whitespace().collect();
            let _ = write!(line, " | {}", words.join(" "));
        }
        print::note(&line);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
            "settled   {:>6.0} ms p50    {:>5.0} ms p99     {:>6} retries",
            orders.p50_ms, orders.p99_ms, orders.retries,
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
