//! All folders of this user on this machine: those that a daemon holds open, asked side by side,
//! and those of which only the state is kept.
//!
//! The kernel's list of sockets says which daemons run, and whose they are: there is no file of
//! ours that could be stale. State directories say which folders were synced. Deliberately not
//! here: words and tables (`cli/`).

use super::absent::AbsenceKind;
use super::{Client, ClientError, Folder, shown};
use crate::io::control::by_inode::{self, FolderInode};
use crate::options::{self, KeptState};
use crate::service::installed;
use crate::views::status::StatusView;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Root asks so many daemons of each other user, and reads so much of an answer: anyone may listen
/// under such names, and say anything.
const DAEMONS_OF_ANOTHER: usize = 64;
const ANSWER_OF_ANOTHER_BYTES: usize = 1 << 20;
/// Descriptors of a process that are looked at.
const DESCRIPTORS: usize = 4096;

/// What is here.
#[derive(Debug, Default)]
pub struct FolderSurvey {
    /// Those that run first, then by their names.
    pub folders: Vec<SurveyedFolder>,
    /// Daemons that this user cannot ask.
    pub unasked: u64,
}

/// One folder, and what was learned of it.
#[derive(Debug)]
pub struct SurveyedFolder {
    /// Safe to print; none of a daemon that does not answer and shows no folder.
    pub directory: Option<String>,
    /// Its daemon's.
    pub pid: Option<i32>,
    pub uid: Option<u32>,
    pub state_dir: Option<String>,
    pub answer: FolderAnswer,
}

#[derive(Debug)]
pub enum FolderAnswer {
    Status(Box<StatusView>),
    /// A daemon runs and does not say how it is: why.
    Silent(String),
    /// Nobody listens for it.
    Absent(AbsenceKind),
    /// The folder that the state belongs to is not where it was.
    Gone,
}

/// Takes little longer than `limit`, whatever hangs.
pub async fn survey(limit: Duration) -> FolderSurvey {
    let environment = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let homes = options::state_homes(environment);
    let listeners = listeners();
    let mut asked = JoinSet::new();
    for listener in listeners.ours {
        asked.spawn(async move { Some(ask(listener, limit).await) });
    }
    let kept = within(limit, move || options::kept_states(&homes)).await.unwrap_or_default();
    let taken = Arc::new(listeners.taken);
    for state in kept {
        asked.spawn(ask_kept(state, limit, Arc::clone(&taken)));
    }
    let mut folders: Vec<_> = asked.join_all().await.into_iter().flatten().collect();
    let rank = |folder: &SurveyedFolder| match folder.answer {
        FolderAnswer::Status(_) | FolderAnswer::Silent(_) => 0,
        FolderAnswer::Absent(_) => 1,
        FolderAnswer::Gone => 2,
    };
    folders.sort_by(|a, b| (rank(a), &a.directory, a.pid).cmp(&(rank(b), &b.directory, b.pid)));
    // Two states may be kept of one folder.
    folders.dedup_by(|a, b| rank(a) == 1 && rank(b) == 1 && a.directory == b.directory);
    FolderSurvey { folders, unasked: listeners.unasked }
}

/// A daemon that may be asked.
struct Listener {
    folder: FolderInode,
    stream: UnixStream,
    pid: Option<i32>,
    uid: u32,
}

#[derive(Default)]
struct Listeners {
    ours: Vec<Listener>,
    /// Their folders.
    taken: BTreeSet<FolderInode>,
    unasked: u64,
}

/// Root's are asked by root alone: others are turned away there.
fn listeners() -> Listeners {
    let us = rustix::process::geteuid().as_raw();
    let (mut found, mut of_another) = (Listeners::default(), BTreeMap::<u32, usize>::new());
    for folder in by_inode::listening().unwrap_or_default() {
        let dialled = folder.dial().and_then(|stream| Ok((stream.peer_cred()?, stream)));
        let (listener, stream) = match dialled {
            Ok(dialled) => dialled,
            // It ended meanwhile, if it does not refuse more callers than it has.
            Err(why) => {
                found.unasked += u64::from(why.kind() == std::io::ErrorKind::WouldBlock);
                continue;
            }
        };
        let (pid, uid) = (listener.pid().filter(|&pid| pid > 0), listener.uid());
        let count = of_another.entry(uid).or_default();
        *count += 1;
        if uid != us && (us != 0 || *count > DAEMONS_OF_ANOTHER) {
            found.unasked += 1;
            continue;
        }
        found.taken.insert(folder);
        found.ours.push(Listener { folder, stream, pid, uid });
    }
    found
}

async fn ask(listener: Listener, limit: Duration) -> SurveyedFolder {
    let Listener { folder, stream, pid, uid } = listener;
    let question = async {
        let mut client = Client::over(stream, "that folder".to_owned()).await?;
        if uid != rustix::process::geteuid().as_raw() {
            client.answer_bytes = ANSWER_OF_ANOTHER_BYTES;
        }
        client.get::<StatusView>("/v1/status", &[]).await
    };
    let answer = answer(timeout(limit, question).await.ok(), limit);
    if let FolderAnswer::Status(status) = answer {
        return of_status(status, pid, uid);
    }
    let path = within(limit, move || pid.and_then(|pid| held_folder(pid, folder))).await.flatten();
    SurveyedFolder { directory: path.map(|path| shown(&path)), pid, uid: Some(uid), state_dir: None, answer }
}

