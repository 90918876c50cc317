//! Parts of lists. Objects are kept in the order in which they came, which is the order of time: [`next_time`] sees to it.
//! So a span of time is found by a binary search, and no page reads more than it shows.

use indexmap::IndexMap;
use indexmap::map::Slice;
use serde_json::{Value, json};

use super::objects::{PaymentIntent, Refund};
use super::reply::Reply;
use super::request::Page;

/// Objects by id, in the order in which they came. Boxed, so that a map that grows does not move them.
pub(super) type Objects<T> = IndexMap<String, Box<T>>;

/// An object that is listed.
pub(super) trait Listed {
    /// Seconds since the Unix epoch.
    fn created(&self) -> i64;
}

impl Listed for PaymentIntent {
    fn created(&self) -> i64 {
        self.created
    }
}

impl Listed for Refund {
    fn created(&self) -> i64 {
        self.created
    }
}

/// The time of the next object, which was made at `now`: a clock that was set back must not disorder the list.
pub(super) fn next_time<T: Listed>(objects: &Objects<T>, now: i64) -> i64 {
    objects.last().map_or(now, |(_, newest)| newest.created().max(now))
}

/// The objects of the page's span of time that are before the place `end`, the newest first.
pub(super) fn of_time<'a, T: Listed>(objects: &'a Objects<T>, page: &Page, end: usize) -> impl Iterator<Item = &'a T> {
    let place = |time: i64| objects.partition_point(|_, object| object.created() < time);
    let from = page.created_from.map_or(0, place);
    let end = page.created_before.map_or(objects.len(), place).min(end);
    let part = objects.as_slice().get_range(from.min(end)..end);
    part.into_iter().flat_map(Slice::values).rev().map(Box::as_ref)
}

/// Those of the objects at these places that are of the page's span of time and before the place `end`, the newest first.
pub(super) fn of_places<'a, T: Listed>(
    objects: &'a Objects<T>,
    places: &'a [usize],
    page: &'a Page,
    end: usize,
) -> impl Iterator<Item = &'a T> {
    let before = places.iter().rev().filter(move |place| **place < end);
    let objects = before.filter_map(|place| Some(objects.get_index(*place)?.1.as_ref()));
    objects.filter(|object| page.has_time(object.created()))
}

/// The page of these objects.
pub(super) fn list(url: &str, page: &Page, mut objects: impl Iterator<Item = Value>) -> Reply {
    let data: Vec<Value> = objects.by_ref().take(page.limit).collect();
    Reply::ok(&json!({ "object": "list", "url": url, "has_more": objects.next().is_some(), "data": data }))
}
