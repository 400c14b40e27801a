//! Units of systemd: as far as they say what is run, by whom and with which settings, which is done here in its stead.

use super::system::System;
use crate::shell::Environment;

/// An installed unit.
pub(super) struct Unit(Vec<(String, String)>);

impl Unit {
    /// Returns a unit of a package.
    ///
    /// # Panics
    /// When it is not installed.
    pub(super) fn of(system: &System, name: &str) -> Self {
        let path = format!("/usr/lib/systemd/system/{name}");
        Self::parse(&system.text(&path).unwrap_or_else(|| panic!("{path} is missing")))
    }

    fn parse(text: &str) -> Self {
        let settings = text.lines().filter(|line| !line.starts_with(['#', ';'])).filter_map(|line| line.split_once('='));
        Self(settings.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect())
    }

    /// Returns what is set; nothing where it is not.
    pub(super) fn value(&self, name: &str) -> &str {
        self.values(name).last().unwrap_or_default()
    }

    fn values(&self, name: &str) -> impl DoubleEndedIterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Returns the variables of the unit and of its files, which win.
    pub(super) fn environment(&self, system: &System) -> Environment {
        let own = self.values("Environment").filter_map(variable);
        let files: Vec<String> = self.values("EnvironmentFile").filter_map(|file| system.text(file)).collect();
        own.chain(files.iter().flat_map(|file| file.lines()).filter_map(variable)).collect()
    }
}

fn variable(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
    Some((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Unit, variable};

    #[test]
    fn settings_are_read_and_comments_are_not() {
        let unit = Unit::parse("[Service]\n#User=a\nUser=b\nExecStart=/bin/c --d=e\n");
        assert_eq!([unit.value("User"), unit.value("ExecStart"), unit.value("Group")], ["b", "/bin/c --d=e", ""]);
        assert_eq!(variable("#A=b"), None);
        assert_eq!(variable("A=b=c"), Some(("A".to_owned(), "b=c".to_owned())));
    }
}
