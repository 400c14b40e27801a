//! Names of log events that tell how they may be repeated. No line shows them.
//!
//! A warning or an error without such a name is written once; what follows it with the same message is counted, and told
//! by a line now and then. That is done where lines are written, and not where they are made.

/// A change of state, a finding, or the one line of a cycle: every one of them is written.
pub const STATE: &str = "state";

/// One line of many that are alike, about a post or a request: the first few of them are written, whatever their level,
/// and the rest are counted.
pub const EXAMPLE: &str = "example";
