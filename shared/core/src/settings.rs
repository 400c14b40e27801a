//! Reading settings. A field of clap's arguments declares a setting once: its flag, its environment variable, its
//! default and its help. It is a [`Setting`], which takes its name and its default from there, so that resolving it
//! repeats neither. Every value arrives as text, and everything that is wrong is reported together, so that an operator
//! mends a unit file once and not once per mistake.

pub mod parse;
mod problems;
mod setting;

pub use problems::Problems;
pub use setting::{Setting, SettingParser};

/// The exit status for wrong settings: `EX_USAGE` of BSD's `sysexits.h`.
pub const EXIT_USAGE: u8 = 64;
/// The exit status for a store that is not set up for this program: `EX_CONFIG` of BSD's `sysexits.h`.
pub const EXIT_CONFIG: u8 = 78;
