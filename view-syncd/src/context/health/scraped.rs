//! Gauges with one series for each partition that this process drains, which are read at a scrape.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use views_core::partition::Partition;

use super::{Health, outbox::OutboxHealth};

/// Gauges of one name.
pub(super) struct PerPartition {
    name: &'static str,
    help: &'static str,
    health: Health,
    read: fn(&OutboxHealth) -> f64,
}

impl PerPartition {
    pub(super) fn register(
        registry: &mut Registry,
        name: &'static str,
        help: &'static str,
        health: &Health,
        read: fn(&OutboxHealth) -> f64,
    ) {
        registry.register_collector(Box::new(Self { name, help, health: health.clone(), read }));
    }
}

impl fmt::Debug for PerPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerPartition").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Collector for PerPartition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let numbers: Vec<(Partition, f64)> =
            self.health.state().outboxes.iter().map(|(partition, outbox)| (*partition, (self.read)(outbox))).collect();
        // The registry ends the help texts of its own metrics likewise.
        let help = format!("{}.", self.help);
        let mut metric = encoder.encode_descriptor(self.name, &help, None, MetricType::Gauge)?;
        for (partition, number) in numbers {
            ConstGauge::new(number).encode(metric.encode_family(&[("partition", partition.name())])?)?;
        }
        Ok(())
    }
}
