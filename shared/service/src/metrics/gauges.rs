//! Gauges that are read when somebody scrapes, so that what they tell costs nothing meanwhile.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};

/// Registers a gauge that is read with each scrape. Reading it must be quick.
pub fn register<V>(registry: &mut Registry, name: &'static str, help: &'static str, read: impl Fn() -> V + Send + Sync + 'static)
where
    V: EncodeGaugeValue + Copy + fmt::Debug + Send + Sync + 'static,
{
    registry.register_collector(Box::new(Gauges { name, help, label: "", values: [""], read: move || [read()] }));
}

/// Registers gauges of one name that are read together with each scrape, one for each value of a label.
pub fn register_labelled<V, const N: usize>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
    (label, values): (&'static str, [&'static str; N]),
    read: impl Fn() -> [V; N] + Send + Sync + 'static,
) where
    V: EncodeGaugeValue + Copy + fmt::Debug + Send + Sync + 'static,
{
    registry.register_collector(Box::new(Gauges { name, help, label, values, read }));
}

/// Registers the gauge of the version that runs, which is always 1.
pub fn register_build(registry: &mut Registry, version: &'static str) {
    register_labelled(registry, "build_info", "The version that runs; always 1", ("version", [version]), || [1_i64]);
}

struct Gauges<F, const N: usize> {
    name: &'static str,
    help: &'static str,
    /// Empty where there is one gauge without a label.
    label: &'static str,
    values: [&'static str; N],
    read: F,
}

impl<F, const N: usize> fmt::Debug for Gauges<F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauges").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<F, V, const N: usize> Collector for Gauges<F, N>
where
    F: Fn() -> [V; N] + Send + Sync + 'static,
    V: EncodeGaugeValue + Copy + fmt::Debug + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // The registry ends the help texts of its own metrics likewise.
        let help = format!("{}.", self.help);
        let mut metric = encoder.encode_descriptor(self.name, &help, None, MetricType::Gauge)?;
        for (value, number) in self.values.iter().zip((self.read)()) {
            let gauge = ConstGauge::new(number);
            if self.label.is_empty() {
                return gauge.encode(metric);
            }
            gauge.encode(metric.encode_family(&[(self.label, *value)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    #[test]
    fn gauges_are_read_with_each_scrape() {
        let mut registry = Registry::default();
        register(&mut registry, "a", "One", || 1_i64);
        register_labelled(&mut registry, "b", "Two", ("of", ["x", "y"]), || [0.5, 2.0]);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).unwrap();
        let expected = "# HELP a One.\n# TYPE a gauge\na 1\n# HELP b Two.\n# TYPE b gauge\nb{of=\"x\"} 0.5\nb{of=\"y\"} 2.0\n";
        assert_eq!(text, expected);
    }
}
