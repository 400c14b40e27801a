//! Primaries that were replaced, and stay primaries nevertheless: a slot came to them just before they died, which nobody
//! had told their replicas.

use super::{Cluster, Member, Stop};

impl Cluster {
    /// Has each primary that another node of its shard has replaced give its slots to that one and become its replica.
    /// Returns how many there were.
    ///
    /// # Errors
    /// Who has refused what, or has not answered.
    pub async fn try_reunite(&self) -> Result<usize, String> {
        let members = self.members().await;
        let mut reunited = 0;
        for shard in 0..self.shards {
            let is_of_shard = |place: usize| place % self.shards == shard;
            let mut primaries: Vec<&(usize, Member)> =
                members.iter().filter(|(place, member)| is_of_shard(*place) && member.is_primary()).collect();
            primaries.sort_by_key(|(_, member)| member.slots.iter().map(ExactSizeIterator::len).sum::<usize>());
            let Some(((stays, _), replaced)) = primaries.split_last() else { continue };
            let stays = &self.nodes[*stays];
            for (place, member) in replaced {
                for slot in member.slots.iter().cloned().flatten() {
                    self.try_move_slot(slot, stays, Stop::Never).await?;
                }
                self.nodes[*place].command(&["CLUSTER", "REPLICATE", stays.id()]).await?;
                reunited += 1;
            }
        }
        Ok(reunited)
    }
}
