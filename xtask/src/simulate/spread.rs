//! Uneven choices: some weigh more than others.

use super::rng::Rng;

/// Chooses one of several places by weight.
#[derive(Debug, Clone)]
pub struct Spread {
    /// Sum of the weights up to and with each place.
    cumulated: Vec<f64>,
}

impl Spread {
    /// By these weights, none negative.
    pub fn weighted(weights: impl Iterator<Item = f64>) -> Self {
        let cumulated = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { cumulated: cumulated.collect() }
    }

    /// By Zipf's law: the place of rank `r` (from 1) weighs `1 / r^exponent`.
    pub fn zipf(places: usize, exponent: f64) -> Self {
        Self::weighted((1..=places).map(|rank| (rank as f64).powf(-exponent)))
    }

    /// A place; 0 when there is none.
    pub fn choose(&self, rng: &mut Rng) -> usize {
        let at = rng.unit() * self.cumulated.last().copied().unwrap_or_default();
        self.cumulated.partition_point(|sum| *sum <= at).min(self.cumulated.len().saturating_sub(1))
    }

    /// The share (0 to 1) of all choices that falls on a place.
    pub fn share(&self, place: usize) -> f64 {
        let before = place.checked_sub(1).map_or(0.0, |before| self.cumulated[before]);
        (self.cumulated[place] - before) / self.cumulated.last().copied().unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_follow_zipfs_law() {
        let (spread, mut rng) = (Spread::zipf(50, 1.0), Rng::new(42));
        let mut counts = [0_u32; 50];
        (0..100_000).for_each(|_| counts[spread.choose(&mut rng)] += 1);
        for (place, count) in counts.iter().enumerate() {
            let expected = spread.share(place) * 100_000.0;
            // Five standard deviations of a binomial count.
            assert!(
                (f64::from(*count) - expected).abs() < 5.0 * expected.sqrt(),
                "{place}: {count} for {expected}"
            );
        }
        let (first, tenth) = (spread.share(0), spread.share(9));
        assert!((first / tenth - 10.0).abs() < 1e-9, "rank 1 weighs ten times rank 10");
    }

    #[test]
    fn what_weighs_nothing_is_not_chosen() {
        let (spread, mut rng) = (Spread::weighted([0.0, 3.0, 0.0, 1.0].into_iter()), Rng::new(3));
        let chosen: Vec<usize> = (0..1_000).map(|_| spread.choose(&mut rng)).collect();
        assert!(chosen.iter().all(|place| [1, 3].contains(place)));
        assert_eq!(Spread::zipf(0, 1.0).choose(&mut rng), 0);
    }
}
