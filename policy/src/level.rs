//! How much of a quota is used, in the steps at which somebody is told.

use std::fmt;

/// The highest step that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// None.
    Normal,
    /// This percentage, at which answers warn.
    Warned(u8),
    /// All of it.
    Full,
}

impl Level {
    /// Of `used` units of `cap`, when answers warn at these percentages.
    pub fn of(used: u64, cap: u64, warn_at: &[u8]) -> Self {
        let reached = |percent: u8| u128::from(used) * 100 >= u128::from(cap) * u128::from(percent);
        if reached(100) {
            return Self::Full;
        }
        let warned = warn_at.iter().copied().filter(|percent| *percent < 100 && reached(*percent)).max();
        warned.map_or(Self::Normal, Self::Warned)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("Normal"),
            Self::Warned(percent) => write!(f, "{percent}%"),
            Self::Full => f.write_str("100%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_the_highest_step_that_is_reached() {
        let at = |used| Level::of(used, 10, &[50, 80]).to_string();
        assert_eq!(
            [0, 4, 5, 7, 8, 9, 10, 11].map(at),
            ["Normal", "Normal", "50%", "50%", "80%", "80%", "100%", "100%"]
        );
        assert_eq!(Level::of(u64::MAX - 1, u64::MAX, &[]), Level::Normal);
        assert_eq!(Level::of(0, 0, &[80]), Level::Full, "a limit of nothing is always reached");
    }
}
