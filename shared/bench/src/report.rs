//! What a run leaves behind: results that can be read by programs, and the tables and plots that are made of them.

pub(crate) mod markdown;
pub(crate) mod performance;
pub(crate) mod plot;

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{machine::Machine, parts::name::Name};

const RESULTS: &str = "results.json";
const TABLES: &str = "results.md";

/// The results of all parts. A run of one part replaces that part and keeps the others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) parts: BTreeMap<String, Part>,
}

/// What one part has found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) title: String,
    /// How it was measured, in full sentences.
    pub(crate) how: String,
    pub(crate) machine: Machine,
    /// The numbers that matter.
    pub(crate) figures: Vec<Figure>,
    pub(crate) tables: Vec<Table>,
    pub(crate) charts: Vec<Chart>,
    /// Everything that was measured, for programs.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub(crate) raw: serde_json::Value,
}

/// A number, and what it should be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<Goal>,
}

/// What a number should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// A table of texts; numbers are formatted already.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Something to be drawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Chart {
    /// A bar for each name.
    Bars { file: String, title: String, unit: String, bars: Vec<(String, f64)> },
    /// A line for each name, over an axis on which equal distances are equal factors.
    Lines { file: String, title: String, x: String, y: String, series: Vec<(String, Vec<(f64, f64)>)> },
}

impl Figure {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &str) -> Self {
        Self { what: what.into(), value, unit: unit.to_owned(), goal: None }
    }

    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Returns whether the goal is met; nothing where there is none.
    pub(crate) fn holds(&self) -> Option<bool> {
        self.goal.map(|goal| match goal {
            Goal::AtMost(limit) => self.value <= limit,
            Goal::AtLeast(limit) => self.value >= limit,
        })
    }
}

impl Chart {
    pub(crate) fn file(&self) -> &str {
        match self {
            Self::Bars { file, .. } | Self::Lines { file, .. } => file,
        }
    }

    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Bars { title, .. } | Self::Lines { title, .. } => title,
        }
    }
}

impl Results {
    /// Reads what earlier runs have left in a folder.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join(RESULTS);
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} was written by another version: remove it or name another --out", file.display()))
    }

    /// Writes everything that is made of the results.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let write = |name: &str, text: String| {
            let file = folder.join(name);
            std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
        };
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        write(RESULTS, serde_json::to_string_pretty(self)? + "\n")?;
        write(TABLES, markdown::document(self))?;
        for chart in self.parts.values().flat_map(|part| &part.charts) {
            write(chart.file(), plot::svg(chart)?)?;
        }
        Ok(())
    }

    /// Returns the parts, in the order in which they are to be read.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (&String, &Part)> {
        let mut parts: Vec<_> = self.parts.iter().collect();
        parts.sort_by_key(|(name, _)| Name::place(name));
        parts.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Goal};

    #[test]
    fn a_goal_holds_on_its_own_side() {
        let figure = |goal| Figure::new("cost", 4.0, "µs").goal(goal).holds();
        assert_eq!(figure(Goal::AtMost(4.0)), Some(true));
        assert_eq!(figure(Goal::AtMost(3.9)), Some(false));
        assert_eq!(figure(Goal::AtLeast(4.1)), Some(false));
        assert_eq!(Figure::new("cost", 4.0, "µs").holds(), None);
    }
}