fn of_status(status: Box<StatusView>, pid: Option<i32>, uid: u32) -> SurveyedFolder {
    SurveyedFolder {
        directory: Some(status.directory.clone()),
        pid,
        uid: Some(uid),
        state_dir: Some(status.state_dir.clone()),
        answer: FolderAnswer::Status(status),
    }
}

/// `None`: the time was over.
fn answer(answered: Option<Result<StatusView, ClientError>>, limit: Duration) -> FolderAnswer {
    match answered {
        Some(Ok(status)) => FolderAnswer::Status(Box::new(status)),
        Some(Err(ClientError::NoDaemon(absence))) => FolderAnswer::Absent(absence.kind),
        Some(Err(ClientError::Broken { why, .. })) => FolderAnswer::Silent(format!("cannot be asked: {why}")),
        Some(Err(why)) => FolderAnswer::Silent(why.to_string()),
        None => FolderAnswer::Silent(format!("no answer within {} s", limit.as_secs_f64())),
    }
}

/// The folder that a process holds open, by the kernel's word.
fn held_folder(pid: i32, folder: FolderInode) -> Option<PathBuf> {
    let list = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().take(DESCRIPTORS);
    let is_it = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|facts| (facts.dev(), facts.ino()) == (folder.device, folder.inode))
    };
    fs::read_link(list.map(|child| child.path()).find(is_it)?).ok()
}

/// What is at the path of a folder whose state is kept.
enum KeptFolder {
    Here(Folder, FolderInode),
    NotOurs,
    Gone,
}

/// `None`: it is among those that are held open.
async fn ask_kept(state: KeptState, limit: Duration, taken: Arc<BTreeSet<FolderInode>>) -> Option<SurveyedFolder> {
    let (directory, state_dir) = (Some(shown(&state.folder)), Some(shown(&state.dir)));
    let (folder, dir) = (state.folder.clone(), state.dir.clone());
    let seen = within(limit, move || match Folder::open(&state.folder) {
        Err(Errno::ACCESS) => KeptFolder::NotOurs,
        Ok(folder) if state.is_of(&state.folder) => match FolderInode::of(&folder.dir) {
            Ok(inode) => KeptFolder::Here(folder, inode),
            Err(_) => KeptFolder::Gone,
        },
        _ => KeptFolder::Gone,
    });
    let (mut pid, mut uid) = (None, None);
    let answer = match seen.await {
        None => FolderAnswer::Silent(format!("its disk does not answer within {} s", limit.as_secs_f64())),
        Some(KeptFolder::Gone) => FolderAnswer::Gone,
        Some(KeptFolder::NotOurs) => FolderAnswer::Silent("its .dirsync belongs to another user".to_owned()),
        Some(KeptFolder::Here(_, inode)) if taken.contains(&inode) => return None,
        Some(KeptFolder::Here(folder, _)) => {
            let question = async {
                let mut client = folder.connect().await?;
                (pid, uid) = (client.pid, Some(client.uid));
                client.get::<StatusView>("/v1/status", &[]).await
            };
            let answered = timeout(limit, question).await.ok();
            answer(answered, limit)
        }
    };
    let answer = match answer {
        FolderAnswer::Absent(AbsenceKind::NotRunning { .. }) => {
            FolderAnswer::Absent(AbsenceKind::NotRunning { start: installed::start(&folder, Some(&dir)) })
        }
        other => other,
    };
    Some(SurveyedFolder { directory, pid, uid, state_dir, answer })
}

/// What a thread of its own finds out, unless a disk keeps it: nobody waits for that thread.
async fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().spawn(move || drop(answer.send(work()))).ok()?;
    timeout(limit, answered).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Instant;
    use tempfile::TempDir;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_listener_that_says_nothing_is_named_by_the_folder_it_holds_open_and_keeps_nobody_waiting() {
        let home = TempDir::new().unwrap();
        let path = home.path().canonicalize().unwrap();
        let held = File::open(&path).unwrap();
        let folder = FolderInode::of(&held).unwrap();
        runtime().block_on(async {
            let listener = folder.listen().unwrap();
            let began = Instant::now();
            let survey = survey(Duration::from_millis(200)).await;
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            let found = survey.folders.iter().find(|found| found.directory == Some(shown(&path))).unwrap();
            assert_eq!(
                (found.pid, found.uid),
                (Some(std::process::id() as i32), Some(rustix::process::geteuid().as_raw()))
            );
            assert!(matches!(&found.answer, FolderAnswer::Silent(why) if why == "no answer within 0.2 s"));
            drop(listener);
        });
    }

    #[test]
    fn a_disk_that_hangs_keeps_nobody_waiting() {
        runtime().block_on(async {
            let hang = || std::thread::sleep(Duration::from_hours(1));
            assert_eq!(within(Duration::from_millis(20), hang).await, None);
            assert_eq!(within(Duration::from_mins(1), || 7).await, Some(7));
        });
    }
}
