//! A model of the protocol by which a view travels: what each process does step by step, what may go wrong between any
//! two steps, and what must hold whatever happens. A model checker walks through every state that can be reached.
//!
//! One post, two viewers with clients that send again, up to two processes of view-ingest and two of view-syncd. Each
//! step is one thing that happens at once in reality: a command of a pipeline, a script, a statement. What is written
//! here follows `view-ingest/src/recorder`, `view-syncd/src` and the scripts of `shared`; who changes one changes the
//! other.
//!
//! The model is ahead of the code in what `PendingLeftUncounted` undoes: where PostgreSQL was away at a post's first
//! touch and the drain dies before it settles, a count may be too high until it does.
//!
//! Not modelled: entries of more than one view, several posts, authors, and a Redis that loses what it has.

pub mod actions;
pub mod daemon;
pub mod ingest;
pub mod postgres;
pub mod properties;
pub mod redis;
pub mod setup;
pub mod trace;
pub mod variant;
pub mod viewers;
pub mod world;
