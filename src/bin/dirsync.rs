//! `dirsync`: parse, ask, exit code. Everything else is in `cli/`.

use clap::Parser;
use dirsyncd::cli::{CliArgs, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = CliArgs::parse();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(why) => {
            eprintln!("dirsync: cannot start: {why}");
            ExitCode::FAILURE
        }
    }
}
