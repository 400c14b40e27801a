//! Everything that the tests of view-ingest and view-syncd, and the tour, need around them: real servers that are
//! thrown away, processes, tokens, a client, and outages.
//!
//! Nothing here returns an error: what goes wrong is a failed test, so it panics and says what happened. Nothing stays
//! behind either, even when the test process is killed: see `supervisor.rs`. Linux only, because it reads `/proc`.
//!
//! The stores are the `redis-server` and the PostgreSQL in `PATH`, or Debian's newest PostgreSQL. Others are named by
//! environment variables: `TESTKIT_REDIS_SERVER` is the path of a server, such as a `valkey-server`, and
//! `TESTKIT_POSTGRES_BIN` the folder of `initdb` and `postgres`. `deploy/check-servers` tries some of them.

mod eventually;
mod made;
mod server;
mod supervisor;

pub mod cluster;
pub mod configuration;
pub mod exposition;
pub mod grants;
pub mod http;
pub mod issuer;
pub mod load_balancer;
pub mod manual;
pub mod pooler;
pub mod ports;
pub mod postgres;
pub mod posts;
pub mod process;
pub mod prometheus;
pub mod properties;
pub mod proxy;
pub mod redis;
pub mod scratch;
pub mod sentinel;
pub mod tls;
pub mod tokens;
pub mod traffic;

pub use self::eventually::{Outcome, SOON, eventually, within};
