//! Writing samples in the text form of OpenMetrics, which `prometheus-client` knows.
//!
//! Deliberately not here: which metrics there are (`../metrics.rs`).

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;
use std::fmt;

/// Names and values of labels. The encoder escapes values.
pub(super) type Labels<const N: usize> = [(&'static str, String); N];

/// What a metric is called, without its unit, and what it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Title<'a>(pub &'static str, pub Option<&'a Unit>, pub &'static str);

pub(super) struct Samples<'a>(pub DescriptorEncoder<'a>);

impl Samples<'_> {
    pub(super) fn info(&mut self, title: Title<'_>, labels: Vec<(&'static str, String)>) -> fmt::Result {
        let Title(name, unit, says) = title;
        let info = Info::new(labels);
        info.encode(self.0.encode_descriptor(name, says, unit, MetricType::Info)?)
    }

    /// Nothing where it is not known.
    pub(super) fn gauge(&mut self, title: Title<'_>, value: impl Into<Option<f64>>) -> fmt::Result {
        let Title(name, unit, says) = title;
        let encoder = self.0.encode_descriptor(name, says, unit, MetricType::Gauge)?;
        value.into().map_or(Ok(()), |value| ConstGauge::new(value).encode(encoder))
    }

    pub(super) fn gauges<const N: usize>(
        &mut self,
        title: Title<'_>,
        rows: impl IntoIterator<Item = (Labels<N>, f64)>,
    ) -> fmt::Result {
        let Title(name, unit, says) = title;
        let mut encoder = self.0.encode_descriptor(name, says, unit, MetricType::Gauge)?;
        rows.into_iter().try_for_each(|(labels, value)| ConstGauge::new(value).encode(encoder.encode_family(&labels)?))
    }

    /// `_total` is added to its name.
    pub(super) fn counter(&mut self, title: Title<'_>, value: f64) -> fmt::Result {
        let Title(name, unit, says) = title;
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, says, unit, MetricType::Counter)?)
    }

    pub(super) fn counters<const N: usize>(
        &mut self,
        title: Title<'_>,
        rows: impl IntoIterator<Item = (Labels<N>, f64)>,
    ) -> fmt::Result {
        let Title(name, unit, says) = title;
        let mut encoder = self.0.encode_descriptor(name, says, unit, MetricType::Counter)?;
        rows.into_iter()
            .try_for_each(|(labels, value)| ConstCounter::new(value).encode(encoder.encode_family(&labels)?))
    }
}
