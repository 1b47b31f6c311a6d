//! `up --detach`: the same `up` in a session of its own, whose lines we show until it is ready.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use super::Args;
use crate::platform::state::State;
use crate::{Cancel, Error, Paths, Result};

/// A cold start builds every tool.
const READY_WITHIN: Duration = Duration::from_secs(3600);
/// How often we look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Starts it and waits until it is ready. Ctrl-C meanwhile ends the waiting, not the start.
pub(super) fn launch(args: &Args) -> Result<ExitCode> {
    let paths = Paths::discover()?;
    let state = State::load(&paths.dev)?;
    if let Some(running) = state.supervisor.filter(|supervisor| supervisor.alive()) {
        return Err(Error::Running { pid: running.pid, dir: paths.dev });
    }
    let log = paths.dev.join("logs/up.log");
    let failed = || Error::io(format!("cannot write {}", log.display()));
    fs::create_dir_all(paths.dev.join("logs")).map_err(failed())?;
    let file = OpenOptions::new().create(true).append(true).open(&log).map_err(failed())?;
    let mut at = file.metadata().map_err(failed())?.len();
    let again = file.try_clone().map_err(failed())?;
    let mut child = command(args)?
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(again)
        .spawn()
        .map_err(Error::io("cannot start `up` in the background"))?;
    let mut relay = || -> Result<()> {
        let mut new = Vec::new();
        let mut file = fs::File::open(&log).map_err(failed())?;
        file.seek(SeekFrom::Start(at)).map_err(failed())?;
        at += u64::try_from(file.read_to_end(&mut new).map_err(failed())?).unwrap_or_default();
        eprint!("{}", String::from_utf8_lossy(&new));
        Ok(())
    };
    let ready = Cancel::default().until(READY_WITHIN, LOOK_EVERY, || {
        relay()?;
        let state = State::load(&paths.dev)?;
        let ours = state.supervisor.is_some_and(|supervisor| supervisor.pid == child.id());
        Ok(if ours && state.ready { Some(true) } else { ended(&mut child)?.then_some(false) })
    })?;
    relay()?;
    if ready != Some(true) {
        return Ok(ExitCode::FAILURE);
    }
    eprintln!("runs in the background (pid {}); its lines go to {}", child.id(), log.display());
    Ok(ExitCode::SUCCESS)
}

fn ended(child: &mut Child) -> Result<bool> {
    child.try_wait().map(|status| status.is_some()).map_err(Error::io("cannot watch `up` in the background"))
}

/// This program again, in a session of its own where the system has `setsid`, so that closing the terminal does not end it;
/// otherwise in a process group of its own. (A group's leader cannot become a session's, so it is one or the other.)
fn command(args: &Args) -> Result<Command> {
    let program = std::env::current_exe().map_err(Error::io("cannot find this program again"))?;
    let mut command = match Paths::on_path("setsid").into_iter().next() {
        Some(setsid) => {
            let mut command = Command::new(setsid);
            command.arg(program);
            command
        }
        None => {
            let mut command = Command::new(program);
            command.process_group(0);
            command
        }
    };
    command.arg("up").arg(format!("--traffic={}s", args.traffic.as_secs()));
    if args.new_ports {
        command.arg("--new-ports");
    }
    if let Some(bins) = &args.bins {
        command.arg("--bins").arg(bins);
    }
    if args.only_parts {
        command.arg("--only-parts");
    }
    Ok(command)
}
