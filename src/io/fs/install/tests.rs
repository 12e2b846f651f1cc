//! Installing on a real folder: every outcome, and what comes in between.

mod attributes;
mod beside;
mod change;
mod races;

use super::*;
use crate::engine::{RetainReason, StageId};
use crate::model::{ContentId, DeviceId, Entry, FileTime, Kind, Mode, Version, VersionVector};
use bytes::Bytes;
use rstest::rstest;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

const MTIME: FileTime = FileTime { secs: 1_600_000_000, nanos: 123_456_789 };

struct InstallFixture {
    temp: tempfile::TempDir,
    site: Site,
}

impl InstallFixture {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(temp.path()).unwrap());
        let stage = Stage::open(Arc::clone(&root)).unwrap();
        let history = History::open(Arc::clone(&root), Arc::clone(&stage));
        let syncer = Arc::new(root.syncer().unwrap());
        Self { temp, site: Site { root, stage, history, syncer, is_stopping: Arc::default() } }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.at(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap()
    }

    fn stat(&self, name: &str) -> Option<Stat> {
        self.site.root.stat(&path(name)).unwrap()
    }

    fn install(&self, jobs: Vec<Job>) -> Vec<Outcome> {
        let prepared = self.site.prepare_all(&jobs, true);
        let (made, _) = self.site.make_durable(&jobs, prepared);
        let settled = self.site.settle(self.site.place_all(jobs, made));
        settled.outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn one(&self, job: Job) -> Outcome {
        self.install(vec![job]).remove(0)
    }

    /// A job against what is there now.
    fn job(&self, name: &str, kind: Kind, source: Source) -> Job {
        Job { expect: self.stat(name), ..new(name, kind, source) }
    }

    fn kept(&self) -> Vec<(String, String)> {
        let mut kept: Vec<_> = self
            .site
            .history
            .list(None)
            .unwrap()
            .into_iter()
            .map(|k| {
                (
                    k.path.to_text(),
                    std::fs::read_to_string(self.at(".dirsync/history").join(k.name)).unwrap_or_default(),
                )
            })
            .collect();
        kept.sort();
        kept
    }

    fn assert_nothing_staged(&self) {
        assert_eq!(self.site.staged_names(), 0);
    }
}

fn path(name: &str) -> SyncPath {
    SyncPath::new(name).unwrap()
}

fn new(name: &str, kind: Kind, source: Source) -> Job {
    let version = Version { stamp: 1, author: DeviceId([0; 32]), seen: VersionVector::default() };
    let entry = Entry { kind, mode: Mode(0o640), mtime: MTIME, version };
    Job { id: JobId(1), path: path(name), entry, expect: None, source, keep: RetainReason::Replaced, since_ns: 0 }
}

fn kind(content: &str) -> Kind {
    Kind::File { size: content.len() as u64, content: ContentId::of(content.as_bytes()) }
}

fn bytes(content: &str) -> Source {
    Source::Bytes(Bytes::copy_from_slice(content.as_bytes()))
}

fn file(name: &str, content: &str) -> Job {
    new(name, kind(content), bytes(content))
}

fn deletion() -> Kind {
    Kind::Deleted { at: 1 }
}

