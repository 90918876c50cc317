//! The drivers of a run, each named once: fixes and acknowledgements carry a four-byte index instead of a name.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

/// The names of all drivers of a run, by index.
#[derive(Debug, Default)]
pub(crate) struct Drivers {
    names: Vec<Arc<str>>,
    indexes: HashMap<Arc<str>, u32>,
}

impl Drivers {
    /// The name behind an index that [`Drivers`] gave out.
    pub(crate) fn name(&self, index: u32) -> &str {
        self.names.get(index as usize).map_or("", AsRef::as_ref)
    }

    /// How many drivers there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The index of `name`, a new one if it was not seen before.
    pub(crate) fn intern(&mut self, name: &str) -> u32 {
        if let Some(index) = self.indexes.get(name) {
            return *index;
        }
        let index = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.indexes.insert(name, index);
        index
    }

    /// For each driver the stream, of `streams`, that carries it: by a hash of its name, so that the fixes of one
    /// driver stay in order and a driver keeps its stream from run to run.
    pub(crate) fn streams(&self, streams: usize) -> Vec<usize> {
        let stream_of = |name: &Arc<str>| {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            usize::try_from(hasher.finish() % streams.max(1) as u64).unwrap_or(0)
        };
        self.names.iter().map(stream_of).collect()
    }
}

impl<Name: AsRef<str>> FromIterator<Name> for Drivers {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Drivers {
        let mut drivers = Drivers::default();
        for name in names {
            drivers.intern(name.as_ref());
        }
        drivers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_spread_over_all_streams() {
        let mut drivers = Drivers::default();
        (0..200).for_each(|n| assert_eq!(drivers.intern(&format!("cab-{n}")), n));
        assert_eq!(drivers.intern("cab-7"), 7);

        let streams = drivers.streams(4);
        for stream in 0..4 {
            let share = streams.iter().filter(|s| **s == stream).count();
            assert!(
                (25..=75).contains(&share),
                "stream {stream} carries {share} of 200 drivers"
            );
        }
    }
}
