//! Slots that move from one primary to another, the way `redis-cli --cluster reshard` moves them, and those that were left
//! half moved.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use fred::types::Value;

use super::{Cluster, FAILOVER_DEADLINE, Member, Node, SLOTS, Way, owner_of};
use crate::{SOON, eventually, within};

/// How many keys go at once.
const KEYS_AT_ONCE: &str = "10";
/// How long the two nodes may take for them, in milliseconds.
const MIGRATE_TIMEOUT_MS: &str = "5000";
/// What the error of a node has when a key is at both nodes.
const AT_BOTH: &str = "BUSYKEY";

/// How far a slot is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Not before its end.
    Never,
    /// After the moves of so many keys, or of all of them: the slot stays open.
    AfterKeys(usize),
}

impl Cluster {
    /// Moves a slot with all its keys, and returns how many there were.
    ///
    /// # Panics
    /// When a node refuses anything.
    pub async fn move_slot(&self, slot: u16, to: &Node) -> usize {
        self.try_move_slot(slot, to, Stop::Never).await.unwrap_or_else(|error| panic!("moving slot {slot}: {error}"))
    }

    /// Begins to move a slot and leaves it open after so many keys, or all of them. Returns how many have moved.
    ///
    /// # Panics
    /// When a node refuses anything.
    pub async fn half_move_slot(&self, slot: u16, to: &Node, keys: usize) -> usize {
        let moved = self.try_move_slot(slot, to, Stop::AfterKeys(keys)).await;
        moved.unwrap_or_else(|error| panic!("half moving slot {slot}: {error}"))
    }

    /// Moves a slot to a primary that does not have it.
    ///
    /// # Errors
    /// Who has refused what, or has not answered: the slot may be open.
    pub async fn try_move_slot(&self, slot: u16, to: &Node, stop: Stop) -> Result<usize, String> {
        let owner = owner_of(&self.members().await, slot).ok_or("nobody has the slot")?;
        let from = &self.nodes[owner];
        if from.id == to.id {
            return Err("it is there".to_owned());
        }
        open(slot, from, to).await?;
        let mut moved = 0;
        loop {
            let Stop::AfterKeys(most) = stop else {
                moved += self.carry(slot, from, to, false).await?;
                break;
            };
            if moved >= most {
                return Ok(moved);
            }
            let Some(key) = some_keys(slot, from, "1").await?.pop() else { return Ok(moved) };
            migrate(from, to, &[&key], false).await?;
            moved += 1;
        }
        self.hand_over(slot, from, to).await?;
        Ok(moved)
    }

    /// Finishes every slot that was left half moved, until there is none. Returns how many there were. That is also one of
    /// which a primary has keys without knowing why, or that nobody has: a replica that takes its primary's place knows of no
    /// move. Primaries that were replaced become replicas (see [`Self::try_reunite`]).
    ///
    /// Where a key is at both nodes, the viewers and entries of both are kept, and otherwise what clients have been using.
    ///
    /// # Panics
    /// When it cannot be done in [`FAILOVER_DEADLINE`].
    pub async fn mend(&self) -> usize {
        let mended = Mutex::new(BTreeSet::new());
        let mended_with = |slots| {
            let mut mended = mended.lock().unwrap_or_else(PoisonError::into_inner);
            mended.extend::<BTreeSet<u16>>(slots);
            mended.len()
        };
        eventually("all slots are whole", FAILOVER_DEADLINE, || async {
            let slots = self.try_mend().await?;
            let is_done = slots.is_empty() && self.try_reunite().await? == 0;
            let number = mended_with(slots);
            if is_done { Ok(number) } else { Err(format!("{number} slots were mended so far")) }
        })
        .await
    }

    /// Does the same once. Returns the slots.
    ///
    /// # Errors
    /// Who has refused what, or has not answered.
    pub async fn try_mend(&self) -> Result<BTreeSet<u16>, String> {
        let members = self.members().await;
        let primaries: Vec<&(usize, Member)> = members.iter().filter(|(_, member)| member.is_primary()).collect();
        let mut slots: BTreeSet<u16> =
            primaries.iter().flat_map(|(_, member)| member.open.iter().map(|open| open.slot)).collect();
        let all: Vec<u16> = (0..SLOTS).collect();
        for (place, member) in &primaries {
            slots.extend(self.nodes[*place].strays(member, &all).await?);
        }
        slots.extend(self.assign_lost(&members).await?);
        for slot in &slots {
            self.mend_slot(*slot, &members).await.map_err(|error| format!("slot {slot}: {error}"))?;
        }
        Ok(slots)
    }

