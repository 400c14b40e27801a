//! The loop of the daemon: drains, and runs a cycle at once, at every interval, and whenever somebody asks for one.

use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use views_service::notify;

use super::{
    leases::Leases,
    schedule::{LONGEST_POLL, next_cycle},
    scope::Scope,
    synchronizer::Synchronizer,
    triggers::{self, Trigger, TriggerReceiver},
};

/// Works until the stop. A standby only does what it is asked for.
pub(super) async fn until_stopped(
    synchronizer: &mut Synchronizer,
    triggers: &mut TriggerReceiver,
    leases: &mut Leases,
    stop: &CancellationToken,
    interval: Duration,
) {
    let mut cycle = Instant::now();
    // When the next one is due at the earliest where the last one has not seen everything.
    let mut retry = cycle;
    let mut has_worked = leases.works();
    loop {
        let mut asked: Vec<Trigger> = Vec::new();
        synchronizer.drains.follow();
        let works = leases.works();
        if works && !has_worked {
            // Who takes over begins where a start begins.
            cycle = Instant::now();
        }
        has_worked = works;
        tokio::select! {
            biased;
            () = stop.cancelled() => return synchronizer.drains.rest().await,
            Some(trigger) = triggers.recv() => asked.push(trigger),
            () = leases.changed() => continue,
            () = sleep(LONGEST_POLL), if !works => {
                leases.note_look(synchronizer.stand_by().await);
                continue;
            }
            () = sleep_until(cycle.into()), if works => {}
            // A step that is under way is brought to its end, whoever goes on from there.
            (partition, drained) = synchronizer.drains.next(), if works || synchronizer.drains.are_busy() => {
                if let Err(failure) = drained {
                    synchronizer.drains.tell(partition, &failure);
                } else if let Err(failure) = synchronizer.retry_dead_letters_when_due().await {
                    synchronizer.drains.tell(partition, &failure);
                } else if synchronizer.has_unseen && synchronizer.context.health.are_all_healthy() {
                    // What the last cycle could not see is there again.
                    synchronizer.has_unseen = false;
                    cycle = cycle.min(retry);
                }
                continue;
            }
        }
        triggers::take_waiting(triggers, &mut asked);
        // What somebody asks for is everything; what is due is what this process drains.
        let result = synchronizer.cycle_in(if asked.is_empty() { Scope::Own } else { Scope::All }).await;
        cycle = next_cycle(result.is_ok(), interval);
        retry = next_cycle(false, interval);
        if let Ok(synced) = result {
            notify::status(&format!("Sync completed: {} successful, {} errors", synced.successful, synced.errors));
            for reply in asked.into_iter().filter_map(|trigger| trigger.reply) {
                // Whoever does not wait any longer needs no answer.
                let _ = reply.send(synced);
            }
        }
    }
}
