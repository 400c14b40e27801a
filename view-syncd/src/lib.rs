//! Brings views from Redis into PostgreSQL.
//!
//! The path of a batch: [`outbox`] reads it, [`drain`] decides what becomes of each pair, `store` puts it into PostgreSQL, `dead` keeps
//! what PostgreSQL can never take, `committed` and `acknowledge` settle it in Redis, `publish` tells the world. `ownership`
//! makes sure that all of it is ours to take. [`cycle`] is a drain, a [`scan`] (with `union` and
//! `repair`), and a drain. [`daemon`] does all of this for ever; [`commands`] does some of it once.

mod acknowledge;
pub mod admin_api;
pub mod cli;
pub mod commands;
mod committed;
pub mod cycle;
pub mod daemon;
mod dead_letters;
mod deferred;
pub mod drain;
pub mod engine;
mod flush;
pub mod health;
mod import_set;
pub mod leader;
mod line;
pub mod metrics;
pub mod outbox;
mod ownership;
mod pairs;
mod publish;
mod repair;
pub mod scan;
pub mod stop;
mod store;
pub mod stores;
pub mod triggers;
pub mod watchdog;
