//! Tells systemd's watchdog that the work goes on, and falls silent when it does not.

use std::{pin::pin, time::Duration};

use views_core::ticks;
use views_service::notify;

use crate::context::progress::Progress;

/// No single step takes longer: a statement may wait for a connection and then run into its own time limit, a command
/// in Redis has a far shorter one.
const LONGEST_STEP: Duration = Duration::from_secs(120);

/// Does the work and, in the same task, keeps the watchdog content as long as the work makes progress.
///
/// A statement may well take longer than the watchdog's interval; a task that hangs, or one step that never ends, is
/// what it is to notice.
pub(crate) async fn while_working<T>(progress: &Progress, work: impl Future<Output = T>) -> T {
    let Some(interval) = notify::watchdog_interval() else { return work.await };
    let mut tick = ticks::every(interval);
    let mut work = pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = tick.tick() => {
                if progress.age() < LONGEST_STEP {
                    notify::alive();
                }
            }
        }
    }
}