    /// Returns which of these slots have keys that no client is sent to: at a primary that does not have the slot, and that
    /// its owner does not name.
    ///
    /// # Errors
    /// Who has not answered.
    pub async fn hidden(&self, slots: &[u16]) -> Result<BTreeSet<u16>, String> {
        let members = self.members().await;
        let mut hidden = BTreeSet::new();
        for (place, member) in members.iter().filter(|(_, member)| member.is_primary()) {
            let node = &self.nodes[*place];
            for slot in node.strays(member, slots).await? {
                let owner = owner_of(&members, slot).map(|owner| self.nodes[owner].id());
                let (_, owner) =
                    members.iter().find(|(_, member)| Some(member.id.as_str()) == owner).ok_or("nobody has a slot")?;
                if !(owner.moves(slot, Way::Migrating, &member.id) && member.moves(slot, Way::Importing, &owner.id)) {
                    hidden.insert(slot);
                }
            }
        }
        Ok(hidden)
    }

    /// Has a primary take each slot that nobody has although all nodes are there, and returns the slots.
    async fn assign_lost(&self, members: &[(usize, Member)]) -> Result<Vec<u16>, String> {
        if members.len() < self.nodes.len() {
            return Ok(Vec::new());
        }
        let primaries = || members.iter().filter(|(_, member)| member.is_primary()).map(|(place, _)| &self.nodes[*place]);
        let lost: Vec<u16> = (0..SLOTS).filter(|slot| owner_of(members, *slot).is_none()).collect();
        for slot in &lost {
            let mut new = primaries().next().ok_or("there is no primary")?;
            for node in primaries() {
                if !some_keys(*slot, node, "1").await?.is_empty() {
                    new = node;
                }
            }
            for node in [new].into_iter().chain(primaries()) {
                node.command(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", new.id()]).await?;
            }
        }
        Ok(lost)
    }

    async fn mend_slot(&self, slot: u16, members: &[(usize, Member)]) -> Result<(), String> {
        // Who has taken it just now is found the next time.
        let Some(owner) = owner_of(members, slot) else { return Ok(()) };
        let mut others = Vec::new();
        for (place, member) in members.iter().filter(|(place, member)| *place != owner && member.is_primary()) {
            let node = &self.nodes[*place];
            let is_importing = member.open.iter().any(|open| open.slot == slot && open.way == Way::Importing);
            let has_keys = !some_keys(slot, node, "1").await?.is_empty();
            if is_importing || has_keys {
                others.push((has_keys, node));
            } else if member.open.iter().any(|open| open.slot == slot) {
                // It has lost the slot while it was away.
                stable(slot, node).await?;
            }
        }
        // Of several, those with keys come first, and the last one keeps the slot.
        others.sort_by_key(|(has_keys, _)| !has_keys);
        let mut from = &self.nodes[owner];
        if others.is_empty() {
            return stable(slot, from).await;
        }
        for (_, to) in others {
            // While a slot is coming, a node does not listen to who has it now, and takes nothing once it knows nobody.
            to.command(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", from.id()]).await?;
            open(slot, from, to).await?;
            self.carry(slot, from, to, true).await?;
            self.hand_over(slot, from, to).await?;
            from = to;
        }
        Ok(())
    }

    /// Moves all keys of an open slot and returns how many there were.
    async fn carry(&self, slot: u16, from: &Node, to: &Node, unites: bool) -> Result<usize, String> {
        let mut moved = 0;
        loop {
            let keys = some_keys(slot, from, KEYS_AT_ONCE).await?;
            if keys.is_empty() {
                return Ok(moved);
            }
            let all: Vec<&str> = keys.iter().map(String::as_str).collect();
            match migrate(from, to, &all, false).await {
                Err(error) if unites && error.contains(AT_BOTH) => {
                    for key in all {
                        unite(from, to, key).await?;
                        migrate(from, to, &[key], true).await?;
                    }
                }
                done => done?,
            }
            moved += keys.len();
        }
    }

    /// Makes a primary the owner of a slot whose keys it has: it has to know first.
    async fn hand_over(&self, slot: u16, from: &Node, to: &Node) -> Result<(), String> {
        // A replica that has taken the place of the old owner meanwhile knows of no move, and may have new keys.
        let members = from.members().await?;
        let is_leaving = |member: &&Member| member.is_myself && member.is_primary() && member.moves(slot, Way::Migrating, &to.id);
        let Some(old) = members.iter().find(is_leaving) else {
            return Err(format!("{} does not hand over the slot any more", from.address()));
        };
        // Another slot that has just come to the old owner has raised its epoch. As long as the new owner does not know, it
        // takes its own for the highest and keeps it. Then a claim of the old one that is still under way outweighs its own:
        // it gives the slot back, deletes the keys, and nobody has the slot.
        within(SOON, || async {
            let members = to.members().await?;
            let known = members.iter().find(|member| member.id == from.id).map(|member| member.epoch);
            if known >= Some(old.epoch) { Ok(()) } else { Err(format!("{} does not know the epoch of the owner", to.address())) }
        })
        .await?;
        let (number, id) = (slot.to_string(), to.id());
        let assign = ["CLUSTER", "SETSLOT", &number, "NODE", id];
        to.command(&assign).await?;
        for node in self.nodes.iter().filter(|node| node.id != to.id && node.server.is_running()) {
            // Replicas, and whoever is away, hear of it from the others.
            let told = node.command(&assign).await;
            if node.id == from.id {
                told?;
            }
        }
        Ok(())
    }
}

impl Node {
    /// Returns those slots of which the node has keys, although they are not its own.
    async fn strays(&self, member: &Member, among: &[u16]) -> Result<Vec<u16>, String> {
        let slots: Vec<u16> = among.iter().copied().filter(|slot| !member.has(*slot)).collect();
        let numbers: Vec<String> = slots.iter().map(u16::to_string).collect();
        let commands: Vec<[&str; 3]> = numbers.iter().map(|slot| ["CLUSTER", "COUNTKEYSINSLOT", slot]).collect();
        let commands: Vec<&[&str]> = commands.iter().map(|words| &words[..]).collect();
        let counts = self.pipeline(&commands).await?;
        let has_keys = |count: &Result<Value, String>| count.as_ref().is_ok_and(|count| count.as_i64().unwrap_or(0) > 0);
        Ok(slots.into_iter().zip(&counts).filter(|(_, count)| has_keys(count)).map(|(slot, _)| slot).collect())
    }
}

/// Tells both nodes that a slot moves, the one that it comes to first.
async fn open(slot: u16, from: &Node, to: &Node) -> Result<(), String> {
    let slot = slot.to_string();
    to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", from.id()]).await?;
    from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", to.id()]).await.map(drop)
}

async fn stable(slot: u16, node: &Node) -> Result<(), String> {
    node.command(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]).await.map(drop)
}

async fn some_keys(slot: u16, node: &Node, most: &str) -> Result<Vec<String>, String> {
    let keys = node.command(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), most]).await?;
    keys.convert().map_err(|error| error.to_string())
}

