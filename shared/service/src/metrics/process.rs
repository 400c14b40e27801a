//! The numbers of the process that Prometheus' client libraries have agreed on, read from `/proc` with each scrape.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use procfs::{
    WithCurrentSystemInfo,
    process::{LimitValue, Process, Stat},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// Registers the numbers of this process, whose names have no program's prefix.
pub fn register(registry: &mut Registry) {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    registry.register_collector(Box::new(ProcessMetrics { started: since_1970.as_secs_f64() }));
}

#[derive(Debug)]
struct ProcessMetrics {
    /// When it registered this. Its start by the system's own word is counted from the boot, which a unit with
    /// `ProcSubset=pid` is not told.
    started: f64,
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "When the process started, in seconds since 1970.";
        let metric = encoder.encode_descriptor("process_start_time_seconds", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.started).encode(metric)?;
        // What cannot be read is left out.
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let help = "Time of processors that the process has used, in seconds.";
            let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(cpu_seconds(&stat)).encode(metric)?;
            let help = "Memory that the process occupies, in bytes.";
            gauge(&mut encoder, "process_resident_memory_bytes", help, stat.rss_bytes().get())?;
            let help = "Memory that the process has addresses for, in bytes.";
            gauge(&mut encoder, "process_virtual_memory_bytes", help, stat.vsize)?;
        }
        if let Ok(open) = process.fd_count() {
            gauge(&mut encoder, "process_open_fds", "Open file descriptors.", open as u64)?;
        }
        if let Ok(limits) = process.limits() {
            let most = match limits.max_open_files.soft_limit {
                LimitValue::Value(most) => most,
                LimitValue::Unlimited => 0,
            };
            let help = "File descriptors that may be open; 0 where there is no limit.";
            gauge(&mut encoder, "process_max_fds", help, most)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn cpu_seconds(stat: &Stat) -> f64 {
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    #[test]
    fn the_process_knows_itself() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        let [resident, virtual_] = ["resident", "virtual"].map(|kind| value(&format!("process_{kind}_memory_bytes")));
        assert!(resident > 100_000.0 && virtual_ > resident);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - value("process_start_time_seconds")).abs() < 60.0);
    }
}
