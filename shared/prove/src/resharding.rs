//! Does to the cluster what its operator does, on schedule: see `schedule/resharding.rs`.

use std::{collections::BTreeSet, time::Duration};

use testkit::cluster::{Cluster, Node, Stop};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    history::History,
    schedule::resharding::{Event, Step},
};

/// The outbox of a partition has the first of so many slots.
const SLOTS_OF_AN_OUTBOX: u16 = 256;
/// How often mending is tried, and the pause between: a primary may be away.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(300);
/// How long a replica may take to get what its primary writes, in milliseconds.
const WAIT_MS: &str = "50";

/// Takes all steps, each when the one before it is done. `nodes` is locked while a node is broken: nobody then has a
/// replica take the place of its primary.
pub(crate) async fn run(events: Vec<Event>, started: Instant, cluster: &Cluster, nodes: &Mutex<()>, history: &History) {
    let mut operator = Operator { cluster, nodes, history, left_open: BTreeSet::new() };
    for Event { at, step } in events {
        sleep_until(started + at).await;
        operator.take(step).await;
    }
}

/// Returns a replica of a primary that has all of its data, and gets what is new. After the first copy, a primary keeps
/// that back until the replica has told how far it is.
pub(crate) async fn replica_in_step<'a>(cluster: &'a Cluster, primary: &Node) -> Option<&'a Node> {
    for replica in cluster.replicas_of(primary).await {
        if !replica.is_in_step().await {
            continue;
        }
        let before = number(&replication(primary).await?, "master_repl_offset:")?;
        // There are not as many replicas: the primary sends all of them a question, and waits for the answers.
        primary.command(&["WAIT", "9", WAIT_MS]).await.ok()?;
        if number(&replication(replica).await?, "slave_repl_offset:")? > before {
            return Some(replica);
        }
    }
    None
}

async fn replication(node: &Node) -> Option<String> {
    node.command(&["INFO", "replication"]).await.ok()?.into_string()
}

/// Returns a number of `INFO` by its name.
fn number(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

struct Operator<'a> {
    cluster: &'a Cluster,
    nodes: &'a Mutex<()>,
    history: &'a History,
    /// Slots that were left half moved, and are not moved before they are mended.
    left_open: BTreeSet<u16>,
}

impl Operator<'_> {
    async fn take(&mut self, step: Step) {
        match step {
            Step::Move { slot, to } => self.move_slot(step, slot, to, Stop::Never).await,
            Step::HalfMove { slot, to, keys } => self.move_slot(step, slot, to, Stop::AfterKeys(keys)).await,
            Step::FailOver { slot } => self.fail_over(step, slot).await,
            Step::Mend => self.mend(step).await,
        }
    }

    async fn move_slot(&mut self, step: Step, slot: u16, to: usize, stop: Stop) {
        if self.left_open.contains(&slot) {
            return;
        }
        let Some(owner) = self.cluster.owner_of(slot).await else { return };
        let primaries = self.cluster.primaries().await;
        let others: Vec<&Node> = primaries.into_iter().filter(|node| node.id() != owner.id()).collect();
        let Some(to) = others.get(to % others.len().max(1)) else { return };
        let moved = self.cluster.try_move_slot(slot, to, stop).await;
        let (from, to) = (owner.address(), to.address());
        match moved {
            Ok(keys) if stop == Stop::Never => {
                self.history.say(format_args!("{step} from {from} to {to}, with {keys} keys"));
                self.history.injected("slot moved");
                if slot.is_multiple_of(SLOTS_OF_AN_OUTBOX) {
                    self.history.injected("outbox moved");
                }
            }
            Ok(keys) => {
                self.history.say(format_args!("{step} from {from} to {to}, of which {keys} have moved"));
                self.history.injected("mover killed");
                self.left_open.insert(slot);
            }
            Err(error) => {
                self.history.say(format_args!("{step} from {from} to {to}, and stops: {error}"));
                self.history.injected("move cut short");
                self.left_open.insert(slot);
            }
        }
    }

    async fn fail_over(&self, step: Step, slot: u16) {
        let Ok(_turn) = self.nodes.try_lock() else { return };
        let Some(primary) = self.cluster.owner_of(slot).await else { return };
        let Some(replica) = replica_in_step(self.cluster, primary).await else { return };
        self.history.say(format_args!("{step}: {} that of {}", replica.address(), primary.address()));
        self.cluster.fail_over(replica).await;
        self.history.injected("failover by hand");
    }

    async fn mend(&mut self, step: Step) {
        for _ in 0..ATTEMPTS {
            match self.cluster.try_mend().await {
                Ok(slots) if slots.is_empty() => {
                    self.left_open.clear();
                    match self.cluster.try_reunite().await {
                        Ok(0) => return,
                        Ok(number) => {
                            self.history.say(format_args!("{number} primaries become replicas of who has replaced them"));
                        }
                        Err(error) => self.history.say(format_args!("a primary that was replaced does not yet follow: {error}")),
                    }
                }
                Ok(slots) => {
                    self.history.say(format_args!("{step}: slots {slots:?}"));
                    self.history.injected("cluster mended");
                }
                Err(error) => {
                    self.history.say(format_args!("{step}, and is not yet: {error}"));
                    sleep(PAUSE).await;
                }
            }
        }
    }
}
