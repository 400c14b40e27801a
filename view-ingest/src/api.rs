//! The API: the routes, what each of them reads and answers, and what users are told.

pub(crate) mod app;
mod credentials;
mod get_counts;
mod get_viewed;
mod input;
mod messages;
pub(crate) mod path_prefix;
mod post_view;
mod post_views_batch;
pub(crate) mod router;
pub(crate) mod surface;
pub(crate) mod viewer_rate;
