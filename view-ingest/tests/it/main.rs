//! view-ingest against a real Redis and a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "clippy knows tests, but not the functions that they share")]

mod auth;
mod away;
mod batch;
mod counts;
mod fallback;
mod fallback_faults;
mod fallback_locks;
mod first_touch;
mod heads;
mod ids;
mod key_files;
mod keys;
mod limits;
mod link;
mod load_balancer;
mod operators;
mod outbox;
mod owner;
mod pooler;
mod postgres_away;
mod postgres_read_only;
mod preconditions;
mod readiness;
mod recording;
mod redis_away;
mod redis_refuses;
mod refusals;
mod requirements;
mod restarts;
mod returning;
mod settings;
mod signals;
mod slow;
mod store_urls;
mod strangers;
mod successors;
mod support;
mod systemd;
mod tls;
mod token_refusals;
mod types;
mod viewer_rate;
mod views;
mod wire;
