//! The daemon: waits for the stores, then drains and scans until it is told to stop, then drains a last time.
//!
//! One task does all the work. Drains take their steps side by side, each of a partition of its own; a step of the
//! reconciler has none beside it. Only the warm-up is a task of its own: to Redis it is one more first view, of which
//! there may be any at any time.

pub mod admin_api;
pub mod cycle;
pub mod leases;
pub mod run;
pub mod synchronizer;
pub mod triggers;
pub mod work;

mod dependencies;
mod flush;
mod interleave;
mod observed;
mod partition_drain;
mod partition_drains;
mod readiness;
mod schedule;
mod scope;
mod serve;
mod signals;
mod warm_up;
mod watchdog;
