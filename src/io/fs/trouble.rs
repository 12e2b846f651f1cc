//! An error of the disk as the engine's [`Trouble`]: its cause, and a sentence with its subject and
//! the way out.

use crate::engine::{Cause, Trouble};
use crate::model::{SyncPath, text};
use rustix::io::Errno;

/// `doing` completes "cannot ...", as in "read" or "replace".
pub fn trouble(doing: &str, path: Option<&SyncPath>, e: Errno) -> Trouble {
    let subject = path.map_or_else(|| "the folder".to_owned(), |path| format!("'{path}'"));
    let cause = cause(e);
    let way_out = match cause {
        Cause::NoSpace => "; free some space or raise the quota",
        Cause::Denied if e == Errno::ROFS => "; mount the file system read-write",
        Cause::Denied => "; give the daemon's user access to it and to its folders",
        Cause::Name => "; rename it on a machine that has it",
        Cause::Other if e == Errno::IO => {
            "; the disk is failing or gone (dmesg tells): replace it, then save the file again"
        }
        Cause::Other if matches!(e, Errno::MFILE | Errno::NFILE) => {
            "; raise the limit of open files (ulimit -n, or LimitNOFILE=)"
        }
        Cause::HistoryFull | Cause::Other => "",
    };
    let why = text::escape(std::io::Error::from(e).to_string().as_bytes());
    Trouble { cause, text: format!("cannot {doing} {subject}: {why}{way_out}") }
}

fn cause(e: Errno) -> Cause {
    match e {
        Errno::NOSPC | Errno::DQUOT => Cause::NoSpace,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Cause::Denied,
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => Cause::Name,
        _ => Cause::Other,
    }
}

/// The number of an I/O error; `EIO` where it has none.
pub fn errno(e: &std::io::Error) -> Errno {
    Errno::from_io_error(e).unwrap_or(Errno::IO)
}
