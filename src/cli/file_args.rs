//! `dirsync put`, `get`, `cat`, `rm` and `mv`: what they take.
//!
//! Deliberately not here: what they do (`files.rs`, `put.rs`, `get.rs`).

use super::wait;
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Subcommand, Debug)]
pub(super) enum FileCommand {
    /// Send files into the folder through the daemon: whole and verified, or not at all
    ///
    /// Each takes its place in one step, once all of it has come and has the hash that was
    /// announced. What was cut off goes on where it was when the same is put again, within a week.
    /// What is there already with the same content is left alone; what has another content is
    /// refused, but with --force. Contents travel: permissions, times and links do not, and a file
    /// that is replaced keeps its own.
    Put(PutArgs),
    /// Fetch files out of the folder: from this machine's disk, and what is still to come once it
    /// is here
    ///
    /// Each is written under a temporary name, verified, and then given its name. What was cut off
    /// goes on where it was when the same is fetched again. For what is still to come, the daemon
    /// asks every machine that has it, and goes on with the others where one is gone.
    Get(GetArgs),
    /// Print what files hold; as 'get' does, from whoever has it, and verified at the end
    ///
    /// Exit code 1 if what was printed is not the content that was promised.
    Cat {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<OsString>,
        /// Wait so long for what is not here yet, such as 30, 30s or 2m [default: for as long as it
        /// goes on]
        #[arg(long, value_name = "TIME", value_parser = wait::span)]
        timeout: Option<Duration>,
    },
    /// Delete files, links and empty folders, on every machine; they go to this machine's history
    Rm {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<OsString>,
        /// Folders, with everything synced in them
        #[arg(short, long)]
        recursive: bool,
    },
    /// Move a file, a link, or a folder with all that is in it; nothing is replaced
    Mv {
        from: OsString,
        /// Its new path, or a folder to move it into
        to: OsString,
    },
}

#[derive(Args, Debug)]
pub(super) struct PutArgs {
    /// Named from where you are, also with -C
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The path in the folder; of a folder that is there, or ends in '/', or of several FILEs: into
    /// it [default: where you are, or DIR of -C]
    #[arg(long, value_name = "PATH")]
    pub to: Option<OsString>,
    /// Folders, with all files in them
    #[arg(short, long)]
    pub recursive: bool,
    /// Replace what has another content; that goes to this machine's history
    #[arg(short, long)]
    pub force: bool,
    /// Replace the content with this hash (as 'ls --json' has it) and no other
    #[arg(long, value_name = "HASH", conflicts_with = "force", value_parser = hash)]
    pub if_match: Option<String>,
    /// Then wait until so many other machines hold it
    #[arg(long, value_name = "N")]
    pub wait_copies: Option<usize>,
    /// Give up waiting for copies after this long, such as 30, 30s or 2m [default: never]
    #[arg(long, value_name = "TIME", value_parser = wait::span, requires = "wait_copies")]
    pub timeout: Option<Duration>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Args, Debug)]
pub(super) struct GetArgs {
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Into this folder, which is outside of the synced one [default: where you are]
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Folders, with all files in them
    #[arg(short, long)]
    pub recursive: bool,
    /// Replace files that are in the way
    #[arg(short, long)]
    pub force: bool,
    /// Wait so long for what is not here yet, such as 30, 30s or 2m [default: for as long as it
    /// goes on]
    #[arg(long, value_name = "TIME", value_parser = wait::span)]
    pub timeout: Option<Duration>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

fn hash(digits: &str) -> Result<String, String> {
    let is_hash = digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hash { Ok(digits.to_owned()) } else { Err("a hash has 64 hexadecimal digits, in lower case".to_owned()) }
}
