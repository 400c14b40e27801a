//! A pipeline that is divided among the nodes of a cluster: one write to each of them, side by side. A command that a
//! node sends elsewhere is sent there alone; whole pipelines are not sent again, for nobody knows what of them was
//! carried out.
//!
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#redirection-and-resharding>

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    NodeId,
    node_pipeline::NodePipeline,
    route::{self, Routed},
    silence::is_silence,
    slot_map::{self, SlotMap},
    topology::Topology,
};
use crate::{
    Code, RedisError, ServerError,
    breaker::Breaker,
    resp::{Commands, Replies, Reply},
};

/// How often a command follows redirections. A slot that moves once takes two of them.
const REDIRECTIONS: usize = 8;
/// How long it is waited before a command is sent again of which only some keys have moved.
const TRY_AGAIN_PAUSE: Duration = Duration::from_millis(10);

/// Connections to the nodes of a cluster, one to each that was needed, and pipelines over them.
pub(crate) struct ClusterSession {
    topology: Arc<Topology>,
    /// By the places of the nodes.
    nodes: Vec<NodePipeline>,
    routed: Vec<Routed>,
    /// By whom each command of the last pipeline was answered.
    answered: Vec<Option<Answered>>,
    /// The number of the connection over which the last command of a pipeline was answered.
    pub(crate) number: u64,
    /// How many connections there have been.
    opened: u64,
}

/// By whom a command was answered: over which connection, and who had its slot then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    pub(crate) number: u64,
    pub(crate) slot: Option<u16>,
    pub(crate) owner: Option<NodeId>,
}

/// A command that is yet to be answered.
#[derive(Clone, Copy)]
struct Waiting {
    place: usize,
    /// The node that has its key for now, where the slot's owner says so.
    ask: Option<NodeId>,
}

/// What became of the commands of a round.
#[derive(Default)]
struct Round {
    waiting: Vec<Waiting>,
    /// Whether some of them wait for the rest of their keys.
    has_try_again: bool,
    /// Whether a command has its reply.
    is_answered: bool,
    failure: Option<RedisError>,
}

impl ClusterSession {
    pub(crate) fn new(topology: Arc<Topology>) -> Self {
        Self { topology, nodes: Vec::new(), routed: Vec::new(), answered: Vec::new(), number: 0, opened: 0 }
    }

    /// Sends each command to the node that has its key, and waits for all replies.
    ///
    /// # Errors
    /// [`RedisError`], where no command has a reply of its own. Otherwise those of nodes that are away have an error
    /// reply, [`Code::Away`].
    pub(crate) async fn exchange(
        &mut self,
        commands: &Commands,
        replies: &mut Replies,
        timeout: Duration,
        breaker: Option<&Arc<dyn Breaker>>,
    ) -> Result<(), RedisError> {
        let deadline = Instant::now() + timeout;
        route::read(commands.bytes(), &mut self.routed);
        replies.prepare(self.routed.len());
        self.answered.clear();
        self.answered.resize(self.routed.len(), None);
        self.number = 0;
        let mut waiting: Vec<Waiting> = (0..self.routed.len()).map(|place| Waiting { place, ask: None }).collect();
        let (mut is_answered, mut failure) = (false, None);
        for redirections in 0.. {
            let round = self.round(&waiting, commands, replies, deadline, breaker).await;
            is_answered |= round.is_answered;
            failure = failure.or(round.failure);
            waiting = round.waiting;
            let pause = if round.has_try_again { TRY_AGAIN_PAUSE } else { Duration::ZERO };
            if waiting.is_empty() || redirections >= REDIRECTIONS || Instant::now() + pause >= deadline {
                break;
            }
            if round.has_try_again {
                sleep(pause).await;
            }
        }
        // Where two nodes send a command to each other, neither has it.
        for Waiting { place, .. } in waiting {
            let said = replies.get(place).and_then(Reply::error).map(|error| error.text.to_owned());
            let text = format!("{} {}", ServerError::AWAY, said.unwrap_or_default());
            replies.put_error(place, &text);
            failure.get_or_insert(RedisError::Server { code: Code::Away, text });
        }
        match failure {
            Some(error) if !is_answered => Err(error),
            _ => Ok(()),
        }
    }

