//! Viewers and sets of them, small enough to be part of a state.

use std::fmt;

/// One of the two viewers, by number.
pub type Viewer = usize;

/// How many viewers there are.
pub const VIEWERS: usize = 2;

const NAMES: [&str; VIEWERS] = ["anna", "boris"];

/// A set of viewers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Viewers(u8);

impl Viewers {
    /// Adds a viewer; gives whether he is new.
    pub fn add(&mut self, viewer: Viewer) -> bool {
        let before = self.0;
        self.0 |= 1 << viewer;
        self.0 != before
    }

    /// Takes a viewer out.
    pub fn remove(&mut self, viewer: Viewer) {
        self.0 &= !(1 << viewer);
    }

    /// Adds all of another set; gives how many of them are new.
    pub fn add_all(&mut self, others: Self) -> i8 {
        let before = self.len();
        self.0 |= others.0;
        self.len() - before
    }

    /// Takes all of another set out; gives how many of them were there.
    pub fn remove_all(&mut self, others: Self) -> i8 {
        let before = self.len();
        self.0 &= !others.0;
        before - self.len()
    }

    /// Returns those who are not among the others.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Returns whether a viewer is among them.
    #[must_use]
    pub fn has(self, viewer: Viewer) -> bool {
        self.0 & (1 << viewer) != 0
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Returns whether each of them is among the others.
    #[must_use]
    pub fn all_in(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    /// Returns how many they are.
    #[must_use]
    pub fn len(self) -> i8 {
        // As many as two.
        self.0.count_ones() as i8
    }

    /// Returns whether there is nobody.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn each(self) -> impl Iterator<Item = Viewer> {
        (0..VIEWERS).filter(move |viewer| self.has(*viewer))
    }

    /// Returns the same set with the two viewers' names exchanged.
    #[must_use]
    pub fn exchanged(self) -> Self {
        Self((self.0 & 1) << 1 | self.0 >> 1)
    }
}

/// Returns a viewer's name.
#[must_use]
pub fn name(viewer: Viewer) -> &'static str {
    NAMES[viewer]
}

impl FromIterator<Viewer> for Viewers {
    fn from_iter<T: IntoIterator<Item = Viewer>>(viewers: T) -> Self {
        let mut set = Self::default();
        for viewer in viewers {
            set.add(viewer);
        }
        set
    }
}

impl fmt::Debug for Viewers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.each().map(name).collect();
        write!(f, "{{{}}}", names.join(" "))
    }
}
