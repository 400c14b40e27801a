//! Signals: SIGHUP as an order to the running work, SIGTERM and SIGINT as a request to stop, and a second one of those
//! as an end at once.

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use tokio::sync::mpsc;

/// What an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP.
    Hangup,
    /// SIGTERM or SIGINT, the first of them.
    Stop,
}

/// Begins to listen. A second request to stop ends the process from the listening thread itself, so it works even when
/// nothing else does.
///
/// # Errors
/// When the system refuses the handlers.
pub fn listen() -> std::io::Result<mpsc::UnboundedReceiver<Signal>> {
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT])?;
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => {
                    let _ = sender.send(Signal::Hangup);
                }
                number if stopping => {
                    tracing::warn!("second signal to stop: ending at once");
                    std::process::exit(128 + number);
                }
                _ => {
                    stopping = true;
                    let _ = sender.send(Signal::Stop);
                }
            }
        }
    })?;
    Ok(receiver)
}