    /// Sends the commands that wait, each to the node that should have its key.
    async fn round(
        &mut self,
        waiting: &[Waiting],
        commands: &Commands,
        replies: &mut Replies,
        deadline: Instant,
        breaker: Option<&Arc<dyn Breaker>>,
    ) -> Round {
        let mut round = Round::default();
        let slots = self.topology.slots();
        self.nodes.iter_mut().for_each(NodePipeline::clear);
        // Whoever has circuit breakers of its own asks these alone.
        let topology = breaker.is_none().then(|| Arc::clone(&self.topology));
        let is_closed = |node| {
            breaker.is_none_or(|breaker| breaker.is_closed(node)) && topology.as_ref().is_none_or(|known| !known.silent.has(node))
        };
        let mut anywhere = None;
        for Waiting { place, ask } in waiting {
            let Routed { slot, bytes } = self.routed[*place].clone();
            let node = match slot {
                Some(slot) => ask.or_else(|| slots.owner(slot)),
                None => *anywhere.get_or_insert_with(|| self.any_node(&slots, is_closed)),
            };
            match node {
                Some(node) if is_closed(node) => self.pipeline(node).add(*place, &commands.bytes()[bytes], ask.is_some()),
                node => {
                    let error = match (node, breaker) {
                        (None, _) => RedisError::NotConnected,
                        (Some(_), None) => RedisError::Timeout,
                        (Some(_), Some(_)) => RedisError::BreakerOpen,
                    };
                    replies.put_error(*place, &self.away(node, &error));
                    round.failure.get_or_insert(error);
                }
            }
        }
        self.run(deadline).await;
        let last = self.routed.len().saturating_sub(1);
        for place in 0..self.nodes.len() {
            let Some(node) = NodeId::at(place).filter(|_| !self.nodes[place].commands.is_empty()) else { continue };
            match self.nodes[place].result.take() {
                Some(Err(error)) => self.take_failure(node, error, replies, breaker, &mut round),
                _ => self.take_replies(node, last, replies, &mut round),
            }
        }
        round
    }

    /// Sends what each node is to be sent, side by side.
    async fn run(&mut self, deadline: Instant) {
        let topology = &self.topology;
        let mut busy: Vec<(NodeId, &mut NodePipeline)> = self
            .nodes
            .iter_mut()
            .enumerate()
            .filter(|(_, pipeline)| !pipeline.commands.is_empty())
            .filter_map(|(place, pipeline)| Some((NodeId::at(place)?, pipeline)))
            .collect();
        let first_number = self.opened + 1;
        self.opened += busy.len() as u64;
        if let [(node, pipeline)] = &mut *busy {
            return pipeline.run(*node, topology, first_number, deadline).await;
        }
        let numbered = (first_number..).zip(busy);
        join_all(numbered.map(|(number, (node, pipeline))| pipeline.run(node, topology, number, deadline))).await;
    }

    /// Gives all commands of a node that is away their reply.
    fn take_failure(
        &mut self,
        node: NodeId,
        error: RedisError,
        replies: &mut Replies,
        breaker: Option<&Arc<dyn Breaker>>,
        round: &mut Round,
    ) {
        let text = self.away(Some(node), &error);
        for (place, _) in &self.nodes[node.place()].commands {
            replies.put_error(*place, &text);
        }
        self.topology.refresh_soon();
        match breaker {
            Some(breaker) => Arc::clone(breaker).failed(node, &error),
            None => self.note_silence(node, &error),
        }
        round.failure.get_or_insert(error);
    }

    fn note_silence(&self, node: NodeId, error: &RedisError) {
        if is_silence(error) {
            self.topology.note_silent(node);
        }
    }

    /// Hands the replies of a node on, and notes which commands are to go elsewhere.
    fn take_replies(&mut self, node: NodeId, last: usize, replies: &mut Replies, round: &mut Round) {
        let Self { nodes, topology, routed, answered, number, .. } = self;
        let pipeline = &mut nodes[node.place()];
        let asked = topology.server(node);
        let open_number = pipeline.open_number().unwrap_or_default();
        let mut at = 0;
        for (place, is_asking) in &pipeline.commands {
            at += usize::from(*is_asking);
            let next = match (pipeline.replies.get(at).and_then(Reply::error), routed[*place].slot, &asked) {
                (Some(error), Some(slot), Some(asked)) => {
                    let server = || slot_map::address(error.text.split(' ').nth(2)?, asked);
                    match error.code {
                        Code::Moved => server().and_then(|server| topology.moved(slot, &server)).map(|_| None),
                        Code::Ask => server().and_then(|server| topology.node(&server)).map(Some),
                        Code::TryAgain => {
                            round.has_try_again = true;
                            Some(is_asking.then_some(node))
                        }
                        Code::ClusterDown | Code::NoReplicas => {
                            topology.refresh_soon();
                            None
                        }
                        _ => None,
                    }
                }
                _ => None,
            };
            match next {
                Some(ask) => round.waiting.push(Waiting { place: *place, ask }),
                None => {
                    round.is_answered = true;
                    answered[*place] = Some(Answered { number: open_number, slot: routed[*place].slot, owner: None });
                }
            }
            if *place == last {
                *number = open_number;
            }
            at += 1;
        }
        let slots = topology.slots();
        for (place, _) in &pipeline.commands {
            if let Some(Answered { slot: Some(slot), owner, .. }) = &mut answered[*place] {
                *owner = slots.owner(*slot);
            }
        }
        let places = pipeline.commands.iter().map(|(place, is_asking)| (*place, *is_asking));
        replies.take_from(&mut pipeline.replies, places);
        round.waiting.sort_unstable_by_key(|waiting| waiting.place);
    }

