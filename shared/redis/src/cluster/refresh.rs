//! Asking nodes which of them has which slot. Several are asked at once: one that hangs holds nothing up, and one that
//! has been cut off from the others tells what was true before.

use std::time::Duration;

use fred::types::config::{Config, Server};
use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    silence::is_silence,
    slot_map::{self, SlotRange},
};
use crate::{
    RedisError,
    connection::{connect, log_in, transmit},
    resp::{Commands, Replies, Reply},
};

/// How long a node may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one may take of which is not known whether it answers at all: as long as a command.
const LONG_PATIENCE: Duration = Duration::from_secs(5);
/// How long other answers are waited for behind the first.
const MORE_ANSWERS: Duration = Duration::from_millis(200);
/// How many nodes are asked at once.
const ASKED: usize = 6;
/// What a server says that is no node of a cluster.
const DISABLED: &str = "cluster support disabled";

/// What the nodes have answered.
#[derive(Default)]
pub(crate) struct Answer {
    /// Which nodes have which slots, where any node has told.
    pub(crate) ranges: Option<Vec<SlotRange>>,
    /// Why none has.
    pub(crate) failure: Option<String>,
    /// Why a server is no node of a cluster, where that is so.
    pub(crate) no_cluster: Option<String>,
}

/// What one node has told.
struct Told {
    ranges: Vec<SlotRange>,
    /// Whether the cluster is well, as far as the node knows.
    is_well: bool,
    /// How often the cluster has changed, as far as the node knows.
    epoch: u64,
}

impl Told {
    /// Orders what nodes have told: that of the one that knows most comes last.
    fn rank(&self) -> (bool, u64, usize) {
        let slots = self.ranges.iter().map(|range| usize::from(range.last.saturating_sub(range.first)) + 1).sum();
        (self.is_well, self.epoch, slots)
    }
}

/// Asks some of the servers, others in each turn.
pub(crate) async fn ask(config: &Config, mut servers: Vec<Server>, turn: usize) -> Answer {
    if servers.len() > ASKED {
        let turn = turn.wrapping_mul(ASKED) % servers.len();
        servers.rotate_left(turn);
        servers.truncate(ASKED);
    }
    let mut asked: FuturesUnordered<_> = servers.iter().map(|server| ask_in_time(config, server)).collect();
    let (mut best, mut answer) = (None::<Told>, Answer::default());
    loop {
        let next = match best {
            None => asked.next().await,
            Some(_) => tokio::time::timeout(MORE_ANSWERS, asked.next()).await.ok().flatten(),
        };
        match next {
            None => break,
            Some(Ok(told)) => {
                if best.as_ref().is_none_or(|best| best.rank() < told.rank()) {
                    best = Some(told);
                }
            }
            Some(Err((server, error))) => {
                let text = error.to_string();
                if text.contains(DISABLED) {
                    answer.no_cluster.get_or_insert_with(|| {
                        format!(
                            "{server} is no node of a Redis Cluster (cluster-enabled no): give its address as redis://{server}"
                        )
                    });
                }
                answer.failure.get_or_insert_with(|| format!("{server}: {}", crate::in_words(&text)));
            }
        }
    }
    answer.ranges = best.map(|told| told.ranges);
    if answer.ranges.is_some() {
        answer.no_cluster = None;
    }
    answer
}

/// Returns whether a server answers, whatever it says.
pub(crate) async fn answers(config: &Config, server: &Server) -> bool {
    let ping = async {
        let mut connection = connect(config, server).await?;
        log_in(&mut connection, config).await?;
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        commands.command("PING", 0);
        transmit(&mut connection, commands.bytes(), commands.len(), &mut replies).await
    };
    match tokio::time::timeout(LONG_PATIENCE, ping).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => !is_silence(&error),
        Err(_) => false,
    }
}

async fn ask_in_time<'s>(config: &Config, server: &'s Server) -> Result<Told, (&'s Server, RedisError)> {
    let told = tokio::time::timeout(PATIENCE, ask_one(config, server)).await;
    told.unwrap_or(Err(RedisError::Timeout)).map_err(|error| (server, error))
}

async fn ask_one(config: &Config, server: &Server) -> Result<Told, RedisError> {
    let mut connection = connect(config, server).await?;
    log_in(&mut connection, config).await?;
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    commands.command("CLUSTER", 1).text("SLOTS");
    commands.command("CLUSTER", 1).text("INFO");
    transmit(&mut connection, commands.bytes(), commands.len(), &mut replies).await?;
    let mut all = replies.iter();
    let ranges = match all.next() {
        Some(Reply::List(ranges)) => slot_map::read(ranges, server).filter(|ranges| !ranges.is_empty()),
        Some(Reply::Error(error)) => return Err(error.into()),
        _ => None,
    };
    let ranges = ranges.ok_or(RedisError::UnexpectedReply)?;
    // An account may lack the right to ask.
    let info = all.next().and_then(Reply::text).unwrap_or_default();
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let is_well = field("cluster_state:").is_none_or(|state| state == "ok");
    let epoch = field("cluster_current_epoch:").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    Ok(Told { ranges, is_well, epoch })
}
