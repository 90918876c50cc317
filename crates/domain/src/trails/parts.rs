//! The parts of a tile's day. Each batch adds a part rather than rewrite the tile, and parts are merged so that each byte is
//! rewritten a few times only, and few parts have to be read.

/// So many parts are left as they are.
pub const PARTS_MAX: usize = 8;

/// How many of the smallest parts to merge into one, by the ascending sizes of all: as many as make the part of each of their
/// bytes twice as large, which is where the last is not larger than those before it together. Then no byte is rewritten more
/// often than its part can double. 0: none has to be.
pub fn worth_merging(ascending: &[u64]) -> usize {
    if ascending.len() <= PARTS_MAX {
        return 0;
    }
    let mut together = 0;
    let mut doubled = 0;
    for (before, size) in ascending.iter().enumerate() {
        if before > 0 && *size <= together {
            doubled = before + 1;
        } else if doubled > 0 {
            break;
        }
        together += size;
    }
    // As many as have to be, whatever their sizes, so that no more than PARTS_MAX stay. Where nothing doubles, each is larger than
    // all before it together, so these are a small part of all.
    doubled.max(ascending.len() - PARTS_MAX + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_parts_are_merged_and_a_large_one_is_left() {
        for (sizes, merged) in [
            (vec![1; 8], 0),
            (vec![1; 9], 9),
            (vec![1, 1, 1, 1, 1, 1, 1, 1, 1_000], 8),
            (vec![1, 2, 4, 8, 16, 32, 64, 128, 256], 2),
            (vec![1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], 4),
            (vec![0, 0, 0, 0, 0, 0, 0, 0, 0], 9),
            (vec![1, 2, 100, 100, 100, 100, 100, 100, 100], 9),
            (vec![1, 2, 100, 101, 1_000, 1_000, 1_000, 1_000, 1_000], 4),
        ] {
            assert_eq!(worth_merging(&sizes), merged, "{sizes:?}");
        }
    }

    /// How many bytes of a tile are rewritten that gets these, one by one. It never has too many parts.
    fn rewritten_by(batches: &[u64]) -> u64 {
        let (mut parts, mut rewritten): (Vec<u64>, u64) = (Vec::new(), 0);
        for size in batches {
            parts.push(*size);
            parts.sort_unstable();
            let merged: u64 = parts.drain(..worth_merging(&parts)).sum();
            if merged > 0 {
                rewritten += merged;
                parts.push(merged);
            }
            assert!(parts.len() <= PARTS_MAX, "{parts:?}");
        }
        rewritten
    }

    #[test]
    fn what_grew_from_small_ones_is_not_rewritten_with_each_small_one() {
        let batches = [vec![2_000; 7], vec![1; 2_000]].concat();
        let rewritten = rewritten_by(&batches);
        let written: u64 = batches.iter().sum();
        assert!(rewritten <= written * 2, "{rewritten} of {written}");
    }

    /// Of one size, of a few sizes, and of sizes that differ a millionfold.
    fn batches() -> impl Strategy<Value = Vec<u64>> {
        let size = prop_oneof![1..=2_000_u64, (0..20_u32).prop_map(|power| 1 << power)];
        let same = (size, 1..200_usize).prop_map(|(size, times)| vec![size; times]);
        let any = proptest::collection::vec(1..2_000_u64, 1..200);
        proptest::collection::vec(prop_oneof![same, any], 1..10).prop_map(|runs| runs.concat())
    }

    proptest! {
        /// A merge makes the part of each of its bytes twice as large at least, so no byte is in more than log2(all / its batch),
        /// which is log2(batches) of the average byte. The one that does not is of parts of which each is larger than all before it
        /// together: then the two that it takes are a 128th of all at most.
        #[test]
        fn parts_stay_few_and_are_seldom_rewritten(batches in batches()) {
            let rewritten = rewritten_by(&batches);
            let (written, count) = (batches.iter().sum::<u64>(), batches.len() as u64);
            let most = written * u64::from(count.ilog2() + 1) + written * count / 128;
            prop_assert!(rewritten <= most, "{rewritten} of {written}");
        }
    }
}
