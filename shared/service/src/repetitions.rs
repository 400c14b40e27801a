//! Repeated warnings and errors: the first one is a line, the others are counted and told by a line now and then.
//!
//! An outage makes every batch fail, many times a second, and a client can have requests fail as often as it likes.
//! Whatever the place in the code, its lines come through here, so that no place needs a limit of its own.

use std::{
    collections::HashMap,
    fmt::{Debug, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tracing::{
    Event, Level, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};
use views_core::log_names;

/// What the lines about repetitions are named, which are no repetitions themselves.
const SUMMARY: &str = "summary";
/// How long after the first line the next one tells how often it was repeated; doubled with each further one,
const FIRST_WINDOW: Duration = Duration::from_secs(10);
/// up to this.
const LONGEST_WINDOW: Duration = Duration::from_secs(320);
/// How many lines of many that are alike are written before the rest are counted.
const EXAMPLES: u32 = 10;
/// How many messages of one place are told apart. What it says beyond that is counted together.
const MESSAGES_PER_PLACE: usize = 8;
/// How much of a message, and of its fields, a line about repetitions shows, in bytes.
const MAX_TEXT: usize = 400;

/// Counts what is repeated.
#[derive(Clone)]
pub(crate) struct Repetitions(Arc<Shared>);

#[derive(Default)]
struct Shared {
    places: Mutex<HashMap<Identifier, Vec<Message>>>,
    /// There is something to be told later.
    begun: Condvar,
}

/// A message of one place, from its first line until it has not been repeated for a window.
struct Message {
    text: String,
    level: Level,
    lines_left: u32,
    repeated: u64,
    /// The fields of the last repetition.
    fields: String,
    since: Instant,
    window: Duration,
}

/// What is told of a message.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    text: String,
    level: Level,
    repeated: u64,
    fields: String,
    window: Duration,
}

impl Repetitions {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Starts the thread that tells what was repeated. Without one, if the system has none to give, that is told at the
    /// end.
    pub(crate) fn tell_in_time(&self) {
        let shared = Arc::clone(&self.0);
        let _ = thread::Builder::new().name("repetitions".to_owned()).spawn(move || {
            loop {
                shared.wait();
                shared.take_due(Instant::now()).iter().for_each(Summary::log);
            }
        });
    }

    /// Tells all that has not been told yet: the process ends.
    pub(crate) fn tell_rest(&self) {
        self.0.take_rest(Instant::now()).iter().for_each(Summary::log);
    }
}

impl<S: Subscriber> Layer<S> for Repetitions {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let lines = match metadata.name() {
            log_names::STATE | SUMMARY => return true,
            log_names::EXAMPLE => EXAMPLES,
            // As levels go, what is less urgent is more.
            _ if *metadata.level() > Level::WARN => return true,
            _ => 1,
        };
        let mut text = Text::default();
        event.record(&mut text);
        self.0.admit(metadata.callsite(), *metadata.level(), text, lines, Instant::now())
    }
}

impl Shared {
    /// Returns whether a line is to be written, and counts it otherwise.
    fn admit(&self, place: Identifier, level: Level, text: Text, lines: u32, now: Instant) -> bool {
        let mut places = self.places();
        let messages = places.entry(place).or_default();
        let known = messages.iter().position(|message| message.text == text.message);
        if known.is_none() && messages.len() < MESSAGES_PER_PLACE {
            messages.push(Message {
                text: text.message,
                level,
                lines_left: lines - 1,
                repeated: 0,
                fields: String::new(),
                since: now,
                window: FIRST_WINDOW,
            });
            self.begun.notify_one();
            return true;
        }
        let Some(message) = messages.get_mut(known.unwrap_or(MESSAGES_PER_PLACE - 1)) else { return true };
        if message.lines_left > 0 {
            message.lines_left -= 1;
            return true;
        }
        message.repeated += 1;
        message.text = text.message;
        message.fields = text.fields;
        false
    }

    /// Returns what is to be told now. What was not repeated for a whole window is forgotten: when it happens again, it
    /// is news.
    fn take_due(&self, now: Instant) -> Vec<Summary> {
        let mut summaries = Vec::new();
        let mut places = self.places();
        places.retain(|_, messages| {
            messages.retain_mut(|message| {
                if now < message.due() {
                    return true;
                }
                summaries.extend(message.summarize(now));
                message.lines_left = 0;
                message.since = now;
                std::mem::take(&mut message.repeated) > 0
            });
            !messages.is_empty()
        });
        summaries
    }

    /// Returns all that has not been told.
    fn take_rest(&self, now: Instant) -> Vec<Summary> {
        let messages = self.places().drain().flat_map(|(_, messages)| messages).collect::<Vec<_>>();
        messages.into_iter().filter_map(|mut message| message.summarize(now)).collect()
    }

