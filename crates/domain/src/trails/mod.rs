//! Trails: the map that a fleet draws by driving. Two fixes of a driver that are near in place and time are a [`segment`] of a
//! street; the pixels under it ([`line`](mod@line), by the [`projection`] of web maps) remember who passed.
//!
//! Per pixel a [`Sketch`] keeps a set of drivers in 64 bits. That makes all of it a union: to draw a segment again, late, or at
//! two servers changes nothing, a driver counts once however often it passes, and the sets of days, of parts of a tile and of
//! the pixels below a coarser one are merged by the same operation. [`Drawing`] collects segments into tiles, [`Pixels`] is
//! how a tile is stored, [`parts`] says which parts of one are worth merging, and [`shade`] what is seen: never a pixel that one
//! driver alone passed.

pub mod drawing;
pub mod line;
pub mod parts;
pub mod pixels;
pub mod projection;
pub mod segment;
pub mod shade;
pub mod sketch;
pub mod tile;

pub use self::drawing::{Drawing, Drawn};
pub use self::pixels::{Canvas, Pixels};
pub use self::sketch::Sketch;
pub use self::tile::{TileId, ZOOM_MAX, ZOOM_MIN};
