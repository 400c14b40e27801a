//! The API: the routes, what each of them reads and answers, and what users are told.

pub(crate) mod app;
mod get_counts;
mod input;
mod messages;
mod post_view;
mod post_views_batch;
pub(crate) mod router;
pub(crate) mod viewer_rate;
