//! A day's load, pressed into whatever time there is.

use std::f64::consts::TAU;
use std::time::Duration;

/// The busiest moment, in times of the mean.
pub const PEAK: f64 = 5.0;
/// When it comes, as a share of the day: 11 o'clock.
const PEAK_AT: f64 = 11.0 / 24.0;
/// How narrow the busy hours are; with this the quietest ones keep a tenth of the mean.
const NARROWNESS: f64 = 4.95;
/// Steps of the curve.
const STEPS: usize = 1_440;

/// When each of a number of events happens.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Share of the day's events before each step; one more than there are steps.
    cumulated: Vec<f64>,
    events: u64,
    lasts: Duration,
}

/// The load at a moment (0 to 1 of the day) in times of the mean, whose peak is [`PEAK`]. `mean` is that of the bell.
fn load(at: f64, mean: f64) -> f64 {
    // floor + height x bell, with floor + height = PEAK and floor + height x mean = 1.
    let height = (PEAK - 1.0) / (1.0 - mean);
    PEAK - height + height * bell(at)
}

/// A bell around [`PEAK_AT`] that closes at midnight without a step; 1 at its top.
fn bell(at: f64) -> f64 {
    (NARROWNESS * ((TAU * (at - PEAK_AT)).cos() - 1.0)).exp()
}

fn curve() -> Vec<f64> {
    let moments = || (0..STEPS).map(|step| (step as f64 + 0.5) / STEPS as f64);
    let mean = moments().map(bell).sum::<f64>() / STEPS as f64;
    moments().map(|at| load(at, mean)).collect()
}

impl Schedule {
    /// Spreads `events` over a day that lasts `lasts`.
    pub fn new(events: u64, lasts: Duration) -> Self {
        let mut cumulated = vec![0.0];
        let mut sum = 0.0;
        for load in curve() {
            sum += load / STEPS as f64;
            cumulated.push(sum);
        }
        Self { cumulated, events, lasts }
    }

    /// Number of events.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// When event `number` (from 0) is due, from the beginning.
    pub fn due(&self, number: u64) -> Duration {
        let share = (number as f64 + 0.5) / self.events.max(1) as f64 * self.cumulated[STEPS];
        let step = self.cumulated.partition_point(|sum| *sum <= share).clamp(1, STEPS) - 1;
        let within = (share - self.cumulated[step]) / (self.cumulated[step + 1] - self.cumulated[step]);
        self.lasts.mul_f64(((step as f64 + within) / STEPS as f64).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_five_times_the_mean_and_nights_are_quiet_not_dead() {
        let curve = curve();
        let mean = curve.iter().sum::<f64>() / STEPS as f64;
        let peak = curve.iter().copied().fold(0.0, f64::max);
        let least = curve.iter().copied().fold(PEAK, f64::min);
        assert!((mean - 1.0).abs() < 1e-9 && (peak - PEAK).abs() < 1e-3, "{mean} {peak}");
        assert!((0.02..0.2).contains(&least), "{least}");
    }

    #[test]
    fn every_event_is_due_in_order_within_the_time_and_most_of_them_around_the_peak() {
        let schedule = Schedule::new(10_000, Duration::from_secs(240));
        let due: Vec<Duration> = (0..10_000).map(|n| schedule.due(n)).collect();
        assert!(due.is_sorted() && due[9_999] <= Duration::from_secs(240));
        let ten_seconds_of_peak =
            due.iter().filter(|d| (105.0..115.0).contains(&d.as_secs_f64())).count() as f64;
        let mean = 10_000.0 / 24.0;
        assert!((4.5..5.0).contains(&(ten_seconds_of_peak / mean)), "{ten_seconds_of_peak}");
    }

    #[test]
    fn a_single_event_is_due_around_the_peak() {
        let schedule = Schedule::new(1, Duration::from_secs(24));
        assert!((9.0..13.0).contains(&schedule.due(0).as_secs_f64()));
        assert_eq!(Schedule::new(0, Duration::ZERO).events(), 0);
    }
}
