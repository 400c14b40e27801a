//! The kit's promises, kept before other tests rely on them.

#![expect(clippy::unwrap_used, reason = "clippy knows tests, but not the functions that they share")]

mod cleanup;
mod cluster;
mod eventually;
mod http;
mod postgres;
mod process;
mod proxy;
mod redis;
mod sentinel;
mod tokens;
