//! What `view-ingest` and `view-syncd` have in common.
//!
//! The map: [`ids`] and [`keys`] say what is counted and where it lies in Redis, [`owner`] whose it is; [`settings`] reads flags and environment;
//! [`files`] reads secrets from files; [`auth`] checks tokens; [`redis`] and [`scripts`] speak with Redis, [`postgres`], [`ledger`] and [`sql`] with PostgreSQL;
//! [`admin`], [`request`], [`respond`], [`readiness`], [`telemetry`], [`notify`], [`signals`] and [`ticks`] are what a process needs to be
//! operated; [`failpoints`] are where it is made to die in a proof.

pub mod admin;
pub mod auth;
pub mod failpoints;
pub mod files;
pub mod ids;
pub mod keys;
pub mod ledger;
pub mod notify;
pub mod owner;
pub mod postgres;
pub mod readiness;
pub mod redis;
pub mod request;
pub mod respond;
pub mod scripts;
pub mod settings;
pub mod signals;
pub mod sql;
pub mod telemetry;
pub mod ticks;
pub mod tls;
