//! What the documentation grants the role of the programs.

/// The document with the grants.
pub const DOCUMENT: &str = include_str!("../../../docs/adopt.md");

/// The line before the grants.
const HEADING: &str = "-- after it, for view-ingest and view-syncd\n";

/// Returns the statements that grant the role `views` what both programs need.
///
/// # Panics
/// When the document has no such statements.
pub fn statements() -> &'static str {
    DOCUMENT.split(HEADING).nth(1).and_then(|rest| rest.split("```").next()).expect("the document has the grants")
}
