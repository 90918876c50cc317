//! A benchmark: a number, how far its rounds were apart, and what it would be if nothing but physics were in its way.

use serde_json::{Value, json};

use super::arithmetic::{median, range, ratios};
use super::rounds::Pairs;
use super::verdicts::Verdicts;

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Rates.
    More,
    /// Latencies and costs.
    Less,
}

/// A benchmark with all of its rounds.
#[derive(Debug, Clone)]
pub struct Benchmark {
    /// Its stable name: scripts compare runs by it.
    pub name: &'static str,
    /// Such as `fixes/s`.
    pub unit: &'static str,
    /// Which way is good.
    pub better: Better,
    /// What the baseline is; `None` where there is none.
    pub baseline_is: Option<&'static str>,
    /// What else is to be known: sizes, concurrency.
    detail: String,
    /// The rates at which it was measured, one for each time, where that is to be known too.
    rates: Vec<String>,
    rounds: Pairs,
    /// Whose number it is, by each kind of load that made it.
    verdicts: Vec<Verdicts>,
    /// What the ratio is to be at least, where that is agreed.
    target: Option<f64>,
}

impl Benchmark {
    /// A benchmark beside its baseline.
    pub fn against(
        name: &'static str,
        unit: &'static str,
        better: Better,
        baseline_is: &'static str,
        rounds: Pairs,
    ) -> Benchmark {
        Benchmark {
            name,
            unit,
            better,
            baseline_is: Some(baseline_is),
            detail: String::new(),
            rates: Vec::new(),
            rounds,
            verdicts: Vec::new(),
            target: None,
        }
    }

    /// A benchmark that has none.
    pub fn alone(name: &'static str, unit: &'static str, better: Better, ours: Vec<f64>) -> Benchmark {
        let rounds = Pairs {
            ours,
            baseline: Vec::new(),
        };
        Benchmark {
            baseline_is: None,
            ..Benchmark::against(name, unit, better, "", rounds)
        }
    }

    /// With what else is to be known.
    #[must_use]
    pub fn with(self, detail: impl Into<String>) -> Benchmark {
        Benchmark {
            detail: detail.into(),
            ..self
        }
    }

    /// Measured at this rate.
    #[must_use]
    pub fn at(mut self, rate: impl Into<String>) -> Benchmark {
        self.rates.push(rate.into());
        self
    }

    /// What else is to be known, for people.
    pub fn detail(&self) -> String {
        match self.rates.as_slice() {
            [] => self.detail.clone(),
            rates => format!("{}: {}", rates.join(" and "), self.detail),
        }
    }

    /// With what the runs of a load say whose number it is.
    #[must_use]
    pub fn judged(mut self, by: Verdicts) -> Benchmark {
        self.verdicts.push(by);
        self
    }

    /// With a ratio that it is to reach.
    #[must_use]
    pub fn to_reach(self, ratio: f64) -> Benchmark {
        Benchmark {
            target: Some(ratio),
            ..self
        }
    }

    /// Why the number is that of the generator and not of the server, if it is.
    pub fn limited_by_generator(&self) -> Option<String> {
        self.verdicts.iter().find_map(Verdicts::reason)
    }

    /// With the rounds of another time at which it was measured in the same way.
    fn and(mut self, later: Benchmark) -> Benchmark {
        self.rounds.ours.extend(later.rounds.ours);
        self.rounds.baseline.extend(later.rounds.baseline);
        for (verdicts, more) in self.verdicts.iter_mut().zip(later.verdicts) {
            verdicts.extend(more);
        }
        self.rates.extend(later.rates);
        self
    }

    /// The median of its rounds.
    pub fn value(&self) -> f64 {
        median(&self.rounds.ours)
    }

    /// The smallest and the largest of its rounds.
    pub fn range(&self) -> (f64, f64) {
        range(&self.rounds.ours)
    }

    /// The median of the baseline's rounds.
    pub fn baseline(&self) -> Option<f64> {
        self.baseline_is.map(|_| median(&self.rounds.baseline))
    }

    /// How much of the possible is reached: the median of the ratios of round and round. 1 is the baseline itself; of
    /// latencies and costs it is the baseline through ours, so that 1 is the best there too.
    pub fn ratio(&self) -> Option<f64> {
        self.baseline_is?;
        let Pairs { ours, baseline } = &self.rounds;
        Some(median(&match self.better {
            Better::More => ratios(ours, baseline),
            Better::Less => ratios(baseline, ours),
        }))
    }

    /// The ratio for people: two digits that can be compared, also of one that is far below 1.
    pub fn ratio_in_digits(&self) -> Option<String> {
        self.ratio().map(in_digits)
    }

    /// The ratio that it is to reach, for people.
    pub fn target_in_digits(&self) -> Option<String> {
        self.target.map(in_digits)
    }

    /// As scripts read it.
    pub fn json(&self) -> Value {
        let (min, max) = self.range();
        json!({
            "name": self.name,
            "unit": self.unit,
            "value": self.value(),
            "min": min,
            "max": max,
            "baseline": self.baseline(),
            "ratio": self.ratio(),
            "target": self.target,
            "baseline_is": self.baseline_is,
            "better": match self.better { Better::More => "more", Better::Less => "less" },
            "detail": self.detail(),
            "limited_by_generator": self.limited_by_generator(),
            "rounds": self.rounds.ours,
            "baseline_rounds": self.rounds.baseline,
        })
    }
}

fn in_digits(ratio: f64) -> String {
    if ratio < 0.1 {
        format!("{ratio:.3}")
    } else {
        format!("{ratio:.2}")
    }
}

/// Adds benchmarks to those there are; one that is there has more rounds then.
pub fn add(benchmarks: &mut Vec<Benchmark>, found: Vec<Benchmark>) {
    for benchmark in found {
        match benchmarks.iter().position(|known| known.name == benchmark.name) {
            Some(place) => {
                let known = benchmarks.remove(place);
                benchmarks.insert(place, known.and(benchmark));
            }
            None => benchmarks.push(benchmark),
        }
    }
}
