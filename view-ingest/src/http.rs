//! Connections: who is let in, what each of them is waited for, and requests that are handed to a
//! [`connection::Handler`]. It knows no API.

pub(crate) mod admission;
pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod phase_timer;
