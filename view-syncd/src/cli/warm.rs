//! The settings by which posts are loaded into Redis before anybody asks for them.

use clap::{Args, ValueEnum};
use views_core::settings::{Problems, Setting, parse};
use views_postgres::{sql::identifier::ColumnName, top_posts::Order};

/// The most posts that are loaded.
const MOST_POSTS: usize = 1_000_000;

/// The arguments of `view-syncd warm`.
#[derive(Debug, Clone, Args)]
pub struct WarmArgs {
    /// How many posts; at most 1000000
    #[arg(long, value_name = "NUMBER")]
    top: Setting,
    /// Which posts: the newest, those with the most views, or so many of each
    #[arg(long, value_enum, value_delimiter = ',', default_value = "newest")]
    by: Vec<By>,
    /// Tell everything in JSON
    #[arg(long)]
    json: bool,
}

/// The flags of the daemon, of which the command has one, too.
#[derive(Debug, Clone, Args)]
pub struct WarmUpArgs {
    /// How many of the newest posts are loaded into Redis at the start, beside the drain; 0: none
    #[arg(long, env = "WARM_TOP", default_value = "0", value_name = "NUMBER")]
    warm_top: Setting,
    /// The column of the posts table with the time of a post's creation, by which the newest are found
    ///
    /// Without it: created_at, createdAt, created or inserted_at, if there is such a column of a time and the role may
    /// read it, or else the id, if it is a number.
    #[arg(long, env = "CREATED_COLUMN", value_name = "COLUMN")]
    created_column: Option<Setting>,
}

/// Which posts come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// The newest
    Newest,
    /// Those with the most views
    Views,
}

/// Which posts are loaded.
#[derive(Debug, Clone)]
pub struct WarmSettings {
    /// How many of each order; none where this is zero.
    pub(crate) top: usize,
    /// In which orders.
    pub(crate) orders: Vec<Order>,
}

/// What the command does.
#[derive(Debug, Clone)]
pub struct WarmCommand {
    pub(crate) settings: WarmSettings,
    /// Whether it tells what it did in JSON.
    pub(crate) json: bool,
}

impl WarmUpArgs {
    /// Returns what the daemon loads at its start.
    pub(super) fn resolve(&self, p: &mut Problems) -> WarmSettings {
        let top = p.number(&self.warm_top, 0..=MOST_POSTS);
        WarmSettings { top, orders: vec![self.newest(p)] }
    }

    fn newest(&self, p: &mut Problems) -> Order {
        let column = p.optional(self.created_column.as_ref(), ColumnName::parse);
        Order::Newest(column.map(|column| column.as_str().to_owned()))
    }
}

impl WarmArgs {
    /// Returns what the command loads.
    pub(super) fn resolve(&self, newest: &WarmSettings, p: &mut Problems) -> WarmCommand {
        let order = |by: &By| match by {
            By::Newest => newest.orders.clone(),
            By::Views => vec![Order::MostViewed],
        };
        // There is no default that could stand in for a wrong number.
        let top = parse::number(self.top.text(), &(1..=MOST_POSTS)).unwrap_or_else(|error| {
            p.add(self.top.name(), error);
            0
        });
        WarmCommand { settings: WarmSettings { top, orders: self.by.iter().flat_map(order).collect() }, json: self.json }
    }
}
