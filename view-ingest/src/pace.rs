//! How many views a viewer may ask for, where operators have set a limit.
//!
//! The rule is the generic cell rate algorithm (crate governor): a viewer who has not asked for a while has the whole number at once, and
//! what is used comes back evenly over the time. A viewer's state is one number, and of no use once all has come back. They stand in a
//! bounded cache that pushes out who asks least, so that any number of viewers takes no more memory.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use quick_cache::sync::Cache;
use shared::{
    ids::ViewerId,
    settings::{Problems, given},
};

/// Viewers whose views are counted at once: some 30 MB.
const MAX_VIEWERS: usize = 100_000;
const MOST_VIEWS: u32 = 1_000_000;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// So many views in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    views: NonZeroU32,
    time: Duration,
}

impl Rate {
    /// Reads `60/1m`.
    pub(crate) fn read(name: &str, text: Option<&str>, problems: &mut Problems) -> Option<Self> {
        let text = given(text)?;
        let number = text.split_once('/').and_then(|(views, time)| Some((views.trim().parse::<NonZeroU32>().ok()?, time)));
        let Some((views, time)) = number.filter(|(views, time)| views.get() <= MOST_VIEWS && given(Some(time)).is_some()) else {
            problems
                .add(name, format_args!("{text:?} is not a number of views, from 1 to {MOST_VIEWS}, in a time, such as 60/1m"));
            return None;
        };
        let time = problems.duration(name, Some(time), SHORTEST, SHORTEST);
        if time > LONGEST {
            problems.add(name, format_args!("the time of {text} must be at most a day"));
        }
        Some(Self { views, time })
    }

    /// Returns how many views can pass at once.
    pub(crate) fn views(self) -> usize {
        usize::try_from(self.views.get()).unwrap_or(usize::MAX)
    }

    fn quota(self) -> Quota {
        let each = self.time / self.views.get();
        // The time is a second at least and the views are a million at most, so it is never nothing.
        Quota::with_period(each).unwrap_or_else(|| Quota::per_second(self.views)).allow_burst(self.views)
    }
}

/// Why views are refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// They may pass after so many seconds.
    Wait(u64),
    /// They are more than can ever pass at once, even after the seconds in which all that is used comes back.
    Never { most: usize, seconds: u64 },
}

type Viewer = RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// The viewers' states.
pub(crate) struct Pace {
    rate: Rate,
    viewers: Cache<ViewerId, Arc<Viewer>>,
}

impl Pace {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, viewers: Cache::new(MAX_VIEWERS) }
    }

    /// Takes a number of views from what the viewer has left, all of them or none.
    pub(crate) fn admit(&self, viewer: &ViewerId, views: usize) -> Result<(), Excess> {
        let never = || Excess::Never { most: self.rate.views(), seconds: seconds(self.rate.time) };
        let Some(views) = u32::try_from(views).ok().and_then(NonZeroU32::new) else { return Err(never()) };
        let new = || Ok::<_, Excess>(Arc::new(RateLimiter::direct_with_clock(self.rate.quota(), MonotonicClock)));
        let state = self.viewers.get_or_insert_with(viewer, new)?;
        match state.check_n(views) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(Excess::Wait(seconds(until.wait_time_from(MonotonicClock.now())))),
            Err(_) => Err(never()),
        }
    }
}

/// Whole seconds, and one at least: a client that comes back earlier would be refused again.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0 || time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Rate>, Vec<String>> {
        let mut problems = Problems::default();
        let rate = Rate::read("--viewer-rate", Some(text), &mut problems);
        if problems.is_empty() { Ok(rate) } else { Err(problems.all().to_vec()) }
    }

    fn pace(text: &str) -> Pace {
        Pace::new(read(text).unwrap().unwrap())
    }

    #[test]
    fn a_rate_is_a_number_and_a_time() {
        let rate = |views, seconds| Rate { views: NonZeroU32::new(views).unwrap(), time: Duration::from_secs(seconds) };
        for (text, expected) in
            [("60/1m", rate(60, 60)), ("10/1s", rate(10, 1)), (" 1 / 1h 30m ", rate(1, 5400)), ("1000000/1s", rate(1_000_000, 1))]
        {
            assert_eq!(read(text), Ok(Some(expected)), "{text}");
        }
        assert_eq!(read(" "), Ok(None));
        for text in
            ["60", "60/", "/1m", "0/1m", "-1/1m", "1.5/1m", "60/x", "60/0s", "60/1ms", "60/2days", "1000001/1s", "60/1m/1s"]
        {
            assert_eq!(read(text).map_err(|problems| problems.len()), Err(1), "{text}");
        }
    }

    #[test]
    fn a_viewer_has_so_many_views_and_others_have_their_own() {
        let pace = pace("3/1h");
        let (ann, bob) = (ViewerId::parse("ann").unwrap(), ViewerId::parse("bob").unwrap());
        assert_eq!(pace.admit(&ann, 2), Ok(()));
        assert_eq!(pace.admit(&ann, 2), Err(Excess::Wait(1_200)), "all of a batch or none");
        assert_eq!(pace.admit(&ann, 1), Ok(()));
        assert_eq!(pace.admit(&ann, 1), Err(Excess::Wait(1_200)));
        assert_eq!(pace.admit(&ann, 4), Err(Excess::Never { most: 3, seconds: 3_600 }));
        assert_eq!(pace.admit(&bob, 3), Ok(()));
    }

    #[test]
    fn any_number_of_viewers_takes_no_more_memory() {
        let pace = pace("1/1h");
        for viewer in 0..MAX_VIEWERS + 50_000 {
            assert_eq!(pace.admit(&ViewerId::parse(&format!("viewer-{viewer}")).unwrap(), 1), Ok(()));
        }
        assert!(pace.viewers.len() <= MAX_VIEWERS, "{}", pace.viewers.len());
    }

    #[test]
    fn the_wait_is_rounded_up() {
        let millis = [0, 1, 999, 1_000, 1_001].map(Duration::from_millis);
        assert_eq!(millis.map(seconds), [1, 1, 1, 1, 2]);
    }
}
