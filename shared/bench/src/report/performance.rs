//! The block of results in `docs/performance.md`.

use std::path::Path;

use anyhow::Context;

use super::{Results, markdown};
use crate::parts::name::Name;

const BEGIN: &str = "<!-- bench: begin. Written by deploy/bench --update-docs. -->";
const END: &str = "<!-- bench: end -->";

/// Replaces the block between the two comments in `file`. The results lie in `folder`.
///
/// # Errors
/// If the file cannot be read or written, or has no block.
pub(crate) fn update(file: &Path, results: &Results, folder: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = replace(&text, &block(results, &link(file, folder)))
        .with_context(|| format!("{} has no block for results", file.display()))?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn replace(text: &str, block: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{block}\n{END}{after}"))
}

/// Returns the folder as a link in the file names it.
fn link(file: &Path, folder: &Path) -> String {
    let beside = file.parent().and_then(|parent| folder.strip_prefix(parent).ok());
    beside.unwrap_or(folder).display().to_string()
}

/// Returns the comparison, what has a goal, and the plots.
fn block(results: &Results, folder: &str) -> String {
    let mut text = String::new();
    if let Some(part) = results.parts.get(Name::Throughput.as_str()) {
        text += &format!("{}\n", markdown::wrapped(&part.machine.to_string()));
        if let Some(table) = part.tables.first() {
            text += &format!("\n{}:\n\n{}", table.title, markdown::table(table));
        }
    }
    for (_, part) in results.in_order().filter(|(_, part)| !part.figures.is_empty()) {
        text += &format!("\n{}:\n\n{}", part.title, markdown::figures(&part.figures, part.machine.was_busy()));
    }
    for chart in results.in_order().flat_map(|(_, part)| &part.charts) {
        text += &format!("\n![{}]({folder}/{})", chart.title(), chart.file());
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_comments_is_replaced() {
        let text = format!("# Title\n{BEGIN}\nold\n{END}\nmore\n");
        assert_eq!(replace(&text, "new").unwrap(), format!("# Title\n{BEGIN}\nnew\n{END}\nmore\n"));
        assert_eq!(replace("# Title\n", "new"), None);
    }

    #[test]
    fn plots_are_linked_from_where_the_document_is() {
        let file = Path::new("docs/performance.md");
        assert_eq!(link(file, Path::new("docs/bench")), "bench");
        assert_eq!(link(file, Path::new("/tmp/results")), "/tmp/results");
    }

    #[test]
    fn the_document_has_a_block() {
        let document = include_str!("../../../../docs/performance.md");
        assert!(replace(document, "new").is_some());
    }
}
