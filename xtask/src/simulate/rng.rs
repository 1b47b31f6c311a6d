//! Repeatable randomness: the same seed gives the same events on every machine.

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, and good enough for loads. Not for secrets.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from 0 up to, but without, 1.
    pub fn unit(&mut self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly from 0 up to, but without, `end`; 0 when `end` is.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.unit() * end as f64) as usize).min(end.saturating_sub(1))
    }

    /// Around 1, always positive, now and then much larger: how durations and sizes are spread.
    pub fn log_normal(&mut self, sigma: f64) -> f64 {
        // Box-Muller; 1 - unit() is never 0.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        (sigma * radius * (std::f64::consts::TAU * self.unit()).cos()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_one_others() {
        let numbers = |seed| -> Vec<u64> { (0..4).scan(Rng::new(seed), |rng, _| Some(rng.bits())).collect() };
        assert_eq!(numbers(1234567)[0], 6_457_827_717_110_365_317, "the published first value of this seed");
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }

    #[test]
    fn units_are_even_and_log_normals_have_median_one() {
        let mut rng = Rng::new(2);
        let units: Vec<f64> = (0..100_000).map(|_| rng.unit()).collect();
        let mean = units.iter().sum::<f64>() / 100_000.0;
        assert!((mean - 0.5).abs() < 0.004 && units.iter().all(|u| (0.0..1.0).contains(u)), "{mean}");
        let above = (0..10_000).filter(|_| rng.log_normal(0.8) > 1.0).count();
        assert!((4_800..5_200).contains(&above), "{above}");
        assert!((0..1_000).all(|_| rng.below(3) < 3));
        assert_eq!(rng.below(0), 0);
    }
}
