//! A Redis Cluster: which node has which slot ([`topology`]), and pipelines that are divided among the nodes.
//!
//! The client library reads the settings and brings the certificates. It is not connected: it knows no `TRYAGAIN`, and
//! one node that is away would hold up the commands to all others.

mod exchange;
mod node_pipeline;
mod node_view;
pub(crate) mod pool;
mod refresh;
mod route;
mod silence;
mod slot_map;
pub(crate) mod topology;

pub use self::exchange::Answered;
pub(crate) use self::exchange::ClusterSession;
pub use self::{
    node_view::{HalfMovedSlot, NodeView, OpenSlot, Way},
    slot_map::NodeId,
};
