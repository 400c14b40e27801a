//! What arrives from outside may be anything: ids and settings. These tests make up a lot of it.

#![expect(clippy::unwrap_used, reason = "clippy knows tests, but not the functions that they share")]

mod ids;
mod settings;
