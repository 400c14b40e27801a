//! What a process needs to be operated: [`admin`] listens for operators, with [`request`], [`respond`] and [`cors`] for
//! HTTP, [`readiness`] and [`checks`] for probes and [`metrics`] for scrapes; [`logs`], [`levels`] and [`telemetry`] tell what
//! happens, and [`failed_request`] whose request failed; [`signals`], [`level_signals`] and [`notify`] are its ties to the
//! system.

pub mod admin;
pub mod checks;
pub mod cors;
pub mod failed_request;
mod journal;
pub mod level_signals;
pub mod levels;
pub mod logs;
pub mod metrics;
pub mod notify;
pub mod readiness;
mod repetitions;
pub mod request;
pub mod respond;
pub mod signals;
pub mod telemetry;
