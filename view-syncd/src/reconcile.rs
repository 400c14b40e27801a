//! The reconciler: every post in Redis is compared with PostgreSQL, page by page. It is the guarantee of consistency;
//! the drain is for speed.
//!
//! It runs no drain and has no part of an outbox. Where it can be interrupted it gives the drains of the process their
//! turn, by the trait `Drains` that the caller implements.

pub(crate) mod adjust;
pub(crate) mod adopted;
pub(crate) mod compare;
pub(crate) mod difference;
pub(crate) mod drains;
pub(crate) mod forget;
pub(crate) mod hydrate;
pub(crate) mod import_set;
pub(crate) mod keyspace;
pub(crate) mod live_count;
pub(crate) mod look;
pub(crate) mod mend;
pub(crate) mod outboxes;
pub(crate) mod pending;
pub(crate) mod post_state;
pub(crate) mod posts;
pub(crate) mod rebuild_set;
pub(crate) mod reconciler;
pub(crate) mod refresh;
pub(crate) mod repair;
pub(crate) mod report;
pub(crate) mod retry_dead_letters;
pub(crate) mod scan;
pub(crate) mod snapshot;
pub(crate) mod throttle;
pub(crate) mod turn;
pub(crate) mod warm;
