//! view-syncd against a real Redis and a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

mod acknowledge;
mod administrators;
mod beside;
mod changed_posts;
mod counts;
mod crash;
mod crowd;
mod daemon;
mod dead_letters;
mod drain;
mod end_to_end;
mod failover;
mod health;
mod http_api;
mod keys;
mod large;
mod least_rights;
mod locks;
mod migrate;
mod not_seen;
mod old_data;
mod older_answers;
mod outages;
mod owner;
mod preconditions;
mod prefixes;
mod racing;
mod read_only;
mod requirements;
mod scan;
mod scan_cost;
mod sentinel;
mod settings;
mod site;
mod spelling;
mod spellings;
mod support;
mod systemd;
mod table_faults;
mod tls;
