//! How many views one account may send in a time. Off unless it is asked for.
//!
//! Each viewer has a bucket of its own (GCRA). It is full at first, takes `views` at once, and is full again after
//! `period`; meanwhile it refills steadily. Views are charged before they are recorded, whatever their verdict will be:
//! a repeated view costs as much as a new one. What no store could record is given back.

use std::{
    convert::Infallible,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use quick_cache::sync::Cache;
use views_core::{ids::ViewerId, settings::parse};

/// How many viewers are known at once, in about 50 MiB. Past them, the one that has been away longest is forgotten, and its
/// bucket is full when it comes back.
const MAX_VIEWERS: usize = 100_000;
/// No rate allows more views than this at once.
const MAX_VIEWS: u32 = 1_000_000;
/// The shortest period. Divided by [`MAX_VIEWS`], it is the nanosecond in which the limiter counts.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);

/// So many views in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    views: NonZeroU32,
    period: Duration,
}

impl Rate {
    /// Parses a rate such as `60/1m`.
    ///
    /// # Errors
    /// When it is none, or out of bounds.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(views, period)| Some((views.trim().parse().ok()?, period.trim())));
        let Some((views, period)) = parts.filter(|(_, period)| !period.is_empty()) else {
            return Err(format!("{text:?} is not a number of views in a time, such as 60/1m"));
        };
        let views: NonZeroU32 = views;
        if views.get() > MAX_VIEWS {
            return Err(format!("must be at most {MAX_VIEWS} views, not {views}"));
        }
        Ok(Self { views, period: parse::duration(period, SHORTEST_PERIOD)? })
    }
}

/// The viewers' buckets, shared by all workers.
pub(crate) struct ViewerRate<C: Clock = MonotonicClock> {
    quota: Quota,
    clock: C,
    buckets: Cache<ViewerId, Arc<Bucket<C>>>,
}

/// A viewer's bucket, and what has been given back to it.
struct Bucket<C: Clock> {
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    given_back: AtomicU32,
}

impl ViewerRate {
    /// Buckets that are all full.
    pub(crate) fn new(rate: Rate) -> Self {
        Self::with(rate, MonotonicClock, MAX_VIEWERS)
    }
}

