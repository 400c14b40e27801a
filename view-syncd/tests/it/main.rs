//! view-syncd against a real Redis and a real PostgreSQL.

mod acknowledge;
mod crash;
mod daemon;
mod drain;
mod http_api;
mod migrate;
mod outages;
mod scan;
mod settings;
mod support;
mod systemd;
mod tls;
