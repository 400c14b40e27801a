//! What is counted and where it lies ([`ids`], [`keys`], [`partition`], [`post`], [`ttl`]), whose it is ([`owner`]), how settings are
//! read ([`settings`], [`command_line`], [`files`], [`network`], [`store_urls`]), whom a connection trusts ([`tls`]), and
//! what every process is made of ([`ticks`], [`log_names`], [`masked`],
//! [`failpoints`]). It knows neither store.

pub mod command_line;
pub mod failpoints;
pub mod files;
pub mod ids;
pub mod keys;
pub mod log_names;
pub mod masked;
pub mod network;
pub mod owner;
pub mod partition;
pub mod post;
pub mod settings;
pub mod store_urls;
pub mod ticks;
pub mod tls;
pub mod ttl;
