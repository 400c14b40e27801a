//! The model of the protocol, checked: the protocol as it is built, the same protocol with something broken in it, and
//! what the model has found to be amiss. Every test says how many states it has seen.

mod cluster;
mod counts;
mod found;
mod partitions;
mod protocol;
mod rows;
mod support;
mod variants;
