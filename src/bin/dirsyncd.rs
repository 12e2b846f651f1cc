//! `dirsyncd`: parse, run, exit code. Everything else is in the library.

use dirsyncd::daemon::{ReadOptions, Reload, RunEnd};
use dirsyncd::options::{Given, GivenError, Options};
use dirsyncd::{daemon, logging};
use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

const USAGE: u8 = 2;
const FAILED: u8 = 1;

/// Gives back what a first scan or a large transfer needed: glibc's keeps it for good.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    daemon::catch_hangups();
    let given = match Given::new(env::args_os()) {
        Ok(given) => given,
        Err(GivenError::Arguments(why)) => why.exit(),
        Err(why) => return refuse(USAGE, &why),
    };
    let args = &given.args;
    if let Err(why) = logging::init(args.log_format, args.log_level.as_deref()) {
        return refuse(USAGE, &why);
    }
    let options = match Options::new(args.clone()) {
        Ok(options) => options,
        Err(why) => return refuse(USAGE, &why),
    };
    if args.config.print_config {
        // Who reads the first lines alone closes the pipe.
        let _ = io::stdout().write_all(given.print(&options).as_bytes());
        return ExitCode::SUCCESS;
    }
    if let Some(form) = options.preview {
        return match daemon::preview::print(&options, form) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => refuse(FAILED, &why),
        };
    }
    let reload = Reload::new((options.clone(), args.log_level.clone()), read_again, set_level);
    match daemon::run(&options, reload) {
        Ok(RunEnd::Stopped | RunEnd::Left) => ExitCode::SUCCESS,
        Ok(RunEnd::Renewed | RunEnd::Renamed | RunEnd::Rekeyed) => {
            let why = daemon::replace_process();
            tracing::error!("dirsyncd cannot be started anew: {why}; start it again");
            ExitCode::FAILURE
        }
        Err(why) => {
            tracing::error!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// For SIGHUP: the same arguments, and what the file has now.
fn read_again() -> Result<ReadOptions, String> {
    let first_line = |why: String| why.lines().next().unwrap_or_default().to_owned();
    let args = Given::new(env::args_os()).map_err(|why| first_line(why.to_string()))?.args;
    let level = args.log_level.clone();
    let options = Options::new(args).map_err(|why| why.to_string())?;
    Ok((options, level))
}

fn set_level(level: Option<&str>) -> Result<(), String> {
    logging::set_level(level).map_err(|why| why.to_string())
}

/// Before there is anything to log about: the person at the keyboard is told.
fn refuse(code: u8, why: &dyn Display) -> ExitCode {
    eprintln!("dirsyncd: {why}");
    ExitCode::from(code)
}
