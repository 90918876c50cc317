//! Places that callers take for a while: so many in all, and so many for one of them, so that no one takes them all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// The places. Clones share them.
#[derive(Debug, Clone)]
pub struct Places<K> {
    all_max: usize,
    each_max: usize,
    taken: Arc<Mutex<Taken<K>>>,
}

#[derive(Debug)]
struct Taken<K> {
    in_all: usize,
    by: HashMap<K, usize>,
}

/// A place that is taken. Dropped, it is free again.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    taken: Arc<Mutex<Taken<K>>>,
    by: K,
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// So many in all, of which each caller takes so many.
    pub fn new(all_max: usize, each_max: usize) -> Places<K> {
        Places {
            all_max,
            each_max,
            taken: Arc::new(Mutex::new(Taken {
                in_all: 0,
                by: HashMap::new(),
            })),
        }
    }

    /// A place for this caller; `None`: all are taken, or all of its own.
    pub fn take(&self, by: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = taken.by.get(&by).copied().unwrap_or(0);
        if taken.in_all >= self.all_max || of_it >= self.each_max {
            return None;
        }
        taken.in_all += 1;
        taken.by.insert(by.clone(), of_it + 1);
        Some(Place {
            taken: Arc::clone(&self.taken),
            by,
        })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // The key was put there by `take`, and goes with its last place.
        if let Some(count) = taken.by.get_mut(&self.by) {
            *count -= 1;
            if *count == 0 {
                taken.by.remove(&self.by);
            }
            taken.in_all -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_one_takes_them_all_and_what_is_left_is_free_again() {
        let places = Places::new(3, 2);
        let (first, _second) = (places.take("anna").unwrap(), places.take("anna").unwrap());
        assert!(places.take("anna").is_none(), "she has two");
        let ben = places.take("ben").unwrap();
        assert!(places.take("zoe").is_none(), "there are three");
        drop(first);
        assert!(places.take("anna").is_some());
        drop(ben);
        assert_eq!(places.taken.lock().unwrap().by.len(), 1, "who has none is not kept");
    }
}
