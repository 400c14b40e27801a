//! The application whose tables these are: it locks rows, changes counts and authors, deletes posts and creates them
//! anew, hides rows from the programs' role, and has triggers that refuse views. It never waits long for the programs,
//! and no deadlock ends its transactions.

mod deeds;
mod session;
mod waits;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use self::{
    deeds::{Deed, Hold, Lane},
    session::{Session, Undone},
};
pub(crate) use self::{
    deeds::{LANES, deeds},
    session::connect,
};
use crate::{history::History, installation::Installation, world::World};

/// What the application has beside its posts: what it changes of a post without any meaning to others, what it has
/// added to counts that no row of the ledger explains, and its triggers' function.
pub(crate) const SETUP: &str = "\
alter table posts add column title text not null default '';
create table application_changes (post_id uuid not null, number bigint not null);
create function application_refuses() returns trigger language plpgsql as $$ begin raise exception 'closed for maintenance'; end $$";

/// The pause between two rows that are locked one after the other, and within a row's lock that is taken again and again.
const STEP: Duration = Duration::from_millis(60);

/// Does everything in its time. When it returns, everything is undone that is to be. Gives the longest wait for the
/// programs.
pub(crate) async fn run(
    seed: u64,
    duration: Duration,
    started: Instant,
    installation: &Arc<Installation>,
    world: &Arc<World>,
    history: &Arc<History>,
) -> Duration {
    let (end, ended) = watch::channel(false);
    let watching = {
        let (installation, history) = (Arc::clone(installation), Arc::clone(history));
        tokio::spawn(async move { waits::watch(&installation, &history, ended).await })
    };
    let mut lanes = JoinSet::new();
    for lane in LANES {
        let events = deeds(seed, lane, duration, world);
        let (installation, world, history) = (Arc::clone(installation), Arc::clone(world), Arc::clone(history));
        lanes.spawn(async move {
            let mut actor = Actor { session: Session::new(&installation, &history), world: &world, history: &history };
            for event in events {
                sleep_until(started + event.at).await;
                // What is over before it could begin, for what came before it took its time, is left out.
                let until = started + event.at + event.lasts;
                if lane == Lane::Values || Instant::now() < until {
                    history.say(&event);
                    history.injected(event.deed.kind());
                    actor.act(&event.deed, until).await;
                }
            }
        });
    }
    lanes.join_all().await;
    end.send_replace(true);
    watching.await.expect("the watch of waits does not fail")
}

struct Actor<'a> {
    session: Session<'a>,
    world: &'a World,
    history: &'a History,
}

