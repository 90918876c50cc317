//! Whose numbers they are: the server's, or those of a generator that was too slow for it.

/// Of each run of a load: why its numbers were the generator's, if they were.
#[derive(Debug, Clone, Default)]
pub struct Verdicts(Vec<Option<String>>);

impl Verdicts {
    /// That of one more run.
    pub fn push(&mut self, limited_by_generator: Option<String>) {
        self.0.push(limited_by_generator);
    }

    /// Those of more runs.
    pub fn extend(&mut self, later: Verdicts) {
        self.0.extend(later.0);
    }

    /// Why the numbers are those of the generator: if at least half of the runs were, and with that the median.
    pub fn reason(&self) -> Option<String> {
        let limited = self.0.iter().flatten().count();
        let why = self.0.iter().flatten().last()?;
        (2 * limited >= self.0.len()).then(|| format!("in {limited} of {} rounds; in one {why}", self.0.len()))
    }
}