    /// Returns the text of the reply that the commands of a node have which is away.
    fn away(&self, node: Option<NodeId>, error: &RedisError) -> String {
        let server = node.and_then(|node| self.topology.server(node));
        let server = server.map_or_else(|| "no node has the slot".to_owned(), |server| server.to_string());
        format!("{} {server}: {}", ServerError::AWAY, crate::in_words(&error.to_string()))
    }

    /// Returns the node that commands without a key are sent to: one that is connected, if there is one.
    fn any_node(&mut self, slots: &SlotMap, is_closed: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let mut primaries = slots.primaries();
        primaries.retain(|node| is_closed(*node));
        let connected = primaries.iter().find(|node| self.pipeline(**node).open_number().is_some());
        connected.or(primaries.first()).copied()
    }

    fn pipeline(&mut self, node: NodeId) -> &mut NodePipeline {
        if self.nodes.len() <= node.place() {
            self.nodes.resize_with(node.place() + 1, NodePipeline::default);
        }
        &mut self.nodes[node.place()]
    }

    /// Returns by whom a command of the last pipeline was answered, by its place; none where it was not.
    pub(crate) fn answered(&self, place: usize) -> Option<Answered> {
        self.answered.get(place).copied().flatten()
    }

    /// Returns whether whoever has answered a command would be asked again, over the same connection.
    pub(crate) fn would_answer(&mut self, answered: &Answered) -> bool {
        let slots = self.topology.slots();
        self.has(answered.number) && answered.slot.is_none_or(|slot| slots.owner(slot) == answered.owner)
    }

    /// Returns the number of the connection that was opened last, to whichever node.
    pub(crate) fn newest(&self) -> u64 {
        self.nodes.iter().map(NodePipeline::last_number).max().unwrap_or_default()
    }

    /// Returns whether the connection of that number is open, as far as is known.
    pub(crate) fn has(&mut self, number: u64) -> bool {
        self.node_of(number).is_some()
    }

    fn node_of(&mut self, number: u64) -> Option<NodeId> {
        let place = self.nodes.iter_mut().position(|pipeline| pipeline.open_number() == Some(number))?;
        NodeId::at(place)
    }

    /// Sends all commands over the connection of that number, whatever slots they are about; a slot that its node does
    /// not own is asked for.
    ///
    /// # Errors
    /// [`RedisError::OtherConnection`], also where the node has sent a command elsewhere.
    pub(crate) async fn exchange_on(
        &mut self,
        number: u64,
        commands: &Commands,
        replies: &mut Replies,
        timeout: Duration,
    ) -> Result<(), RedisError> {
        let node = self.node_of(number).ok_or(RedisError::OtherConnection)?;
        if self.topology.silent.has(node) {
            return Err(RedisError::Timeout);
        }
        let slots = self.topology.slots();
        let is_asking = |slot: Option<u16>| slot.is_some_and(|slot| slots.owner(slot) != Some(node));
        self.exchange_with(node, commands, replies, timeout, is_asking).await?;
        let is_elsewhere = |reply: Reply<'_>| reply.error().is_some_and(|error| matches!(error.code, Code::Moved | Code::Ask));
        if replies.iter().any(is_elsewhere) { Err(RedisError::OtherConnection) } else { Ok(()) }
    }

    /// Sends all commands to one node. Those about slots that it does not own are asked for, where that is wanted.
    ///
    /// # Errors
    /// [`RedisError`], at once where the node has not answered in time before and does not answer yet.
    pub(crate) async fn exchange_at(
        &mut self,
        node: NodeId,
        is_asking: bool,
        commands: &Commands,
        replies: &mut Replies,
        timeout: Duration,
    ) -> Result<(), RedisError> {
        if self.topology.silent.has(node) {
            return Err(RedisError::Timeout);
        }
        self.exchange_with(node, commands, replies, timeout, |slot| is_asking && slot.is_some()).await
    }

    async fn exchange_with(
        &mut self,
        node: NodeId,
        commands: &Commands,
        replies: &mut Replies,
        timeout: Duration,
        is_asking: impl Fn(Option<u16>) -> bool,
    ) -> Result<(), RedisError> {
        route::read(commands.bytes(), &mut self.routed);
        self.nodes.iter_mut().for_each(NodePipeline::clear);
        replies.prepare(self.routed.len());
        for place in 0..self.routed.len() {
            let Routed { slot, bytes } = self.routed[place].clone();
            self.pipeline(node).add(place, &commands.bytes()[bytes], is_asking(slot));
        }
        self.run(Instant::now() + timeout).await;
        let pipeline = self.pipeline(node);
        if let Some(Err(error)) = pipeline.result.take() {
            self.topology.refresh_soon();
            self.note_silence(node, &error);
            return Err(error);
        }
        let number = pipeline.open_number();
        let places: Vec<(usize, bool)> = pipeline.commands.clone();
        replies.take_from(&mut pipeline.replies, places.into_iter());
        self.number = number.unwrap_or_default();
        Ok(())
    }
}
