//! Brings views from Redis into PostgreSQL.
//!
//! Layers, each of which knows only those before it: [`context`] (what belongs to the process) and [`error`];
//! `owned_session` (Redis, and whose its keys are); [`drain`] (one outbox); [`reconcile`] (all posts); [`daemon`],
//! which lets the two alternate for ever, and [`commands`], which do some of it once.

pub mod cli;
pub mod commands;
pub mod context;
pub mod daemon;
pub mod drain;
pub mod entry_id;
pub mod error;
pub mod metrics;
mod owned_session;
pub mod reconcile;
mod session_name;
