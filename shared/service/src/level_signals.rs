//! Signals by which an operator changes how much is logged while the process runs: SIGUSR1 asks for one step more,
//! SIGUSR2 for what is configured.

use signal_hook::{
    consts::{SIGUSR1, SIGUSR2},
    iterator::Signals,
};

use crate::telemetry;

/// Begins to take the two signals, which end a process that takes neither. To be called first of all: the settings may
/// take seconds to be read. Until logging starts, the signals do nothing.
pub fn follow() {
    let Ok(mut signals) = Signals::new([SIGUSR1, SIGUSR2]) else { return };
    // Without a thread they do nothing, which is no reason not to start.
    let _ = std::thread::Builder::new().name("log-level".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGUSR1 { telemetry::more() } else { telemetry::as_configured() }
        }
    });
}
