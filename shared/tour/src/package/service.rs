//! A service that is started here as systemd would: its program, its user, its settings, its socket.

use std::net::TcpListener;

use testkit::process::Daemon;

use super::system::System;
use super::unit::Unit;
use crate::shell::Environment;

/// A service of the package.
pub(super) struct Service {
    program: String,
    user: String,
    environment: Environment,
}

impl Service {
    /// Returns a service as its unit and its settings are now.
    pub(super) fn of(system: &System, name: &str) -> Self {
        let unit = Unit::of(system, &format!("{name}.service"));
        Self {
            program: unit.value("ExecStart").to_owned(),
            user: unit.value("User").to_owned(),
            environment: unit.environment(system),
        }
    }

    /// Starts it, with a listening socket if it has one.
    pub(super) fn start(&self, system: &System, socket: Option<&TcpListener>) -> Daemon {
        let builder = system.daemon(&self.user, &self.program);
        let builder = self.environment.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        match socket {
            Some(socket) => builder.socket(socket).start(),
            None => builder.start(),
        }
    }

    /// Returns the path of its program.
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// Returns the name of its user.
    pub(super) fn user(&self) -> &str {
        &self.user
    }
}
