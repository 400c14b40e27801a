//! The loop of the daemon: drains, and runs a cycle at once, at every interval, and whenever somebody asks for one.

use std::time::Duration;

use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use views_core::partition::Partition;
use views_service::notify;

use super::{
    leases::Leases,
    schedule::{LONGEST_POLL, Schedule},
    synchronizer::Synchronizer,
    triggers::{self, Trigger, TriggerReceiver},
};
use crate::drain::Urgency;

/// Works until the stop. A standby only does what it is asked for.
pub(super) async fn until_stopped(
    synchronizer: &mut Synchronizer,
    triggers: &mut TriggerReceiver,
    leases: &mut Leases,
    stop: &CancellationToken,
    interval: Duration,
) {
    let linger = synchronizer.context.settings.linger;
    let mut schedule = Schedule::starting_now();
    let mut in_use = None;
    loop {
        let mut asked: Vec<Trigger> = Vec::new();
        let works = leases.works();
        in_use = if works { in_use.or_else(|| leases.use_of(Partition::WHOLE)) } else { None };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(trigger) = triggers.recv() => asked.push(trigger),
            () = leases.changed() => {
                // Who takes over begins where a start begins; who steps down forgets what was read.
                schedule = Schedule::starting_now();
                continue;
            }
            () = sleep(LONGEST_POLL), if !works => {
                leases.note_look(synchronizer.stand_by().await);
                continue;
            }
            () = sleep_until(schedule.cycle.into()), if works => {}
            () = sleep_until(schedule.drain.into()), if works => {
                synchronizer.set_drains(true);
                let drained = synchronizer.drain(Urgency::Patient).await;
                leases.note_step(Partition::WHOLE, drained.as_ref().err());
                schedule.after_drain(&drained, linger);
                continue;
            }
        }
        triggers::take_waiting(triggers, &mut asked);
        synchronizer.set_drains(works);
        let result = synchronizer.cycle().await;
        schedule.after_cycle(result.is_ok(), interval);
        if let Ok(synced) = result {
            notify::status(&format!("Sync completed: {} successful, {} errors", synced.successful, synced.errors));
            for reply in asked.into_iter().filter_map(|trigger| trigger.reply) {
                // Whoever does not wait any longer needs no answer.
                let _ = reply.send(synced);
            }
        }
    }
}