impl Actor<'_> {
    async fn act(&mut self, deed: &Deed, until: Instant) {
        match deed {
            Deed::Hold { how: Hold::Again, posts, .. } => self.hold_again(posts, until).await,
            Deed::Hold { how, posts, commits } => drop(self.hold(*how, posts, *commits, until).await),
            Deed::View { post, viewer, commits } => drop(self.view(*post, *viewer, *commits, until).await),
            Deed::Count { post, by } => {
                let id = &self.world.posts[*post].id;
                let statement = format!(
                    "with before as (select id, views_count from posts where id = '{id}' for update), changed as ( \
                       update posts set views_count = greatest(before.views_count + {by}, 0) from before where posts.id = before.id \
                       returning posts.id, posts.views_count - before.views_count as number) \
                     insert into application_changes select id, number from changed"
                );
                let _ = self.session.run(&statement).await;
            }
            Deed::Author { post, author } => {
                let post = &self.world.posts[*post];
                let author = &post.authors[*author];
                let _ = self.session.run(&format!("update posts set author_id = '{author}' where id = '{}'", post.id)).await;
            }
            Deed::Recreate { post, at_once } => self.recreate(*post, *at_once, until).await,
            Deed::Policy(table) => {
                self.history.note_policy();
                self.for_a_while(
                    &format!("alter table {table} enable row level security"),
                    &format!("alter table {table} disable row level security"),
                    until,
                )
                .await;
            }
            Deed::Refusal(prefix) => {
                let when = prefix.map_or_else(String::new, |prefix| format!("when (new.user_id::text like '{prefix}%')"));
                self.for_a_while(
                    &format!(
                        "create trigger application_refuses before insert on post_views for each row {when} \
                         execute function application_refuses()"
                    ),
                    "drop trigger if exists application_refuses on post_views",
                    until,
                )
                .await;
            }
        }
    }

    /// Locks rows, keeps them, and ends the transaction.
    async fn hold(&mut self, how: Hold, posts: &[usize], commits: bool, until: Instant) -> Result<(), Undone> {
        let quoted: Vec<String> = posts.iter().map(|post| format!("'{}'", self.world.posts[*post].id)).collect();
        let statements: Vec<String> = match how {
            Hold::ForUpdate => vec![format!("select from posts where id in ({}) for update", quoted.join(", "))],
            Hold::Bulk => vec![format!("update posts set title = 'many' where id in ({})", quoted.join(", "))],
            _ => quoted.iter().map(|id| format!("update posts set title = 'one' where id = {id}")).collect(),
        };
        let client = self.session.client().await;
        let work = async {
            client.batch_execute("BEGIN").await?;
            for (place, statement) in statements.iter().enumerate() {
                if place > 0 {
                    sleep(STEP).await;
                }
                client.batch_execute(statement).await?;
            }
            sleep_until(until).await;
            client.batch_execute(if commits { "COMMIT" } else { "ROLLBACK" }).await
        };
        work.await.map_err(|error| self.session.judge(&error))
    }

    /// Has a row locked most of the time, by one transaction after the other.
    async fn hold_again(&mut self, posts: &[usize], until: Instant) {
        while Instant::now() < until {
            if self.hold(Hold::ForUpdate, posts, true, Instant::now() + STEP).await.is_err() {
                return;
            }
        }
    }

    /// Puts a view into the ledger past everybody.
    async fn view(&mut self, post: usize, viewer: usize, commits: bool, until: Instant) -> Result<(), Undone> {
        let (post, viewer) = (&self.world.posts[post].id, &self.world.viewers[viewer].id);
        if commits {
            self.history.attempted([(post.clone(), viewer.clone())]);
        }
        let statement = format!(
            "with new as (insert into post_views (post_id, user_id) values ('{post}', '{viewer}') on conflict do nothing returning post_id) \
             insert into application_changes select post_id, -1 from new"
        );
        let client = self.session.client().await;
        let work = async {
            client.batch_execute("BEGIN").await?;
            match client.batch_execute(&statement).await {
                // A trigger of our own is in the way.
                Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::RAISE_EXCEPTION) => {
                    return client.batch_execute("ROLLBACK").await;
                }
                other => other?,
            }
            sleep_until(until).await;
            client.batch_execute(if commits { "COMMIT" } else { "ROLLBACK" }).await
        };
        work.await.map_err(|error| self.session.judge(&error))
    }

    async fn recreate(&mut self, post: usize, at_once: bool, until: Instant) {
        let post = &self.world.posts[post];
        let (id, author) = (&post.id, &post.authors[0]);
        let delete = format!("delete from application_changes where post_id = '{id}'; delete from posts where id = '{id}'");
        let create = format!("insert into posts (id, author_id) values ('{id}', '{author}') on conflict do nothing");
        self.history.deleted(id);
        if at_once {
            let _ = self.session.run(&format!("{delete}; {create}")).await;
        } else {
            let _ = self.session.run(&delete).await;
            sleep_until(until).await;
        }
        // Perhaps nobody knows what became of the transaction.
        self.session.insist(&create).await;
        self.history.created(id);
    }

    async fn for_a_while(&mut self, does: &str, undoes: &str, until: Instant) {
        if self.session.change_table(does, Some(until)).await.is_ok() {
            sleep_until(until).await;
        }
        // Also where nobody knows what became of it.
        let _ = self.session.change_table(undoes, None).await;
    }
}
