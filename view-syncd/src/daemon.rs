//! The daemon: waits for the stores, then drains and scans until it is told to stop, then drains a last time.
//!
//! One task does all the work, one step after the other, so that no step needs to think of another one beside it.

pub mod admin_api;
pub mod cycle;
pub mod leader;
pub mod run;
pub mod synchronizer;
pub mod triggers;

mod flush;
mod interleave;
mod readiness;
mod schedule;
mod serve;
mod signals;
mod watchdog;
