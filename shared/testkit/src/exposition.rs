//! What a program's `/metrics` answers, in the text format 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

/// A metric with all its series.
#[derive(Debug, Default)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it means.
    pub help: String,
    /// The labels, but for that of buckets, each with the values that were met.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

/// All metrics of a program.
#[derive(Debug, Default)]
pub struct Exposition {
    /// By their names.
    pub families: BTreeMap<String, Family>,
    /// The names of all series as queries have them, those of a histogram's parts too.
    pub series: BTreeSet<String>,
}

impl Exposition {
    /// Reads what was answered.
    ///
    /// # Panics
    /// When it is something else.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help in {line:?}"));
                let previous = found.families.insert(name.to_owned(), Family { help: help.to_owned(), ..Family::default() });
                assert!(previous.is_none(), "{name} is there twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type in {line:?}"));
                found.family(name).kind = kind.to_owned();
            } else {
                found.take_sample(line);
            }
        }
        found
    }

    fn take_sample(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
        assert!(value.parse::<f64>().is_ok(), "no number: {line:?}");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        self.series.insert(name.to_owned());
        let parts = ["_bucket", "_sum", "_count"];
        let family = parts.iter().find_map(|part| name.strip_suffix(part).filter(|name| self.families.contains_key(*name)));
        let family = self.family(family.unwrap_or(name));
        // No value of ours has a comma or a quote in it.
        for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').unwrap_or_else(|| panic!("no label: {line:?}"));
            if label != "le" {
                family.labels.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
            }
        }
    }

    fn family(&mut self, name: &str) -> &mut Family {
        self.families.get_mut(name).unwrap_or_else(|| panic!("{name} has no help text before it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_series_are_told_apart() {
        let text = "# HELP a_total One.\n# TYPE a_total counter\na_total{x=\"1\",y=\"/p/{id}\"} 2\na_total{x=\"2\",y=\"q\"} 0\n\
            # HELP b Two.\n# TYPE b histogram\nb_bucket{le=\"+Inf\"} 1\nb_sum 0.5\nb_count 1\n";
        let Exposition { families, series } = Exposition::parse(text);
        assert_eq!(series.iter().collect::<Vec<_>>(), ["a_total", "b_bucket", "b_count", "b_sum"]);
        let Family { kind, help, labels } = &families["a_total"];
        assert_eq!((kind.as_str(), help.as_str()), ("counter", "One."));
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["x", "y"]);
        assert!(labels["y"].contains("/p/{id}"));
        assert!(families["b"].labels.is_empty());
    }
}
