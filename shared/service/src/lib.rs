//! What a process needs to be operated: [`admin`] listens for operators, with [`request`], [`respond`] and [`cors`] for
//! HTTP, [`readiness`] for probes and [`metrics`] for scrapes; [`logs`] and [`telemetry`] tell what happens; [`signals`]
//! and [`notify`] are its ties to the system.

pub mod admin;
pub mod cors;
pub mod logs;
pub mod metrics;
pub mod notify;
pub mod readiness;
pub mod request;
pub mod respond;
pub mod signals;
pub mod telemetry;
