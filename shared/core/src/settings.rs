//! Reading settings. A field of clap's arguments declares a setting once: its flag, its environment variable, its
//! default and its help. It is a [`Setting`], which takes its name and its default from there, so that resolving it
//! repeats neither. Every value arrives as text, and everything that is wrong is reported together, so that an operator
//! mends a unit file once and not once per mistake.

pub mod parse;
mod problems;
mod setting;

use std::{ffi::OsString, process::ExitCode};

use clap::{Command, FromArgMatches};
pub use problems::Problems;
pub use setting::{Setting, SettingParser};

use crate::command_line;

/// The exit status for wrong settings: `EX_USAGE` of BSD's `sysexits.h`.
pub const EXIT_USAGE: u8 = 64;
/// The exit status for a store that is not set up for this program: `EX_CONFIG` of BSD's `sysexits.h`.
pub const EXIT_CONFIG: u8 = 78;

/// Parses the command line and the environment.
///
/// # Errors
/// The exit status to end with, after the help text (0) or the complaint (64) has been printed.
pub fn parse_args<A: FromArgMatches>(command: &Command, args: impl IntoIterator<Item = OsString>) -> Result<A, ExitCode> {
    let matches = command.clone().try_get_matches_from(args);
    matches.and_then(|matches| A::from_arg_matches(&matches)).map_err(|error| command_line::tell(command, error))
}