    /// Waits until something may have to be told.
    fn wait(&self) {
        let mut places = self.places();
        loop {
            let due = places.values().flatten().map(Message::due).min();
            let now = Instant::now();
            match due {
                Some(due) if due <= now => return,
                Some(due) => (places, _) = self.begun.wait_timeout(places, due - now).unwrap_or_else(PoisonError::into_inner),
                None => places = self.begun.wait(places).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Identifier, Vec<Message>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Message {
    fn due(&self) -> Instant {
        self.since + self.window
    }

    /// Returns what is to be told, if it was repeated, after which it is told less often.
    fn summarize(&mut self, now: Instant) -> Option<Summary> {
        let window = now.saturating_duration_since(self.since);
        self.window = (self.window * 2).min(LONGEST_WINDOW);
        (self.repeated > 0).then(|| Summary {
            text: self.text.clone(),
            level: self.level,
            repeated: self.repeated,
            fields: std::mem::take(&mut self.fields),
            window,
        })
    }
}

impl Summary {
    fn log(&self) {
        let Self { text, repeated, window, .. } = self;
        let last = Some(self.fields.as_str()).filter(|fields| !fields.is_empty());
        let seconds = window.as_secs().max(1);
        macro_rules! line {
            ($macro:ident) => {
                tracing::$macro!(name: SUMMARY, last, "{text}: repeated {repeated} times in the last {seconds} s")
            };
        }
        match self.level {
            Level::ERROR => line!(error),
            Level::WARN => line!(warn),
            _ => line!(info),
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            let space = if self.fields.is_empty() { "" } else { " " };
            write!(self.fields, "{space}{}={value:?}", field.name())
        };
        shorten(&mut self.message);
        shorten(&mut self.fields);
    }
}

/// Cuts a text off that is too long.
fn shorten(text: &mut String) {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Callsite, Metadata, subscriber::Interest};

    use super::*;

    /// A place in the code.
    struct Place;

    impl Callsite for Place {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("nobody asks")
        }
    }

    fn admit(shared: &Shared, message: &str, fields: &str, lines: u32, now: Instant) -> bool {
        let text = Text { message: message.to_owned(), fields: fields.to_owned() };
        shared.admit(Identifier(&Place), Level::WARN, text, lines, now)
    }

    fn told(summaries: &[Summary]) -> Vec<String> {
        let tell = |summary: &Summary| {
            let Summary { text, repeated, fields, window, .. } = summary;
            format!("{text} {repeated} {} {fields}", window.as_secs())
        };
        summaries.iter().map(tell).collect()
    }

    #[test]
    fn a_message_is_written_once_and_its_repetitions_are_told_less_and_less_often() {
        let (shared, start) = (Shared::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(admit(&shared, "away", "try=1", 1, start));
        for number in 2..=5 {
            assert!(!admit(&shared, "away", &format!("try={number}"), 1, at(1)));
        }
        assert!(admit(&shared, "full", "", 1, at(2)), "another message is news");
        assert_eq!(told(&shared.take_due(at(9))), [""; 0]);
        assert_eq!(told(&shared.take_due(at(10))), ["away 4 10 try=5"]);
        assert!(!admit(&shared, "away", "", 1, at(29)));
        assert_eq!(told(&shared.take_due(at(29))), [""; 0], "the next window is longer");
        assert_eq!(told(&shared.take_due(at(30))), ["away 1 20 "]);
        assert_eq!(told(&shared.take_due(at(70))), [""; 0]);
        assert!(admit(&shared, "away", "", 1, at(71)), "after a quiet window it is news again");
    }

    #[test]
    fn a_place_with_ever_new_messages_writes_a_bounded_number_of_lines() {
        let (shared, start) = (Shared::default(), Instant::now());
        let lines = (0..1_000).filter(|number| admit(&shared, &format!("no. {number}"), "", 1, start)).count();
        assert_eq!(lines, MESSAGES_PER_PLACE);
        assert_eq!(told(&shared.take_due(start + FIRST_WINDOW)), ["no. 999 992 10 "]);
    }

    #[test]
    fn of_many_lines_that_are_alike_some_are_examples_and_the_end_tells_the_rest() {
        let (shared, start) = (Shared::default(), Instant::now());
        let lines = (0..25).filter(|number| admit(&shared, "post", &format!("post={number}"), EXAMPLES, start)).count();
        assert_eq!(lines, 10);
        assert_eq!(told(&shared.take_rest(start + Duration::from_secs(3))), ["post 15 3 post=24"]);
        assert_eq!(told(&shared.take_rest(start)), [""; 0]);
    }

    #[test]
    fn long_texts_are_cut_off_between_letters() {
        let mut text = "я".repeat(MAX_TEXT);
        shorten(&mut text);
        assert_eq!(text, format!("{}…", "я".repeat(MAX_TEXT / 2)));
    }
}
