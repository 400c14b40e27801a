//! From requests to verdicts: the stages that a batch of views and reads goes through, and what they work with.
//!
//! `recorder` makes batches of [`request`]s. A batch begins in [`pending`], as items grouped by post (`group`), goes
//! through `check` and `write`, and ends in [`pending`], with a verdict for each item. What Redis does not take goes
//! through `fallback` (beside the batches through `bypass`), what Redis does not know of a post through `lookup`. No stage knows the recorder. [`viewed`]
//! answers beside it who has seen what.

pub(crate) mod breaker;
mod bypass;
mod check;
pub(crate) mod context;
mod database_state;
pub(crate) mod dependencies;
mod fallback;
mod group;
pub(crate) mod health;
mod lookup;
mod missed;
mod mode;
pub(crate) mod not_found;
mod parked;
pub(crate) mod pending;
pub(crate) mod read_limit;
pub(crate) mod recorder;
mod refusing_nodes;
pub(crate) mod request;
pub(crate) mod unverified;
pub(crate) mod viewed;
mod write;
