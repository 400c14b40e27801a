//! What arrives from outside may be anything: ids and settings. These tests make up a lot of it.

mod ids;
mod settings;
