//! Who views what, in which order. Every server is asked the same.

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Zipf};
use serde::{Deserialize, Serialize};

use crate::population::Population;

/// Posts in a batch.
pub(crate) const BATCH: usize = 100;
/// Pairs that a workload of repeats chooses from.
const REPEATED_PAIRS: usize = 100_000;
/// The exponent of Zipf's law: the second post is viewed half as often as the first, the third a third as often.
const ZIPF_EXPONENT: f64 = 1.0;
/// Posts begin with different viewers: a prime, so that any two posts are a long way apart.
const STRIDE: usize = 7_919;
const SEED: u64 = 2;

/// How popular the posts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shape {
    /// All alike.
    Uniform,
    /// By Zipf's law, as real posts are.
    Skewed,
}

/// Whether the viewers have seen the posts before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Views {
    /// Never.
    New,
    /// Always.
    Repeated,
}

/// How many posts a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Size {
    /// One.
    Single,
    /// [`BATCH`].
    Batch,
}

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Workload {
    pub(crate) size: Size,
    pub(crate) views: Views,
    pub(crate) shape: Shape,
}

/// One request: who views, and which of the bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ask {
    pub(crate) viewer: usize,
    pub(crate) body: usize,
}

impl Workload {
    /// Returns how many views a request is.
    pub(crate) fn views_per_request(self) -> usize {
        match self.size {
            Size::Single => 1,
            Size::Batch => BATCH,
        }
    }

    /// Returns the posts of each body.
    pub(crate) fn bodies(self, population: &Population) -> impl Iterator<Item = &[String]> {
        population.posts.chunks_exact(self.views_per_request())
    }

    /// What has been viewed before the measurement begins.
    pub(crate) fn history(self, population: &Population) -> Vec<Ask> {
        match self.views {
            Views::New => Vec::new(),
            Views::Repeated => self.distinct(population, REPEATED_PAIRS / self.views_per_request()),
        }
    }

    /// Returns the requests of the measurement.
    pub(crate) fn requests(self, population: &Population, number: usize) -> Vec<Ask> {
        let history = self.history(population);
        if history.is_empty() {
            return self.distinct(population, number);
        }
        let mut random = SmallRng::seed_from_u64(SEED + 1);
        (0..number).map(|_| history[random.random_range(..history.len())]).collect()
    }

    /// Requests of which no two are the same, unless there are not as many.
    fn distinct(self, population: &Population, number: usize) -> Vec<Ask> {
        let (viewers, bodies) = (population.viewers.len(), population.posts.len() / self.views_per_request());
        let mut random = SmallRng::seed_from_u64(SEED);
        let zipf = Zipf::new(bodies as f64, ZIPF_EXPONENT).expect("there are bodies, and the exponent is right");
        let mut seen_by = vec![0; bodies];
        let mut next = |_| {
            let mut body = match self.shape {
                Shape::Uniform => random.random_range(..bodies),
                Shape::Skewed => (zipf.sample(&mut random) as usize).clamp(1, bodies) - 1,
            };
            // What everybody has seen is not new to anybody, so the next most popular post takes its place.
            for _ in 0..bodies {
                if seen_by[body] < viewers {
                    break;
                }
                body = (body + 1) % bodies;
            }
            let viewer = (seen_by[body] + body * STRIDE) % viewers;
            seen_by[body] += 1;
            Ask { viewer, body }
        };
        (0..number).map(&mut next).collect()
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = match self.size {
            Size::Single => "single",
            Size::Batch => "batches of 100",
        };
        let views = match self.views {
            Views::New => "new views",
            Views::Repeated => "repeated views",
        };
        let shape = match self.shape {
            Shape::Uniform => "uniform",
            Shape::Skewed => "skewed",
        };
        write!(f, "{size}, {views}, {shape}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn workload(views: Views, shape: Shape) -> Workload {
        Workload { size: Size::Single, views, shape }
    }

    #[test]
    fn new_views_are_new_even_of_the_most_popular_posts() {
        let population = Population::new(50, 40);
        for shape in [Shape::Uniform, Shape::Skewed] {
            let asks = workload(Views::New, shape).requests(&population, 2_000);
            assert_eq!(asks.iter().collect::<HashSet<_>>().len(), 2_000, "{shape:?}");
        }
    }

    #[test]
    fn repeated_views_are_of_pairs_in_the_history() {
        let population = Population::new(500, 400);
        let workload = workload(Views::Repeated, Shape::Uniform);
        let history: HashSet<Ask> = workload.history(&population).into_iter().collect();
        assert!(workload.requests(&population, 5_000).iter().all(|ask| history.contains(ask)));
    }

    #[test]
    fn skewed_posts_follow_zipfs_law() {
        let population = Population::new(1_000, 20_000);
        let mut views: HashMap<usize, usize> = HashMap::new();
        for ask in workload(Views::New, Shape::Skewed).requests(&population, 100_000) {
            *views.entry(ask.body).or_default() += 1;
        }
        // The thousandth harmonic number is 7.49.
        assert!((12_800..13_900).contains(&views[&0]), "{}", views[&0]);
        assert!((6_200..7_200).contains(&views[&1]), "{}", views[&1]);
    }

    #[test]
    fn a_batch_names_a_hundred_different_posts() {
        let population = Population::new(1_050, 1);
        let workload = Workload { size: Size::Batch, views: Views::New, shape: Shape::Uniform };
        let bodies: Vec<&[String]> = workload.bodies(&population).collect();
        assert_eq!(bodies.len(), 10);
        assert!(bodies.iter().all(|posts| posts.iter().collect::<HashSet<_>>().len() == BATCH));
    }
}
