//! Requests to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a shell adds to the number of the signal that has ended a program.
const SIGNALLED: u8 = 128;

/// The signals that end a run. A second one has no effect, so that nothing is left behind.
pub(crate) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Panics
    /// When the system refuses the handlers.
    pub(crate) fn listen() -> Self {
        let listen = |kind| signal(kind).expect("the system lets a program handle signals");
        Self {
            hangup: listen(SignalKind::hangup()),
            interrupt: listen(SignalKind::interrupt()),
            terminate: listen(SignalKind::terminate()),
        }
    }

    /// Waits for a request to stop, and returns the exit status that tells of it.
    pub(crate) async fn stop(&mut self) -> u8 {
        let kind = tokio::select! {
            _ = self.hangup.recv() => SignalKind::hangup(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        SIGNALLED + u8::try_from(kind.as_raw_value()).unwrap_or_default()
    }
}