async fn migrate(from: &Node, to: &Node, keys: &[&str], replaces: bool) -> Result<(), String> {
    let port = to.announced.to_string();
    let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", MIGRATE_TIMEOUT_MS];
    if replaces {
        words.push("REPLACE");
    }
    if let Some(password) = &to.password {
        words.extend(["AUTH", password]);
    }
    words.push("KEYS");
    words.extend(keys);
    from.command(&words).await.map(drop)
}

/// Adds what the one node has of a set or a stream to what the other one has, which clients have been using. Entries get
/// new ids.
async fn unite(from: &Node, to: &Node, key: &str) -> Result<(), String> {
    let kind = to.ask(&["TYPE", key]).await?;
    let text = |error: fred::error::Error| error.to_string();
    match kind.as_str().as_deref() {
        Some("set") => {
            let members: Vec<String> = to.ask(&["SMEMBERS", key]).await?.convert().map_err(text)?;
            let words: Vec<&str> = ["SADD", key].into_iter().chain(members.iter().map(String::as_str)).collect();
            from.command(&words).await.map(drop)
        }
        Some("stream") => {
            for entry in to.ask(&["XRANGE", key, "-", "+"]).await?.into_array() {
                let fields: Vec<String> = entry.into_array().pop().unwrap_or(Value::Null).convert().map_err(text)?;
                let words: Vec<&str> = ["XADD", key, "*"].into_iter().chain(fields.iter().map(String::as_str)).collect();
                from.command(&words).await?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