fn done(outcome: &Outcome) -> (Option<Stat>, Option<String>) {
    match outcome {
        Outcome::Done { stat, kept } => (*stat, kept.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_file_has_its_bytes_mode_and_mtime_to_the_nanosecond() {
    let folder = InstallFixture::new();
    for name in ["a", "empty", "line\nbreak", "-rf", &"x".repeat(255)] {
        let content = if name == "empty" { "" } else { name };
        let (stat, kept) = done(&folder.one(file(name, content)));
        assert_eq!(folder.read(name), content);
        assert_eq!((stat, kept), (folder.stat(name), None));
        let stat = stat.unwrap();
        assert_eq!((stat.mode, stat.mtime), (Mode(0o640), MTIME), "{name:?}");
    }
    let odd = SyncPath::new(b"\xff\xfe").unwrap();
    done(&folder.one(Job { path: odd, ..file("x", "odd") }));
    assert_eq!(std::fs::read(folder.temp.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe"))).unwrap(), b"odd");
    folder.assert_nothing_staged();
}

#[test]
fn a_replaced_file_goes_to_history_and_keeps_its_attributes() {
    let folder = InstallFixture::new();
    folder.write("a", "old");
    let has_attributes =
        rustix::fs::setxattr(folder.at("a"), "user.color", b"red", rustix::fs::XattrFlags::empty()).is_ok();
    let (stat, kept) = done(&folder.one(folder.job("a", kind("new"), bytes("new"))));
    assert_eq!((folder.read("a").as_str(), stat), ("new", folder.stat("a")));
    assert_eq!(folder.kept(), [("a".to_owned(), "old".to_owned())]);
    assert_eq!(folder.site.history.list(None).unwrap()[0].name, kept.unwrap());
    if has_attributes {
        let mut value = [0; 8];
        assert_eq!(rustix::fs::getxattr(folder.at("a"), "user.color", &mut value[..]), Ok(3));
    }
    folder.assert_nothing_staged();
}

#[test]
fn deleting_moves_to_history_and_removes_only_empty_folders() {
    let folder = InstallFixture::new();
    folder.write("a", "old");
    let (stat, kept) =
        done(&folder.one(Job { keep: RetainReason::Deleted, ..folder.job("a", deletion(), Source::Nothing) }));
    assert_eq!((stat, folder.stat("a")), (None, None));
    assert!(kept.unwrap().contains(".deleted.a"));
    assert_eq!(folder.kept(), [("a".to_owned(), "old".to_owned())]);

    std::fs::create_dir(folder.at("d")).unwrap();
    folder.write("d/x", "x");
    assert_eq!(folder.one(folder.job("d", deletion(), Source::Nothing)), Outcome::NotEmpty);
    let jobs = vec![folder.job("d/x", deletion(), Source::Nothing), folder.job("d", deletion(), Source::Nothing)];
    assert!(folder.install(jobs).iter().all(|outcome| matches!(outcome, Outcome::Done { .. })));
    assert_eq!(folder.stat("d"), None);
    done(&folder.one(folder.job("never", deletion(), Source::Nothing)));
}

#[test]
fn what_is_not_expected_is_left_alone() {
    let folder = InstallFixture::new();
    folder.write("a", "user");
    assert_eq!(folder.one(file("a", "new")), Outcome::Stale, "nothing was expected");
    let mut other = folder.stat("a").unwrap();
    other.ctime.nanos ^= 1;
    for (kind, source) in [(kind("new"), bytes("new")), (deletion(), Source::Nothing), (kind("user"), Source::InPlace)]
    {
        let job = Job { expect: Some(other), ..new("a", kind, source) };
        assert_eq!(folder.one(job), Outcome::Stale);
    }
    assert_eq!(folder.one(Job { expect: Some(other), ..file("gone", "new") }), Outcome::Stale);
    assert_eq!((folder.read("a").as_str(), folder.kept().len()), ("user", 0));
    folder.assert_nothing_staged();
}

#[test]
fn bytes_that_are_not_the_content_are_never_installed() {
    let folder = InstallFixture::new();
    folder.write("from", "other");
    let from = Source::Copy { from: path("from"), stat: folder.stat("from").unwrap() };
    for source in [bytes("evil"), bytes("longer than said"), from] {
        assert_eq!(folder.one(new("a", kind("good"), source)), Outcome::BadContent);
    }
    assert_eq!(folder.one(new("a", kind("good"), Source::Staged(StageId(99)))), Outcome::NoSource);
    assert_eq!(folder.one(new("a", kind("good"), Source::Nothing)), Outcome::NoSource);
    assert_eq!(folder.stat("a"), None);
    folder.assert_nothing_staged();
}

#[test]
fn a_copy_needs_its_source_as_it_was() {
    let folder = InstallFixture::new();
    folder.write("from", "content");
    let stat = folder.stat("from").unwrap();
    let copy = |stat| new("to", kind("content"), Source::Copy { from: path("from"), stat });
    done(&folder.one(copy(stat)));
    assert_eq!(folder.read("to"), "content");
    std::fs::remove_file(folder.at("to")).unwrap();
    folder.write("from", "contenT");
    assert_eq!(folder.one(copy(stat)), Outcome::NoSource);
    std::fs::remove_file(folder.at("from")).unwrap();
    assert_eq!(folder.one(copy(stat)), Outcome::NoSource);
    folder.assert_nothing_staged();
}

#[test]
fn what_went_to_history_is_copied_from_there_while_it_is_what_it_was() {
    let folder = InstallFixture::new();
    folder.write("old", "content");
    let stat = folder.stat("old").unwrap();
    let (_, kept) =
        done(&folder.one(Job { keep: RetainReason::Deleted, ..folder.job("old", deletion(), Source::Nothing) }));
    let kept = kept.unwrap();
    let back = |name: &str| new(name, kind("content"), Source::Kept { kept: kept.clone(), stat });
    done(&folder.one(back("new")));
    assert_eq!(folder.read("new"), "content");
    assert_eq!(folder.kept(), [("old".to_owned(), "content".to_owned())], "history still has it");
    std::fs::write(folder.at(".dirsync/history").join(&kept), "written late").unwrap();
    assert_eq!(folder.one(back("again")), Outcome::NoSource);
    std::fs::remove_file(folder.at(".dirsync/history").join(&kept)).unwrap();
    assert_eq!(folder.one(back("again")), Outcome::NoSource);
    folder.assert_nothing_staged();
}

#[test]
fn a_large_copy_is_what_it_was_made_of_also_its_end() {
    let folder = InstallFixture::new();
    // Past what is always cached.
    let size = (64 << 20) + 5_000;
    let content: Vec<u8> = (0..size as u64).map(|n| ((n * n) >> 9) as u8).collect();
    std::fs::write(folder.at("from"), &content).unwrap();
    let kind = Kind::File { size: size as u64, content: ContentId::of(&content) };
    let source = Source::Copy { from: path("from"), stat: folder.stat("from").unwrap() };
    let outcome = folder.one(new("to", kind, source));
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    assert!(std::fs::read(folder.at("to")).unwrap() == content);
}

/// A clone is as long as the source has become, a copy as long as it was.
#[test]
fn of_a_source_that_grew_since_it_was_looked_at_no_more_is_copied() {
    let folder = InstallFixture::new();
    folder.write("from", "content and more");
    let (id, file) = folder.site.stage.create_file().unwrap();
    let mut new = prepare::NewFile::Named(id, file);
    let source = File::open(folder.at("from")).unwrap();
    let (_, hash) = prepare::copy_hashing(&folder.site, source, || None, &mut new, 7).unwrap();
    if let Some(hash) = hash {
        let copied = std::fs::read(folder.at(".dirsync/staging").join(staging::name(id))).unwrap();
        assert_eq!((hash, &copied[..]), (ContentId::of(b"content"), &b"content"[..]));
    }
}

#[test]
fn a_staged_content_is_installed_or_stays_for_another_try() {
    let folder = InstallFixture::new();
    let mut writer = folder.site.stage.create(7).unwrap();
    writer.write(b"content").unwrap();
    let id = writer.finish(&ContentId::of(b"content")).unwrap();
    let job = || {
        let mut job = new("a", kind("content"), Source::Staged(id));
        job.entry.mode = Mode::NONE;
        job
    };
    folder.write("a", "user");
    assert_eq!(folder.one(job()), Outcome::Stale);
    std::fs::remove_file(folder.at("a")).unwrap();
    let (stat, _) = done(&folder.one(job()));
    assert_eq!(stat.unwrap().mode, Mode(0));
    folder.assert_nothing_staged();
}

#[test]
fn permissions_and_mtime_change_in_place() {
    let folder = InstallFixture::new();
    folder.write("a", "same");
    let before = folder.stat("a").unwrap();
    let (stat, kept) = done(&folder.one(folder.job("a", kind("same"), Source::InPlace)));
    let stat = stat.unwrap();
    assert_eq!((stat.ino, stat.mode, stat.mtime, kept), (before.ino, Mode(0o640), MTIME, None));
    assert_eq!(Some(stat), folder.stat("a"));

    std::fs::create_dir(folder.at("d")).unwrap();
    let (stat, _) = done(&folder.one(folder.job("d", Kind::Directory, Source::Nothing)));
    assert_eq!(stat.unwrap().mode, Mode(0o640));
}

#[test]
fn an_mtime_is_not_set_over_an_edit_that_left_the_stat_alone() {
    let folder = InstallFixture::new();
    folder.write("a", "EDIT");
    let job = folder.job("a", kind("same"), Source::InPlace);
    let before = folder.stat("a");
    assert_eq!(folder.one(job), Outcome::NotItsContent);
    assert_eq!(folder.stat("a"), before);
}

#[test]
fn a_file_of_several_names_is_replaced_and_never_written_through() {
    let folder = InstallFixture::new();
    folder.write("a", "same");
    std::fs::hard_link(folder.at("a"), folder.at("b")).unwrap();
    let b = std::fs::metadata(folder.at("b")).unwrap();
    done(&folder.one(folder.job("a", kind("same"), Source::InPlace)));
    let now = std::fs::metadata(folder.at("b")).unwrap();
    assert_eq!((now.mode(), now.mtime_nsec(), now.ino()), (b.mode(), b.mtime_nsec(), b.ino()));
    assert_eq!(folder.stat("a").unwrap().mtime, MTIME);
}

#[test]
fn links_and_folders_are_made_and_swapped_with_files() {
    let folder = InstallFixture::new();
    let link = |target: &str| Kind::Symlink { target: target.as_bytes().to_vec() };
    let (stat, _) = done(&folder.one(new("x", link("../../etc/passwd"), Source::Nothing)));
    assert_eq!((stat.unwrap().mtime, stat), (MTIME, folder.stat("x")));
    let (stat, _) = done(&folder.one(folder.job("x", Kind::Directory, Source::Nothing)));
    assert_eq!((stat.unwrap().mode, stat), (Mode(0o640), folder.stat("x")));
    done(&folder.one(folder.job("x", kind("file"), bytes("file"))));
    done(&folder.one(folder.job("x", link("there"), Source::Nothing)));
    assert_eq!(std::fs::read_link(folder.at("x")).unwrap(), PathBuf::from("there"));
    assert_eq!(folder.kept().len(), 2, "the first link and the file");
    let (stat, kept) = done(&folder.one(folder.job("x", link("there"), Source::InPlace)));
    assert_eq!((stat.unwrap().mtime, kept), (MTIME, None));
    folder.assert_nothing_staged();
}

#[test]
fn a_folder_that_holds_something_is_not_replaced() {
    let folder = InstallFixture::new();
    std::fs::create_dir(folder.at("d")).unwrap();
    folder.write("d/theirs", "precious");
    assert_eq!(folder.one(folder.job("d", kind("file"), bytes("file"))), Outcome::NotEmpty);
    assert_eq!(folder.read("d/theirs"), "precious");
    folder.assert_nothing_staged();
}

#[test]
fn a_batch_is_done_in_order_and_in_parts() {
    let folder = InstallFixture::new();
    let mut jobs = vec![new("d", Kind::Directory, Source::Nothing)];
    jobs[0].entry.mode = Mode(0o755);
    jobs.extend((0..500).map(|i| file(&format!("d/{i}"), &format!("content {i}"))));
    jobs.push(file("no/parent", "x"));
    let outcomes = folder.install(jobs);
    assert_eq!(outcomes.iter().filter(|o| matches!(o, Outcome::Done { .. })).count(), 501);
    assert_eq!(outcomes.last(), Some(&Outcome::NoParent));
    assert_eq!(folder.read("d/499"), "content 499");
    folder.assert_nothing_staged();
}

#[test]
fn a_folder_swapped_for_a_link_leads_nowhere() {
    let folder = InstallFixture::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("a"), "outside").unwrap();
    symlink(outside.path(), folder.at("d")).unwrap();
    assert_eq!(folder.one(file("d/new", "x")), Outcome::NoParent);
    assert_eq!(folder.one(new("d/a", deletion(), Source::Nothing)), Outcome::NoParent);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    folder.assert_nothing_staged();
}

/// Of an executable that is open for writing there is no execution (`ETXTBSY`); of descriptors
/// there is an end.
#[test]
fn a_new_file_has_no_name_before_its_place_unless_it_is_executable_or_too_many_are_open() {
    let folder = InstallFixture::new();
    let prepare = |name: &str, mode| {
        let job = Job { entry: Entry { mode: Mode(mode), ..file(name, "x").entry }, ..file(name, "x") };
        let made = prepare(&folder.site, &mut InstallBatch::new(true), &job).unwrap_or_else(|_| panic!("it is staged"));
        (job, made)
    };
    let mut waiting = Vec::new();
    while let (job, made @ Prepared::Nameless(..)) = prepare(&format!("f{}", waiting.len()), 0o644) {
        assert_eq!(folder.site.staged_names(), 0);
        waiting.push((job, made));
    }
    assert!(waiting.len() >= 64, "{}", waiting.len());
    assert_eq!(folder.site.staged_names(), 1, "the one too many");
    waiting.pop();
    assert!(matches!(prepare("program", 0o755).1, Prepared::Staged(_)));
    assert!(matches!(prepare("text", 0o644).1, Prepared::Nameless(..)), "there is room again");
    let (job, made) = waiting.remove(0);
    let settled = folder.site.settle(folder.site.place_all(vec![job], vec![Ok(made)]));
    done(&settled.outcomes[0].1);
    let installed = folder.stat("f0").unwrap();
    assert_eq!((folder.read("f0").as_str(), installed.mode, installed.mtime), ("x", Mode(0o644), MTIME));
}

/// The umask takes nothing away.
#[test]
fn whatever_mode_is_wanted_is_what_a_new_file_of_a_large_batch_has() {
    let folder = InstallFixture::new();
    let modes = [0o600, 0o644, 0o666, 0o444, 0o222, 0o000, 0o660, 0o604];
    let job = |n: usize| {
        let mut job = file(&format!("f{n:03}"), &n.to_string());
        job.entry.mode = Mode(modes[n % modes.len()]);
        job
    };
    let wanted: Vec<_> = (0..=SHARED_JOBS).map(job).collect();
    let modes: Vec<_> = wanted.iter().map(|job| job.entry.mode).collect();
    let outcomes = folder.install(wanted);
    let stats: Vec<_> = outcomes.iter().map(|outcome| done(outcome).0.unwrap()).collect();
    assert_eq!(stats.iter().map(|stat| stat.mode).collect::<Vec<_>>(), modes);
    assert!(stats.iter().enumerate().all(|(n, stat)| folder.stat(&format!("f{n:03}")) == Some(*stat)));
}

#[test]
fn without_exchange_the_old_one_is_linked_to_history_first() {
    let folder = InstallFixture::new();
    folder.site.root.pretend_no_exchange();
    done(&folder.one(file("f", "1")));
    done(&folder.one(folder.job("f", kind("2"), bytes("2"))));
    assert_eq!((folder.read("f").as_str(), folder.kept()), ("2", vec![("f".to_owned(), "1".to_owned())]));
    assert_eq!(folder.one(file("f", "3")), Outcome::Stale);
    done(&folder.one(folder.job("f", Kind::Directory, Source::Nothing)));
    done(&folder.one(folder.job("f", kind("4"), bytes("4"))));
    done(&folder.one(folder.job("f", deletion(), Source::Nothing)));
    assert_eq!((folder.stat("f"), folder.kept().len()), (None, 3));
    folder.assert_nothing_staged();
}

#[test]
fn what_is_restored_is_a_new_edit_and_replaces_nothing_for_good() {
    let folder = InstallFixture::new();
    std::fs::create_dir(folder.at("d")).unwrap();
    folder.write("d/f", "first");
    std::fs::set_permissions(folder.at("d/f"), std::fs::Permissions::from_mode(0o750)).unwrap();
    let (_, kept) = done(&folder.one(folder.job("d/f", kind("second"), bytes("second"))));
    let kept = kept.unwrap();
    folder.site.history.restore(&kept, &path("d/f")).unwrap();
    let stat = folder.stat("d/f").unwrap();
    assert_eq!((folder.read("d/f").as_str(), stat.mode), ("first", Mode(0o750)));
    assert!(stat.mtime > MTIME);
    assert_eq!(folder.kept().iter().map(|(_, content)| content.as_str()).collect::<Vec<_>>(), ["first", "second"]);

    folder.site.history.restore(&kept, &path("new/folders/f")).unwrap();
    assert_eq!(folder.read("new/folders/f"), "first");
    assert!(matches!(folder.site.history.restore("../marker", &path("m")), Err(RestoreError::NotKept(_))));
    assert!(matches!(folder.site.history.restore(&kept, &path("d")), Err(RestoreError::NotEmpty(_))));
    assert!(matches!(folder.site.history.restore(&kept, &path("d/f/g")), Err(RestoreError::NoParent(_))));
    folder.assert_nothing_staged();
}

#[test]
fn a_new_file_takes_its_folders_owner_and_a_replaced_one_keeps_its_own() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root: a_new_file_takes_its_folders_owner_and_a_replaced_one_keeps_its_own");
        return;
    }
    let folder = InstallFixture::new();
    std::fs::create_dir(folder.at("d")).unwrap();
    std::os::unix::fs::chown(folder.at("d"), Some(1234), Some(1235)).unwrap();
    let owner = |name: &str| std::fs::symlink_metadata(folder.at(name)).map(|m| (m.uid(), m.gid())).unwrap();
    done(&folder.one(file("d/f", "x")));
    done(&folder.one(new("d/l", Kind::Symlink { target: b"x".to_vec() }, Source::Nothing)));
    done(&folder.one(new("d/e", Kind::Directory, Source::Nothing)));
    assert_eq!([owner("d/f"), owner("d/l"), owner("d/e")], [(1234, 1235); 3]);
    std::os::unix::fs::chown(folder.at("d/f"), Some(99), Some(98)).unwrap();
    done(&folder.one(folder.job("d/f", kind("y"), bytes("y"))));
    assert_eq!(owner("d/f"), (99, 98));
}

#[test]
fn the_thread_reports_each_job_once() {
    let folder = InstallFixture::new();
    let (events, received) = Events::channel();
    let Site { root, stage, history, .. } = folder.site.clone();
    let applier = Applier::new(root, stage, history, events).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| applier.stage());
        scope.spawn(|| applier.install());
        let _stop = StopAtEnd(&applier);
        for i in 0..6000_u64 {
            let name = format!("d{}/{i}", i % 20);
            if i < 20 {
                let made = new(&format!("d{i}"), Kind::Directory, Source::Nothing);
                let entry = Entry { mode: Mode(0o755), ..made.entry.clone() };
                applier.queue(vec![Job { entry, id: JobId(i + 10_000), ..made }]);
            }
            applier.queue(vec![Job { id: JobId(i), ..file(&name, "content") }]);
        }
        let mut seen = BTreeSet::new();
        for _ in 0..6020 {
            match received.recv().unwrap() {
                Event::Installed { job, outcome } => {
                    done(&outcome);
                    assert!(seen.insert(job));
                }
                other => panic!("{other:?}"),
            }
        }
    });
    folder.assert_nothing_staged();
}

/// Ends the thread also when an assertion fails.
struct StopAtEnd<'a>(&'a Applier);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