impl<C: Clock + Clone + Send + Sync + 'static> ViewerRate<C>
where
    C::Instant: Send + Sync,
{
    fn with(rate: Rate, clock: C, max_viewers: usize) -> Self {
        let one = rate.period / rate.views.get();
        // The settings' bounds leave a nanosecond at least, and without that there would be no limit.
        let quota = Quota::with_period(one.max(Duration::from_nanos(1)))
            .unwrap_or_else(|| Quota::per_second(rate.views))
            .allow_burst(rate.views);
        Self { quota, clock, buckets: Cache::new(max_viewers) }
    }

    /// Takes `views` out of a viewer's bucket, or nothing where there are fewer in it. More than it can ever hold cost
    /// all that it holds, so that a large batch passes by a full bucket.
    ///
    /// # Errors
    /// The time after which there are enough, unless the viewer takes some meanwhile.
    pub(crate) fn take(&self, viewer: &ViewerId, views: usize) -> Result<(), Duration> {
        let most = self.quota.burst_size();
        let views = u32::try_from(views).map_or(most, |views| NonZeroU32::new(views).unwrap_or(NonZeroU32::MIN).min(most));
        let new = || {
            let limiter = RateLimiter::direct_with_clock(self.quota, self.clock.clone());
            Arc::new(Bucket { limiter, given_back: AtomicU32::new(0) })
        };
        let Ok(bucket) = self.buckets.get_or_insert_with::<_, Infallible>(viewer, || Ok(new()));
        let (mut rest, mut spent) = (views.get(), 0);
        let _ = bucket.given_back.fetch_update(Relaxed, Relaxed, |given_back| {
            spent = given_back.min(views.get());
            rest = views.get() - spent;
            Some(given_back - spent)
        });
        let Some(rest) = NonZeroU32::new(rest) else { return Ok(()) };
        match bucket.limiter.check_n(rest) {
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(later)) => {
                bucket.given_back.fetch_add(spent, Relaxed);
                Err(later.wait_time_from(self.clock.now()))
            }
        }
    }

    /// Gives `views` back that were [taken](Self::take) and that no store could record.
    pub(crate) fn give_back(&self, viewer: &ViewerId, views: usize) {
        let most = self.quota.burst_size().get();
        let views = u32::try_from(views).unwrap_or(most).min(most);
        if let Some(bucket) = self.buckets.get(viewer) {
            let _ =
                bucket.given_back.fetch_update(Relaxed, Relaxed, |given_back| Some(given_back.saturating_add(views).min(most)));
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use views_core::settings::{Problems, Setting};

    use super::*;

    fn viewer(name: &str) -> ViewerId {
        ViewerId::parse(name).unwrap()
    }

    /// As the settings have it: one that is empty is not given.
    fn read(text: &str) -> (Option<Rate>, Problems) {
        let mut problems = Problems::default();
        (problems.optional(Some(&Setting::new("--viewer-rate", text, "")), Rate::parse), problems)
    }

    fn rate(text: &str, max_viewers: usize) -> (ViewerRate<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (ViewerRate::with(read(text).0.unwrap(), clock.clone(), max_viewers), clock)
    }

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        for (text, views, seconds) in [("60/1m", 60, 60), (" 1 / 1h 30m ", 1, 5_400), ("1000000/1s", 1_000_000, 1)] {
            let (rate, problems) = read(text);
            let expected = Rate { views: NonZeroU32::new(views).unwrap(), period: Duration::from_secs(seconds) };
            assert_eq!((rate, problems.all()), (Some(expected), [].as_slice()), "{text}");
        }
        for text in ["", "  "] {
            let (rate, problems) = read(text);
            assert!(rate.is_none() && problems.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_rate_is_one_complaint() {
        let wrong = [
            "60",
            "60/",
            "/1m",
            "/",
            "0/1m",
            "-1/1m",
            "1.5/1m",
            "x/1m",
            "60/x",
            "60/m",
            "60/0",
            "60/1",
            "60/1m/1m",
            "1000001/1s",
            "off",
            "99999999999/1s",
            "60/0s",
            "60/1us",
            "60/99999years",
        ];
        for text in wrong {
            assert_eq!(read(text).1.all().len(), 1, "{text}: {:?}", read(text).1.all());
        }
    }

    #[test]
    fn a_bucket_is_taken_at_once_and_refills_steadily() {
        let (rate, clock) = rate("3/3s", 10);
        let ann = viewer("ann");
        assert_eq!([(); 3].map(|()| rate.take(&ann, 1)), [Ok(()); 3]);
        assert_eq!(rate.take(&ann, 1), Err(Duration::from_secs(1)));
        assert_eq!(rate.take(&ann, 2), Err(Duration::from_secs(2)), "two take longer");
        assert_eq!(rate.take(&viewer("bob"), 3), Ok(()), "others have their own");
        clock.advance(Duration::from_millis(999));
        assert_eq!(rate.take(&ann, 1), Err(Duration::from_millis(1)));
        clock.advance(Duration::from_millis(1));
        assert_eq!(rate.take(&ann, 1), Ok(()));
        assert!(rate.take(&ann, 1).is_err());
        clock.advance(Duration::from_secs(3_600));
        assert_eq!([(); 3].map(|()| rate.take(&ann, 1)), [Ok(()); 3]);
        assert!(rate.take(&ann, 1).is_err(), "no more than a bucket, however long it has been");
    }

    #[test]
    fn more_than_a_bucket_holds_costs_all_of_it() {
        let (rate, clock) = rate("3/3s", 10);
        let ann = viewer("ann");
        assert_eq!(rate.take(&ann, 1), Ok(()));
        assert_eq!(rate.take(&ann, 100), Err(Duration::from_secs(1)));
        assert_eq!(rate.take(&ann, 2), Ok(()), "what was refused has cost nothing");
        clock.advance(Duration::from_secs(3));
        assert_eq!(rate.take(&ann, 100), Ok(()));
        assert!(rate.take(&ann, 1).is_err());
    }

    #[test]
    fn the_extremes_of_the_settings_are_limits_too() {
        for text in ["1000000/1ms", "1/3650days", "1000000/3650days"] {
            let (rate, _clock) = rate(text, 10);
            assert_eq!(rate.take(&viewer("ann"), usize::MAX), Ok(()), "{text}");
            assert!(rate.take(&viewer("ann"), 1).is_err(), "{text}");
        }
    }

    #[test]
    fn the_viewers_that_are_known_have_a_bound_and_whoever_keeps_asking_stays() {
        let (rate, _clock) = rate("1/1h", 100);
        let busy = viewer("busy");
        assert_eq!(rate.take(&busy, 1), Ok(()));
        for number in 0..10_000 {
            assert_eq!(rate.take(&viewer(&format!("viewer-{number}")), 1), Ok(()));
            if number % 10 == 0 {
                assert!(rate.take(&busy, 1).is_err(), "forgotten after {number}");
            }
        }
        assert!(rate.buckets.len() <= 100, "{}", rate.buckets.len());
    }
}
