//! One setting, as it was given.

use std::{ffi::OsStr, fmt};

use clap::{
    Arg, Command, Error,
    builder::{StringValueParser, TypedValueParser, ValueParserFactory},
};

/// One setting: its name, the text that it was given, and its default.
///
/// It is the type of a field of clap's arguments: of its own where the field has a default value, in an `Option` where
/// it has none. An empty text counts as not given, so `REDIS_PASSWORD=` in an environment file means no password.
#[derive(Clone)]
pub struct Setting {
    name: String,
    text: String,
    default: String,
}

impl Setting {
    /// Returns the setting `name` with a text. The default of a setting without one is empty.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>, default: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), default: default.into() }
    }

    /// Returns the name by which messages speak of it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the text or, where that is empty, the default.
    #[must_use]
    pub fn text(&self) -> &str {
        let text = self.text.trim();
        if text.is_empty() { &self.default } else { text }
    }

    /// Returns the text, or `None` where neither it nor a default is given.
    #[must_use]
    pub fn non_empty(&self) -> Option<&str> {
        Some(self.text()).filter(|text| !text.is_empty())
    }

    /// Returns whether it was given an empty text in the place of its default. For a setting of which that means
    /// something else than the default.
    #[must_use]
    pub fn is_given_empty(&self) -> bool {
        self.text.trim().is_empty() && !self.default.is_empty()
    }

    /// Returns the text with the spaces around it, which belong to a secret, or `None` where it is empty.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        Some(self.text.as_str()).filter(|text| !text.is_empty())
    }

    pub(super) fn default(&self) -> &str {
        &self.default
    }

    /// Returns the parser of settings of which messages speak by their environment variable.
    #[must_use]
    pub fn named_by_variable() -> SettingParser {
        SettingParser { name: Arg::get_env }
    }
}

impl fmt::Debug for Setting {
    /// Leaves out the text, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Setting").field(&self.name).finish()
    }
}

/// Makes a [`Setting`] of what clap knows about it.
#[derive(Debug, Clone, Copy)]
pub struct SettingParser {
    /// Which of its names messages use; none is the flag.
    name: fn(&Arg) -> Option<&OsStr>,
}

impl ValueParserFactory for Setting {
    type Parser = SettingParser;

    fn value_parser() -> SettingParser {
        SettingParser { name: |_| None }
    }
}

impl TypedValueParser for SettingParser {
    type Value = Setting;

    /// # Errors
    /// Where the text is not UTF-8.
    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Setting, Error> {
        let text = StringValueParser::new().parse_ref(command, arg, value)?;
        let variable = arg.and_then(self.name).map(|name| name.to_string_lossy().into_owned());
        let name = variable.or_else(|| arg.and_then(Arg::get_long).map(|flag| format!("--{flag}"))).unwrap_or_default();
        let default = arg.and_then(|arg| arg.get_default_values().first());
        Ok(Setting { name, text, default: default.map_or_else(String::new, |default| default.to_string_lossy().into_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[arg(long, default_value = "24h")]
        view_ttl: Setting,
        #[arg(long, env = "SETTING_PORT_OF_TESTS", default_value = "6379", value_parser = Setting::named_by_variable())]
        port: Setting,
        #[arg(long)]
        secret: Option<Setting>,
    }

    fn parse(args: &[&str]) -> Args {
        Args::try_parse_from(std::iter::once("test").chain(args.iter().copied())).unwrap()
    }

    #[test]
    fn a_setting_knows_its_name_and_its_default() {
        let args = parse(&[]);
        assert_eq!((args.view_ttl.name(), args.view_ttl.text()), ("--view-ttl", "24h"));
        assert_eq!((args.port.name(), args.port.text()), ("SETTING_PORT_OF_TESTS", "6379"));
        assert!(args.secret.is_none() && !args.view_ttl.is_given_empty());
    }

    #[test]
    fn an_empty_text_is_the_default_or_nothing() {
        for empty in ["", "  "] {
            let args = parse(&["--view-ttl", empty, "--secret", empty]);
            assert_eq!((args.view_ttl.text(), args.view_ttl.non_empty()), ("24h", Some("24h")));
            assert!(args.view_ttl.is_given_empty());
            assert_eq!(args.secret.unwrap().non_empty(), None);
        }
    }

    #[test]
    fn the_spaces_around_a_secret_are_kept_and_it_is_not_shown() {
        let args = parse(&["--secret", " hidden "]);
        assert!(!format!("{args:?}").contains("hidden"), "{args:?}");
        let secret = args.secret.unwrap();
        assert_eq!((secret.secret(), secret.non_empty()), (Some(" hidden "), Some("hidden")));
    }
}
