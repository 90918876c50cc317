//! The parts of a tile's day. Each batch adds a part rather than rewrite the tile, and parts are merged so that each byte is
//! rewritten a few times only, and few parts have to be read.

/// So many parts are left as they are.
pub const PARTS_MAX: usize = 8;

/// How many of the smallest parts to merge into one, by the ascending sizes of all: each that is not larger than those before it
/// together. What stays beside the merged one is larger by the factor of two from each to the next, so that there are few.
/// 0: none is worth it.
pub fn worth_merging(ascending: &[u64]) -> usize {
    // As many as have to be, whatever their sizes, so that no more than PARTS_MAX stay.
    let Some(too_many) = ascending.len().checked_sub(PARTS_MAX).filter(|too_many| *too_many > 0) else {
        return 0;
    };
    let mut together = 0;
    let mut merged = 0;
    for (before, size) in ascending.iter().enumerate() {
        if before > too_many && *size > together {
            break;
        }
        together += size;
        merged = before + 1;
    }
    merged
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
        ] {
            assert_eq!(worth_merging(&sizes), merged, "{sizes:?}");
        }
    }

    proptest! {
        /// A tile that gets a part each batch has few parts, and each byte is rewritten a few times.
        #[test]
        fn parts_stay_few_and_are_seldom_rewritten(batches in proptest::collection::vec(1..2_000_u64, 1..2_000)) {
            let (mut parts, mut rewritten): (Vec<u64>, u64) = (Vec::new(), 0);
            for size in &batches {
                parts.push(*size);
                parts.sort_unstable();
                let merged: u64 = parts.drain(..worth_merging(&parts)).sum();
                if merged > 0 {
                    rewritten += merged;
                    parts.push(merged);
                }
                prop_assert!(parts.len() <= PARTS_MAX);
            }
            let written: u64 = batches.iter().sum();
            prop_assert!(rewritten <= written * 12, "{rewritten} of {written}");
        }
    }
}
