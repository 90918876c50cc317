//! A tile as a picture that lies on a map of any colour: white, more or less opaque, and transparent where nothing is shown.
//!
//! Each pixel is a number of distinct drivers, and the palette says how opaque that is. What one driver passed is
//! not in the picture at all, not even as something that cannot be seen.

use std::sync::LazyLock;

use axum::body::Bytes;
use png::{BitDepth, ColorType, Encoder, EncodingError};
use sha2::{Digest as _, Sha256};
use waybill_domain::trails::tile::{AREA, SIDE};
use waybill_domain::trails::{Canvas, shade};

/// A picture, and the name of its content.
#[derive(Debug, Clone)]
pub struct Picture {
    /// PNG.
    pub png: Bytes,
    /// Of these bytes alone, as HTTP writes it: in quotes.
    pub etag: String,
}

/// Opacities of 0 to 64 distinct drivers.
static OPACITIES: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..=64).map(|distinct| byte(shade::opacity(distinct))).collect());

impl Picture {
    /// The picture of a tile; of `None`, an empty one.
    pub fn of(canvas: Option<&Canvas>) -> Result<Picture, EncodingError> {
        let pixels = canvas.map_or_else(
            || vec![0; AREA],
            |canvas| canvas.sketches().map(|sketch| small(shade::shown(sketch))).collect(),
        );
        let mut png = Vec::new();
        let mut encoder = Encoder::new(&mut png, SIDE, SIDE);
        encoder.set_color(ColorType::Indexed);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_palette(vec![u8::MAX; OPACITIES.len() * 3]);
        encoder.set_trns(OPACITIES.as_slice());
        encoder.write_header()?.write_image_data(&pixels)?;
        let hash = Sha256::digest(&png);
        let name = u128::from_be_bytes(hash.first_chunk().copied().unwrap_or_default());
        Ok(Picture {
            png: png.into(),
            etag: format!("\"{name:032x}\""),
        })
    }
}

fn small(distinct: u32) -> u8 {
    distinct.try_into().unwrap_or_default()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 255")]
fn byte(share: f64) -> u8 {
    (share * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use waybill_domain::trails::{Pixels, Sketch};

    use super::*;

    /// The opacity of each pixel, as a program of others reads it.
    fn opacities(picture: &Picture) -> Vec<u8> {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(&picture.png));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut image = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut image).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (256, 256, ColorType::Rgba));
        image.chunks(4).map(|pixel| pixel[3]).collect()
    }

    #[test]
    fn a_picture_is_white_where_two_drivers_passed() {
        let of = |driver: &str| Sketch::of(&driver.parse().unwrap());
        let (one, two) = (of("cab-1"), of("cab-1") | of("cab-2"));
        let mut canvas = Canvas::default();
        canvas.merge(&Pixels::from_marks(vec![(0, one), (5, two), (65_535, two)]));
        let picture = Picture::of(Some(&canvas)).unwrap();
        let seen = opacities(&picture);
        let seen: Vec<usize> = (0..AREA).filter(|at| seen[*at] > 0).collect();
        assert_eq!(seen, [5, 65_535]);
    }

    #[test]
    fn what_one_driver_passed_is_not_in_the_picture() {
        let mut canvas = Canvas::default();
        canvas.merge(&Pixels::from_marks(vec![(7, Sketch::of(&"cab-1".parse().unwrap()))]));
        let (one, none) = (Picture::of(Some(&canvas)).unwrap(), Picture::of(None).unwrap());
        assert_eq!((one.png, one.etag), (none.png, none.etag));
    }
}
