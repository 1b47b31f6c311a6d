//! Runs ClickHouse out of `libchdb.so`.
//!
//! `chdb <path of libchdb.so> <argument of clickhouse-local>...`
//!
//! The npm package `@chdb/lib-linux-x64-gnu` ships the whole engine as a shared library whose function `query_stable_v2` is the
//! main function of `clickhouse-local`. This program calls it, so that the engine runs as a process of its own and can be
//! stopped, killed and measured like the server it stands for.

use std::ffi::{CString, OsString};
use std::os::raw::{c_char, c_int, c_void};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

/// `clickhouse-local`'s main. What it returns is a result buffer of the library: we only need to know that it is there.
type Main = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let Some(library) = args.next() else {
        eprintln!("usage: chdb <path of libchdb.so> <argument of clickhouse-local>...");
        return ExitCode::from(2);
    };
    match run(&library, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("chdb: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Loads the library and gives it the command line. Returns when the query on that command line has ended.
fn run(library: &OsString, args: impl Iterator<Item = OsString>) -> Result<(), String> {
    let mut argv: Vec<CString> = Vec::new();
    for arg in std::iter::once(OsString::from("clickhouse-local")).chain(args) {
        argv.push(CString::new(arg.into_vec()).map_err(|e| format!("an argument holds a zero byte: {e}"))?);
    }
    let argc = c_int::try_from(argv.len()).map_err(|e| format!("too many arguments: {e}"))?;
    let mut pointers: Vec<*mut c_char> = argv.into_iter().map(CString::into_raw).collect();
    pointers.push(std::ptr::null_mut());

    // SAFETY: loading runs the library's constructors; it is the pinned, integrity-checked package that this program exists for.
    let engine = unsafe { libloading::Library::new(library) }
        .map_err(|e| format!("{} does not load: {e}", library.display()))?;
    // SAFETY: the library's header declares `struct local_result_v2 * query_stable_v2(int argc, char ** argv)`.
    let main = unsafe { engine.get::<Main>(b"query_stable_v2\0") }
        .map_err(|e| format!("{} is no libchdb: {e}", library.display()))?;
    // SAFETY: `pointers` holds `argc` writable C strings and the closing null; they are never freed, as a main's arguments are not.
    let result = unsafe { main(argc, pointers.as_mut_ptr()) };
    // The process ends here: unloading an engine whose threads may still run would only crash it on the way out.
    std::mem::forget(engine);
    if result.is_null() {
        Err("the engine ended without a result; see the lines above".into())
    } else {
        Ok(())
    }
}
