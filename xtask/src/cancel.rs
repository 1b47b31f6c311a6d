//! The one way to wait: bounded, and ended at once by Ctrl-C.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Says to everybody who waits that it is time to stop. Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<(Mutex<bool>, Condvar)>);

impl Cancel {
    /// Ends every present and future wait.
    pub fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether [`Cancel::set`] was called.
    pub fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `pause`, or less when cancelled.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when cancelled.
    pub fn pause(&self, pause: Duration) -> Result<()> {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (set, _) =
            self.0.1.wait_timeout_while(guard, pause, |set| !*set).unwrap_or_else(PoisonError::into_inner);
        if *set { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Asks `probe` every `every` until it has an answer, at most for `within`. `None`: it never had one.
    ///
    /// # Errors
    /// The probe's own, or [`Error::Interrupted`].
    pub fn until<T>(
        &self,
        within: Duration,
        every: Duration,
        mut probe: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let end = Instant::now() + within;
        loop {
            if let Some(answer) = probe()? {
                return Ok(Some(answer));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            self.pause(every)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_answer_the_deadline_or_the_cancellation() {
        let cancel = Cancel::default();
        let tick = Duration::from_millis(1);
        let mut asked = 0;
        let answer = cancel.until(Duration::from_secs(5), tick, || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer.unwrap(), Some(3));
        assert_eq!(cancel.until(tick, tick, || Ok(None::<()>)).unwrap(), None);
        cancel.set();
        assert!(matches!(cancel.pause(Duration::from_secs(60)), Err(Error::Interrupted)));
    }
}
