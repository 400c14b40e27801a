//! Messages to systemd (`Type=notify`, `WatchdogSec=`). Without systemd, all of them do nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The service is up.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// The service is going down.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The loop that does the work is alive. Called by that very loop, so that a loop that hangs is noticed.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// A line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// Asks for this much more time before a start or stop counts as failed.
pub fn extend_timeout(by: Duration) {
    send(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
}

/// Returns how often [`alive`] must be called: half the time after which systemd would kill the service. `None` where
/// it does not watch.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}
