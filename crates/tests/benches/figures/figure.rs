//! A figure: a number, how far its rounds were apart, and what it would be if nothing but physics were in its way.

use serde_json::{Value, json};

use crate::arithmetic::{median, range, ratios};
use crate::rounds::Pairs;
use crate::verdicts::Verdicts;

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Rates.
    More,
    /// Latencies and costs.
    Less,
}

/// A figure with all of its rounds.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Its stable name: scripts compare runs by it.
    pub name: &'static str,
    /// Such as `fixes/s`.
    pub unit: &'static str,
    /// Which way is good.
    pub better: Better,
    /// What the floor is; `None` where there is none.
    pub floor_is: Option<&'static str>,
    /// What else is to be known: sizes, concurrency.
    detail: String,
    /// The rates at which it was measured, one for each time, where that is to be known too.
    rates: Vec<String>,
    rounds: Pairs,
    /// Whose number it is, by each kind of load that made it.
    verdicts: Vec<Verdicts>,
}

impl Figure {
    /// A figure beside its floor.
    pub fn beside(
        name: &'static str,
        unit: &'static str,
        better: Better,
        floor_is: &'static str,
        rounds: Pairs,
    ) -> Figure {
        Figure {
            name,
            unit,
            better,
            floor_is: Some(floor_is),
            detail: String::new(),
            rates: Vec::new(),
            rounds,
            verdicts: Vec::new(),
        }
    }

    /// A figure that has none.
    pub fn alone(name: &'static str, unit: &'static str, better: Better, ours: Vec<f64>) -> Figure {
        let rounds = Pairs {
            ours,
            floor: Vec::new(),
        };
        Figure {
            floor_is: None,
            ..Figure::beside(name, unit, better, "", rounds)
        }
    }

    /// With what else is to be known.
    pub fn with(self, detail: impl Into<String>) -> Figure {
        Figure {
            detail: detail.into(),
            ..self
        }
    }

    /// Measured at this rate.
    pub fn at(mut self, rate: impl Into<String>) -> Figure {
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
    pub fn judged(mut self, by: Verdicts) -> Figure {
        self.verdicts.push(by);
        self
    }

    /// Why the number is that of the generator and not of the server, if it is.
    pub fn limited_by_generator(&self) -> Option<String> {
        self.verdicts.iter().find_map(Verdicts::reason)
    }

    /// With the rounds of another time at which it was measured in the same way.
    fn and(mut self, later: Figure) -> Figure {
        self.rounds.ours.extend(later.rounds.ours);
        self.rounds.floor.extend(later.rounds.floor);
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

    /// The median of the floor's rounds.
    pub fn floor(&self) -> Option<f64> {
        self.floor_is.map(|_| median(&self.rounds.floor))
    }

    /// How much of the possible is reached: the median of the ratios of round and round. 1 is the floor itself; of
    /// latencies and costs it is the floor through ours, so that 1 is the best there too.
    pub fn ratio(&self) -> Option<f64> {
        self.floor_is?;
        let Pairs { ours, floor } = &self.rounds;
        Some(median(&match self.better {
            Better::More => ratios(ours, floor),
            Better::Less => ratios(floor, ours),
        }))
    }

    /// The ratio for people: two digits that can be compared, also of one that is far below 1.
    pub fn ratio_in_digits(&self) -> Option<String> {
        let ratio = self.ratio()?;
        Some(if ratio < 0.1 {
            format!("{ratio:.3}")
        } else {
            format!("{ratio:.2}")
        })
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
            "baseline": self.floor(),
            "ratio": self.ratio(),
            "baseline_is": self.floor_is,
            "better": match self.better { Better::More => "more", Better::Less => "less" },
            "detail": self.detail(),
            "limited_by_generator": self.limited_by_generator(),
            "rounds": self.rounds.ours,
            "baseline_rounds": self.rounds.floor,
        })
    }
}

/// Adds figures to those there are; one that is there has more rounds then.
pub fn add(figures: &mut Vec<Figure>, found: Vec<Figure>) {
    for figure in found {
        match figures.iter().position(|known| known.name == figure.name) {
            Some(place) => {
                let known = figures.remove(place);
                figures.insert(place, known.and(figure));
            }
            None => figures.push(figure),
        }
    }
}
