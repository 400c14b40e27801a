//! The model, checked.

mod support;
mod tuning;
