//! Large files that get another time, and what is written to them meanwhile.

use super::*;
use crate::io::fs::install::beside::reads_much;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

const LARGE: u64 = 64 << 20;

impl InstallFixture {
    /// A large file with a hole, and the job that gives it another time.
    fn large(&self, name: &str) -> Job {
        let mut file = File::create(self.at(name)).unwrap();
        file.write_all(name.as_bytes()).unwrap();
        file.set_len(LARGE).unwrap();
        let (content, size) = beneath::content_of(&File::open(self.at(name)).unwrap()).unwrap();
        self.job(name, Kind::File { size, content }, Source::InPlace)
    }

    /// A user's write of a few bytes.
    fn edit(&self, name: &str) {
        let mut file = OpenOptions::new().write(true).open(self.at(name)).unwrap();
        file.seek(SeekFrom::Start(LARGE / 2)).unwrap();
        file.write_all(b"by a user").unwrap();
    }

    fn made(&self, job: &Job) -> Result<Prepared, Outcome> {
        self.site.make_or_prove(job)
    }

    fn placed(&self, job: &Job, made: Prepared) -> Outcome {
        let settled = self.site.settle(self.site.place_all(vec![job.clone()], vec![Ok(made)]));
        settled.outcomes.into_iter().next().unwrap().1
    }
}

#[test]
fn a_large_file_that_gets_another_time_is_read_beside_and_its_job_ends_once() {
    let folder = InstallFixture::new();
    let (events, received) = Events::channel();
    let Site { root, stage, history, .. } = folder.site.clone();
    let applier = Applier::new(root, stage, history, events).unwrap();
    let large = Job { id: JobId(1), ..folder.large("large") };
    let kind = folder.large("from").entry.kind;
    let source = Source::Copy { from: path("from"), stat: folder.stat("from").unwrap() };
    let copy = Job { id: JobId(2), ..new("copy", kind, source) };
    std::thread::scope(|scope| {
        scope.spawn(|| applier.stage());
        scope.spawn(|| applier.install());
        let _stop = StopAtEnd(&applier);
        applier.queue(vec![large, copy, Job { id: JobId(3), ..file("small", "content") }]);
        let ended = || match received.recv().unwrap() {
            Event::Installed { job, outcome } => (job, done(&outcome).0),
            other => panic!("{other:?}"),
        };
        // Nobody reads yet, and the small one is there.
        assert_eq!(ended(), (JobId(3), folder.stat("small")));
        scope.spawn(|| applier.read());
        let mut others = [ended(), ended()];
        others.sort_by_key(|(job, _)| *job);
        assert_eq!(others, [(JobId(1), folder.stat("large")), (JobId(2), folder.stat("copy"))]);
    });
    assert_eq!(folder.stat("large").unwrap().mtime, MTIME);
    assert_eq!(folder.stat("copy").map(|stat| stat.size), Some(LARGE));
    folder.assert_nothing_staged();
}

#[test]
fn what_is_written_after_the_first_reading_is_looked_at_anew_and_keeps_its_time() {
    let folder = InstallFixture::new();
    let job = folder.large("f");
    let made = folder.made(&job).unwrap_or_else(|outcome| panic!("{outcome:?}"));
    assert!(matches!(made, Prepared::Proven));
    folder.edit("f");
    assert_eq!(folder.placed(&job, made), Outcome::Stale);
    assert!(folder.stat("f").unwrap().mtime > MTIME);
    // And before it: the stat is not the expected one any more, which is no rot.
    assert!(matches!(folder.made(&job), Err(Outcome::Stale)));
    std::fs::remove_file(folder.at("f")).unwrap();
    assert!(matches!(folder.made(&job), Err(Outcome::Stale)));
}

#[test]
fn a_write_just_before_the_time_is_set_is_found_by_the_second_reading() {
    let folder = InstallFixture::new();
    let job = folder.large("f");
    let made = folder.made(&job).unwrap_or_else(|outcome| panic!("{outcome:?}"));
    let (stat, _) = done(&folder.placed(&job, made));
    assert_eq!(stat, folder.stat("f"));
    assert_eq!(folder.site.prove_again(&job, stat.as_ref()), Ok(()));
    folder.edit("f");
    let handle = File::open(folder.at("f")).unwrap();
    rustix::fs::futimens(&handle, &prepare::times(MTIME)).unwrap();
    assert_eq!(folder.site.prove_again(&job, stat.as_ref()), Err(Outcome::Stale));
    assert!(folder.stat("f").unwrap().mtime > MTIME, "a look would take it for what was installed");
    std::fs::rename(folder.at("f"), folder.at("elsewhere")).unwrap();
    folder.write("f", "another");
    assert_eq!(folder.site.prove_again(&job, stat.as_ref()), Err(Outcome::Stale));
}

#[test]
fn bytes_that_rotted_in_a_large_file_get_no_other_time() {
    let folder = InstallFixture::new();
    let job = folder.large("f");
    let rotten = Kind::File { size: LARGE, content: ContentId::of(b"what it was") };
    let job = Job { entry: Entry { kind: rotten, ..job.entry.clone() }, ..job };
    assert!(matches!(folder.made(&job), Err(Outcome::NotItsContent)));
}

#[test]
fn who_reads_a_large_file_stops_when_the_daemon_does() {
    let folder = InstallFixture::new();
    let job = folder.large("f");
    let before = folder.stat("f");
    folder.site.is_stopping.store(true, Ordering::Relaxed);
    assert!(matches!(folder.made(&job), Err(Outcome::Stale)));
    assert_eq!(folder.site.prove_again(&job, before.as_ref()), Err(Outcome::Stale));
    assert_eq!(folder.stat("f"), before, "an unfinished reading says nothing of the bytes");
}

#[test]
fn what_takes_reading_a_large_file_is_known_beforehand() {
    let folder = InstallFixture::new();
    let job = folder.large("f");
    let stat = folder.stat("f").unwrap();
    let with = |source| Job { source, ..job.clone() };
    assert!(reads_much(&job));
    assert!(reads_much(&with(Source::Copy { from: path("g"), stat })));
    assert!(reads_much(&with(Source::Kept { kept: "g".to_owned(), stat })));
    assert!(!reads_much(&with(Source::Staged(StageId(1)))), "it was hashed as it came");
    let same_time = Entry { mtime: stat.mtime, ..job.entry.clone() };
    assert!(!reads_much(&Job { entry: same_time, ..job.clone() }), "permissions alone");
    let small = Kind::File { size: LARGE - 1, content: ContentId([1; 32]) };
    assert!(!reads_much(&Job { entry: Entry { kind: small, ..job.entry.clone() }, ..job }));
}
