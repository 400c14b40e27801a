//! A model of the protocol by which a view travels: what each process does step by step, what may go wrong between any
//! two steps, and what must hold whatever happens. A model checker walks through every state that can be reached.
//!
//! One post, two viewers with clients that send again, up to two processes of view-ingest and two of view-syncd. Each
//! step is one thing that happens at once in reality: a command of a pipeline, a script, a statement. What is written
//! here follows `view-ingest/src/recorder`, `view-syncd/src` and the scripts of `shared`; who changes one changes the
//! other.
//!
//! In a cluster, set and hash are moved together, and the outbox before or after them; a node fails over to a replica
//! that has got everything up to some moment. Two partitions are two such posts ([`partitions`]).
//!
//! The model is ahead of the code in what `PendingLeftUncounted` undoes: where PostgreSQL was away at a post's first
//! touch and the drain dies before it settles, a count may be too high until it does. So it is in what these undo:
//! `RecordsOverTwoConnections`, `SettlesBehindAMove`, `SettlesTwoOutboxes`.
//!
//! Not modelled: entries of more than one view, several posts of one outbox, authors, dead letters that a failover loses,
//! and an importing node that is not found until somebody mends the cluster, because it has failed over.

pub mod actions;
pub mod cluster;
pub mod daemon;
pub mod ingest;
pub mod partitions;
pub mod postgres;
pub mod properties;
pub mod redis;
pub mod setup;
pub mod trace;
pub mod variant;
pub mod viewers;
pub mod world;
