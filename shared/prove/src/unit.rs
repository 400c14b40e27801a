//! A program under test, started again whenever it ends, as systemd would.

use std::{
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use testkit::process::Daemon;

use crate::{
    history::History,
    schedule::{Program, failpoint::failpoint},
};

/// The pause before a program that has ended by itself is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// No run is as long.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);
/// What a program says before it dies at a failpoint.
const FAILPOINT_LINE: &str = "failpoint ";
/// The exit status of a program that finds at its start that a store is not as it needs it.
const EXIT_CONFIG: i32 = 78;
/// The number of the signal that asks for an end.
const SIGTERM: i32 = 15;
/// The exit status of a program that was told twice to stop.
const EXIT_AT_ONCE: i32 = 143;
/// What stands in no log, with the word for it: panics, and commands with keys of several slots of a cluster.
const NEVER: [(&str, &str); 2] = [("PANIC", "panicked at"), ("CROSSSLOT", "CROSSSLOT")];
/// What it says where the application hides rows.
const POLICY_LINE: &str = "row level security hides rows";

/// How a program is started.
pub(crate) struct Recipe {
    pub(crate) binary: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) seed: u64,
    /// The mistake that the program is to make.
    pub(crate) mistake: Option<String>,
}

/// One program under test.
pub(crate) struct Unit {
    program: Program,
    recipe: Recipe,
    history: Arc<History>,
    running: Mutex<Running>,
    /// Whether failpoints are set at a start.
    calm: AtomicBool,
}

#[derive(Default)]
struct Running {
    daemon: Option<Arc<Daemon>>,
    /// What was last asked of the process, which explains its end.
    wanted: Option<Wanted>,
}

#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Kill(Duration),
    Restart,
    End,
}

impl Unit {
    pub(crate) fn new(program: Program, recipe: Recipe, history: Arc<History>) -> Arc<Self> {
        Arc::new(Self { program, recipe, history, running: Mutex::default(), calm: AtomicBool::new(false) })
    }

    /// Runs until [`Self::end`].
    pub(crate) async fn supervise(self: Arc<Self>) {
        for start in 0.. {
            let daemon = Arc::new(self.start(start));
            self.with(|running| running.daemon = Some(Arc::clone(&daemon)));
            let exit = daemon.wait_exit_within(FOR_EVER).await;
            let wanted = self.with(|running| {
                running.daemon = None;
                running.wanted.take()
            });
            let output = daemon.output();
            let log = format!("=== start {start}\n{}\n=== {exit}\n", output.join("\n"));
            self.history.append(&format!("{}.log", self.program), &log);
            self.look_at(&output);
            if wanted == Some(Wanted::End) {
                if !exit.success() {
                    self.history.violation(format!("EXIT: {} was asked to end in peace: {exit}", self.program));
                }
                return;
            }
            tokio::time::sleep(self.judge(wanted, exit, &output)).await;
        }
    }

    /// Tells whether an end was wanted, and how long to wait before the next start.
    fn judge(&self, wanted: Option<Wanted>, exit: ExitStatus, output: &[String]) -> Duration {
        let died_at = output.iter().find(|line| line.starts_with(FAILPOINT_LINE));
        if let Some(line) = died_at {
            let point = line.trim_start_matches(FAILPOINT_LINE).rsplit_once(": ").map_or(line.as_str(), |(point, _)| point);
            self.history.injected("failpoint crash");
            self.history.say(format_args!("{} died at {point}", self.program));
        }
        match wanted {
            Some(Wanted::Kill(down)) => down,
            // A final flush without the stores says that it failed, and is right.
            Some(Wanted::Restart) if exit.code().is_some_and(|code| code <= 1 || code == EXIT_AT_ONCE) => Duration::ZERO,
            // On a busy machine the signal may come before the program listens for signals.
            Some(Wanted::Restart) if exit.signal() == Some(SIGTERM) && output.is_empty() => Duration::ZERO,
            _ if died_at.is_some() => RESTART_PAUSE,
            // As it must: an operator would start it again when the policy is gone.
            _ if exit.code() == Some(EXIT_CONFIG)
                && self.history.had_policy()
                && output.iter().any(|line| line.contains(POLICY_LINE)) =>
            {
                self.history.say(format_args!("{} does not start while rows are hidden from it", self.program));
                RESTART_PAUSE
            }
            _ => {
                let signal = exit.signal();
                self.history.violation(format!("EXIT: {} ended by itself: {exit} (signal {signal:?})", self.program));
                RESTART_PAUSE
            }
        }
    }

    fn start(&self, start: u64) -> Daemon {
        let mut builder = Daemon::builder(&self.recipe.binary);
        for (name, value) in &self.recipe.environment {
            builder = builder.env(name, value);
        }
        let point = failpoint(self.recipe.seed, self.program, start, self.recipe.mistake.as_deref());
        let point = point.filter(|_| !self.calm.load(Relaxed));
        if let Some((point, hit)) = point {
            self.history.say(format_args!("{} starts; it dies at hit {hit} of {point}", self.program));
            builder = builder.env("FAILPOINTS", format!("{point}={}*off->return", hit - 1));
        } else {
            self.history.say(format_args!("{} starts", self.program));
        }
        builder.start()
    }

    /// SIGKILL, and a new start after `down`.
    pub(crate) fn kill(&self, down: Duration) {
        self.ask(Wanted::Kill(down), "KILL");
    }

    /// SIGTERM, and a new start.
    pub(crate) fn restart(&self) {
        self.ask(Wanted::Restart, "TERM");
    }

    /// SIGSTOP. Gives the process, which is to go on later.
    pub(crate) fn pause(&self) -> Option<u32> {
        let pid = self.with(|running| running.daemon.as_ref().map(|daemon| daemon.pid()))?;
        signal(pid, "STOP");
        Some(pid)
    }

    /// SIGCONT, unless another process has taken the place of the one that was paused.
    pub(crate) fn resume(&self, pid: u32) {
        if self.with(|running| running.daemon.as_ref().is_some_and(|daemon| daemon.pid() == pid)) {
            signal(pid, "CONT");
        }
    }

    /// No failpoint any more from the next start on.
    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Relaxed);
    }

    /// SIGTERM, and no new start.
    pub(crate) fn end(&self) {
        self.ask(Wanted::End, "TERM");
    }

    /// The whole output of the running process, for the folder that is kept.
    pub(crate) fn save_output(&self) {
        if let Some(daemon) = self.with(|running| running.daemon.clone()) {
            self.history.append(&format!("{}.log", self.program), &format!("=== running\n{}\n", daemon.output().join("\n")));
        }
    }

    /// Looks for what must never be in a log.
    fn look_at(&self, output: &[String]) {
        for (word, mark) in NEVER {
            for line in output.iter().filter(|line| line.contains(mark)) {
                self.history.violation(format!("{word}: {}: {line}", self.program));
            }
        }
    }

    fn ask(&self, wanted: Wanted, name: &str) {
        self.with(|running| {
            // A process that has died this moment is started again anyway.
            let Some(daemon) = running.daemon.as_ref().filter(|daemon| daemon.is_running()) else { return };
            running.wanted = Some(wanted);
            signal(daemon.pid(), name);
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Running) -> T) -> T {
        work(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends a signal. That the process has ended meanwhile is no error here.
fn signal(pid: u32, name: &str) {
    let _ = Command::new("sh").args(["-c", r#"kill -s "$0" "$1" 2>/dev/null"#, name, &pid.to_string()]).status();
}
