//! One metric in many series, distinguished by labels.
//!
//! The family of `prometheus-client` does not let its series be read back, and the snapshot needs them; it also
//! prints them in an arbitrary order. This one is an ordered map.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use serde::{Serialize, Serializer};

use super::waits::{SecondsCounter, whole_ms};

type Label = Cow<'static, str>;
type Series<M, const N: usize> = BTreeMap<[Label; N], M>;

/// Series of metric `M`, each with `N` labels. A clone is another handle on the same series.
#[derive(Clone)]
pub(super) struct Labelled<M, const N: usize> {
    names: [&'static str; N],
    series: Arc<RwLock<Series<M, N>>>,
}

impl<M: Clone, const N: usize> Labelled<M, N> {
    /// No series yet; `names` are the names of the labels.
    pub fn new(names: [&'static str; N]) -> Self {
        Labelled {
            names,
            series: Arc::default(),
        }
    }

    /// The series with these values of the labels, made by `create` if it is new. Keep the handle where it is hot.
    pub fn get_or(&self, values: [impl Into<Label>; N], create: impl FnOnce() -> M) -> M {
        let values = values.map(Into::into);
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let known = series.get(&values).cloned();
        drop(series);
        known.unwrap_or_else(|| {
            let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
            series.entry(values).or_insert_with(create).clone()
        })
    }

    /// The series with these values of the labels.
    pub fn get(&self, values: [impl Into<Label>; N]) -> M
    where
        M: Default,
    {
        self.get_or(values, M::default)
    }

    /// All series, in the order of their labels.
    pub fn all(&self) -> Series<M, N> {
        self.series.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Labelled<Counter, 1> {
    /// The counts, by label.
    pub fn counts(&self) -> BTreeMap<Label, u64> {
        let all = self.all().into_iter();
        all.map(|([label], counter)| (label, counter.get())).collect()
    }
}

impl<M: Clone> Labelled<M, 1> {
    /// As a map from the label to what `value` makes of its series.
    pub fn serialize_as<S: Serializer, V: Serialize>(
        &self,
        value: impl Fn(&M) -> V,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let all = self.all().into_iter();
        serializer.collect_map(all.map(|([label], metric)| (label, value(&metric))))
    }
}

impl Serialize for Labelled<Counter, 1> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.counts().serialize(serializer)
    }
}

/// A map of maps, by the first label and then by the second.
impl Serialize for Labelled<Counter, 2> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut counts = BTreeMap::<_, BTreeMap<_, _>>::new();
        for ([outer, inner], counter) in self.all() {
            counts.entry(outer).or_default().insert(inner, counter.get());
        }
        counts.serialize(serializer)
    }
}

impl Serialize for Labelled<Gauge, 1> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_as(Gauge::get, serializer)
    }
}

impl Serialize for Labelled<SecondsCounter, 1> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_as(whole_ms, serializer)
    }
}

impl<M, const N: usize> fmt::Debug for Labelled<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labelled")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl<M, const N: usize> EncodeMetric for Labelled<M, N>
where
    M: Clone + EncodeMetric + TypedMetric,
{
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        for (values, metric) in self.all() {
            let values = values.iter().map(AsRef::as_ref);
            let labels: Vec<(&str, &str)> = self.names.into_iter().zip(values).collect();
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
