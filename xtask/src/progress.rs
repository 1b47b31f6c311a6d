//! What a person sees while things are built and started: a line a task with its elapsed time and the reason for the wait.
//! On a terminal the lines move; otherwise they are printed one after the other.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Without a terminal, how often a task's running commentary is printed.
const COMMENTARY_EVERY: Duration = Duration::from_secs(10);

/// The screen. Clones are the same screen.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Screen>);

#[derive(Debug)]
struct Screen {
    mode: Mode,
    began: Instant,
}

#[derive(Debug)]
enum Mode {
    Bars(MultiProgress),
    Plain,
    Quiet,
}

/// Something that takes time.
#[derive(Debug)]
pub struct Task {
    screen: Progress,
    name: String,
    began: Instant,
    bar: Option<ProgressBar>,
    commented: Mutex<Instant>,
}

impl Progress {
    /// Moving lines when standard error is a terminal, plain ones otherwise.
    pub fn detect() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self::with(if terminal { Mode::Bars(MultiProgress::new()) } else { Mode::Plain })
    }

    /// Nothing but failures, which are returned anyway: for tests.
    pub fn quiet() -> Self {
        Self::with(Mode::Quiet)
    }

    fn with(mode: Mode) -> Self {
        Self(Arc::new(Screen { mode, began: Instant::now() }))
    }

    /// Time since the command began.
    pub fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Prints a line that stays.
    pub fn say(&self, text: &str) {
        match &self.0.mode {
            // A terminal that went away is no reason to stop the platform.
            Mode::Bars(bars) => drop(bars.println(text)),
            Mode::Plain => eprintln!("{text}"),
            Mode::Quiet => {}
        }
    }

    /// Lines whose text can be replaced, such as the live table; `None` without a terminal.
    pub fn rows(&self) -> Option<ProgressBar> {
        let Mode::Bars(bars) = &self.0.mode else { return None };
        let rows = bars.add(ProgressBar::new_spinner());
        rows.set_style(
            ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Some(rows)
    }

    /// Begins a task and says why it takes time.
    pub fn task(&self, name: &str, why: &str) -> Task {
        let bar = match &self.0.mode {
            Mode::Bars(bars) => {
                let bar = bars.add(ProgressBar::new_spinner());
                let style = ProgressStyle::with_template("{spinner} {prefix:<24} {elapsed:>5}  {wide_msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar.set_prefix(name.to_owned());
                bar.enable_steady_tick(Duration::from_millis(120));
                Some(bar)
            }
            Mode::Plain | Mode::Quiet => None,
        };
        let task = Task {
            screen: self.clone(),
            name: name.to_owned(),
            began: Instant::now(),
            bar,
            commented: Mutex::new(Instant::now()),
        };
        task.note(why);
        task
    }

    fn plain(&self, name: &str, text: &str) {
        if matches!(self.0.mode, Mode::Plain) {
            eprintln!("[{:>6.1}s] {name:<24} {text}", self.elapsed().as_secs_f64());
        }
    }
}

impl Task {
    /// Says what the task waits for now.
    pub fn note(&self, why: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(why.to_owned()),
            None => self.screen.plain(&self.name, why),
        }
        *self.commented.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Says how far it is: often on a terminal, now and then without.
    pub fn comment(&self, how_far: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(how_far.to_owned());
        } else if self.commented.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > COMMENTARY_EVERY {
            self.note(how_far);
        }
    }

    /// Turns the line into a bar that fills from 0 to `total`.
    pub fn measured(&self, total: u64) {
        let Some(bar) = &self.bar else { return };
        let style = ProgressStyle::with_template(
            "{spinner} {prefix:<24} {elapsed:>5}  {bar:20} {pos}/{len} {wide_msg}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_length(total);
    }

    /// How much of [`Task::measured`] is done.
    pub fn position(&self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
    }

    /// Ends the task: the line stays with what came of it and how long it took.
    pub fn done(self, result: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        match &self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                self.screen.say(&format!("  {:<24} {seconds:>5.1}s {result}", self.name));
            }
            None => self.screen.plain(&self.name, &format!("{result} ({seconds:.1} s)")),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_screen_has_no_rows_and_tasks_end_in_silence() {
        let screen = Progress::quiet();
        assert!(screen.rows().is_none());
        let task = screen.task("etcd", "starts");
        task.measured(3);
        task.position(1);
        task.comment("1 of 3");
        task.done("ready");
    }
}
