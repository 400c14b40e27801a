//! Anything may arrive at the public listener. Whatever does, view-ingest stays alive, answers only what its contract
//! says, never with a 5xx, and counts views afterwards as before.

#![expect(clippy::unwrap_used, reason = "clippy knows tests, but not the functions that they share")]

mod bytes;
mod half;
mod requests;
mod wire;
mod world;
