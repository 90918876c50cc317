//! The pixels of a tile that someone passed: sparse, since most of a tile is no street, and short as bytes.
//!
//! As bytes: for each pixel, in the order of their numbers, how many pixels lie between it and the one before (a base-128
//! number, low digits first), then its sketch: one byte below 64 is the one bit; 64 and a number from 2 to 7 announces so
//! many bits, a byte each; 255 announces all 64 bits in eight bytes. The bytes are a copy of what the history says: whoever
//! changes the form empties the table in the same migration, and the trails are drawn anew.

use thiserror::Error;

use super::sketch::Sketch;
use super::tile::{AREA, TileId};

/// Up to so many bits are listed, a byte each.
const LISTED_MAX: u8 = 7;
const LISTED: u8 = 64;
const WHOLE: u8 = 255;

/// What was stored is no tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the pixels of a tile are damaged")]
pub struct Damaged;

/// Pixels of a tile, each with who passed it. Invariant: by ascending number, each once, none empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pixels(Vec<(u16, Sketch)>);

impl Pixels {
    /// From marks in any order, of which several may be of one pixel.
    pub fn from_marks(mut marks: Vec<(u16, Sketch)>) -> Pixels {
        marks.sort_unstable_by_key(|(at, _)| *at);
        marks.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                kept.1 = kept.1 | later.1;
            }
            is_same
        });
        Pixels(marks)
    }

    /// Each pixel's number, row by row from the north-western corner, and who passed it.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Sketch)> {
        self.0.iter().copied()
    }

    /// As marks in the parent of their tile.
    pub(super) fn in_parent_of(&self, tile: TileId) -> impl Iterator<Item = (u16, Sketch)> {
        self.iter().map(move |(at, sketch)| (tile.in_parent(at), sketch))
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 3);
        let mut next = 0;
        for (at, sketch) in self.iter() {
            put_number(&mut bytes, at - next);
            put_sketch(&mut bytes, sketch);
            // Of the last pixel of all nothing follows.
            next = at.saturating_add(1);
        }
        bytes
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Result<Pixels, Damaged> {
        let mut rest = bytes;
        let (mut pixels, mut next) = (Vec::with_capacity(bytes.len() / 3), 0);
        while !rest.is_empty() {
            let at: u32 = next + take_number(&mut rest)?;
            pixels.push((u16::try_from(at).map_err(|_| Damaged)?, take_sketch(&mut rest)?));
            next = at + 1;
        }
        Ok(Pixels(pixels))
    }
}

fn put_number(bytes: &mut Vec<u8>, mut number: u16) {
    loop {
        let [low, _] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return bytes.push(low & 0x7f);
        }
        bytes.push(low | 0x80);
    }
}

fn take_number(rest: &mut &[u8]) -> Result<u32, Damaged> {
    let mut number = 0;
    for shift in [0, 7, 14] {
        let byte = take(rest)?;
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

fn put_sketch(bytes: &mut Vec<u8>, sketch: Sketch) {
    let bits = (0..64_u8).filter(|bit| sketch.bits() >> bit & 1 == 1);
    match u8::try_from(sketch.distinct()) {
        Ok(1) => bytes.extend(bits),
        Ok(count) if count <= LISTED_MAX => {
            bytes.push(LISTED + count);
            bytes.extend(bits);
        }
        _ => {
            bytes.push(WHOLE);
            bytes.extend(sketch.bits().to_le_bytes());
        }
    }
}

fn take_sketch(rest: &mut &[u8]) -> Result<Sketch, Damaged> {
    let bits = match take(rest)? {
        bit if bit < LISTED => 1 << bit,
        WHOLE => {
            let (bits, after) = rest.split_first_chunk().ok_or(Damaged)?;
            *rest = after;
            u64::from_le_bytes(*bits)
        }
        listed if (2..=LISTED_MAX).contains(&(listed - LISTED)) => {
            let mut bits = 0;
            for _ in LISTED..listed {
                bits |= 1_u64.checked_shl(take(rest)?.into()).ok_or(Damaged)?;
            }
            bits
        }
        _ => return Err(Damaged),
    };
    if bits == 0 {
        Err(Damaged)
    } else {
        Ok(Sketch::from_bits(bits))
    }
}

fn take(rest: &mut &[u8]) -> Result<u8, Damaged> {
    let (first, after) = rest.split_first().ok_or(Damaged)?;
    *rest = after;
    Ok(*first)
}

/// A whole tile, onto which any pixels are merged: of other days, and of other parts.
#[derive(Debug)]
pub struct Canvas(Vec<Sketch>);

impl Default for Canvas {
    fn default() -> Canvas {
        Canvas(vec![Sketch::default(); AREA])
    }
}

impl Canvas {
    /// Adds who passed.
    pub fn merge(&mut self, pixels: &Pixels) {
        for (at, sketch) in pixels.iter() {
            if let Some(pixel) = self.0.get_mut(usize::from(at)) {
                *pixel = *pixel | sketch;
            }
        }
    }

    /// Who passed each pixel, row by row from the north-western corner.
    pub fn sketches(&self) -> impl Iterator<Item = Sketch> {
        self.0.iter().copied()
    }

    /// What is not empty of it.
    pub fn pixels(&self) -> Pixels {
        let passed = (0..=u16::MAX).zip(self.sketches());
        Pixels(passed.filter(|(_, sketch)| *sketch != Sketch::default()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn marks() -> impl Strategy<Value = Vec<(u16, Sketch)>> {
        let few = (0..64_u32).prop_map(|bit| 1_u64 << bit);
        let sketch = prop_oneof![few, 1..u64::MAX].prop_map(Sketch::from_bits);
        let at = prop_oneof![0..300_u16, any::<u16>(), Just(u16::MAX)];
        proptest::collection::vec((at, sketch), 0..200)
    }

    /// The plain slow version of a tile.
    fn plain(marks: &[(u16, Sketch)]) -> BTreeMap<u16, Sketch> {
        let mut found = BTreeMap::new();
        for (at, sketch) in marks {
            let pixel: &mut Sketch = found.entry(*at).or_default();
            *pixel = *pixel | *sketch;
        }
        found
    }

    proptest! {
        #[test]
        fn pixels_are_what_was_marked_and_are_read_as_written(marks in marks()) {
            let pixels = Pixels::from_marks(marks.clone());
            prop_assert_eq!(pixels.iter().collect::<BTreeMap<_, _>>(), plain(&marks));
            prop_assert_eq!(Pixels::decode(&pixels.encode()), Ok(pixels));
        }

        #[test]
        fn parts_merge_to_the_whole_in_any_order_and_again(one in marks(), other in marks()) {
            let mut canvas = Canvas::default();
            for part in [&other, &one, &other] {
                canvas.merge(&Pixels::from_marks(part.clone()));
            }
            prop_assert_eq!(canvas.pixels(), Pixels::from_marks([one, other].concat()));
        }

        #[test]
        fn any_bytes_are_a_tile_or_damaged(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(pixels) = Pixels::decode(&bytes) {
                prop_assert_eq!(Pixels::from_marks(pixels.iter().collect()), pixels);
            }
        }
    }

    #[test]
    fn a_street_of_one_driver_takes_two_or_three_bytes_a_pixel() {
        let bit = Sketch::from_bits(1 << 17);
        let along = Pixels::from_marks((0..256).map(|x| (x, bit)).collect());
        let down = Pixels::from_marks((0..256).map(|y| (y * 256, bit)).collect());
        assert_eq!((along.encode().len(), down.encode().len()), (512, 767));
        assert_eq!(Pixels::default().encode(), []);
    }
}
