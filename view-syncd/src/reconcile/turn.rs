//! The turn of everything else, between two steps of the reconciler.

use super::{drains::Drains, reconciler::Reconciler, retry_dead_letters};
use crate::error::Failure;

/// Gives the drains their turn where they have waited for one, and retries dead letters where that is due. Returns
/// whether anything was done.
pub(crate) async fn give(reconciler: &mut Reconciler, drains: &mut impl Drains) -> Result<bool, Failure> {
    let was_taken = drains.take_turn().await?;
    let is_due = reconciler.shared.dead_letter_timer.is_due();
    if is_due {
        retry_dead_letters::retry(reconciler).await?;
    }
    Ok(was_taken || is_due)
}
