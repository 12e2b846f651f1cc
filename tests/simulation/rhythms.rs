//! Programs and people with the rhythms of real work, on files that are old enough to count: what
//! the deletion guard must let through (P8).
//!
//! A rhythm has a folder of its own, which nobody else touches. More than half of what was there
//! may be gone for a moment, and not for good: so nothing may be held in the end. Deliberately not
//! here: what people do to their files one by one (`users`).

use super::ledger::NodeId;
use super::plan::{MS, SECOND};
use super::rng::Rng;
use super::tree::Data;
use super::users::{self, Op};
use super::world::{Happening, World};
use dirsyncd::model::{FileTime, SyncPath};

/// Where all of them work.
pub const WORK: &str = "w";
/// Old files of all rhythms together: below a hundred the guard lets everything through.
const FILES: u64 = 108;
/// When the old files were written, and what is older and newer than they are (seconds since 1970).
const OLD_SECS: i64 = 1_600_000_000;
const OLDER_SECS: i64 = 1_500_000_000;
const NEWER_SECS: i64 = 1_650_000_000;
/// Files that a program deals with in one go.
const AT_ONCE: usize = 8;
const BUILDS: u64 = 4;
const JOBS: u64 = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// A bundler replaces its hashed files at each build.
    Bundler,
    /// Jobs are put into a folder here and taken out there.
    Spool,
    /// Photos move from the inbox to the archive.
    Photos,
    /// `git checkout` of another branch and back.
    Checkout,
    /// `git gc`: one pack for all loose objects.
    Collect,
    /// A tar archive is unpacked over the folder.
    Unpack,
    /// `rm -rf node_modules && npm install`.
    Install,
    /// The folder is renamed again and again.
    Renames,
    /// The folder is renamed, and back.
    UndoneRename,
}

const ALL: [Rhythm; 9] = [
    Rhythm::Bundler,
    Rhythm::Spool,
    Rhythm::Photos,
    Rhythm::Checkout,
    Rhythm::Collect,
    Rhythm::Unpack,
    Rhythm::Install,
    Rhythm::Renames,
    Rhythm::UndoneRename,
];

pub fn some(rng: &mut Rng) -> Vec<Rhythm> {
    (0..=rng.index(3)).map(|_| *rng.pick(&ALL)).collect()
}

/// What a rhythm does at one moment.
pub enum Beat {
    Do(Op),
    /// Whoever takes jobs takes all that are there.
    TakeAll(SyncPath),
}

/// The beats of one rhythm, each with its machine and its time from now (ns).
struct Score<'a> {
    rng: &'a mut Rng,
    folder: String,
    files: u64,
    node: NodeId,
    nodes: usize,
    /// Between two things that are done in one go, at most (ns).
    step_ns: u64,
    at: u64,
    made: u64,
    beats: Vec<(u64, NodeId, Beat)>,
}

impl Score<'_> {
    fn path(&self, name: &str) -> SyncPath {
        users::path(&format!("{}/{name}", self.folder))
    }

    fn file(&self, n: u64) -> SyncPath {
        self.path(&format!("f{n}"))
    }

    /// What stands in an old file, and in its next version.
    fn text(&self, n: u64, version: u64) -> Data {
        Data::small(format!("{} {n} {version};", self.folder))
    }

    fn fresh(&mut self) -> Data {
        self.made += 1;
        Data::small(format!("{} new {};", self.folder, self.made))
    }

    fn act(&mut self, op: Op) {
        self.beats.push((self.at, self.node, Beat::Do(op)));
    }

    fn save(&mut self, path: SyncPath, data: Data, secs: Option<i64>) {
        let mtime = secs.map(|secs| FileTime { secs, nanos: 0 });
        self.act(Op::Save { path, data, mtime });
    }

    /// After some files a program is a step further; `done`: so many.
    fn step(&mut self, done: u64) {
        if (done + 1).is_multiple_of(AT_ONCE as u64) {
            self.at += self.rng.below(self.step_ns + 1);
        }
    }

    /// Until the next build, or until a person does the next thing.
    fn rest(&mut self) {
        self.at += *self.rng.pick(&[5 * MS, 300 * MS, 3 * SECOND, 8 * SECOND]);
    }

    fn write(&mut self, rhythm: Rhythm) {
        match rhythm {
            Rhythm::Bundler => self.builds(),
            Rhythm::Spool => self.jobs(),
            Rhythm::Photos => self.photos(),
            Rhythm::Checkout => self.checkouts(),
            Rhythm::Collect => self.collect(),
            Rhythm::Unpack => self.unpack(),
            Rhythm::Install => self.install(),
            Rhythm::Renames => {
                let times = 2 + self.rng.below(4);
                self.renames(times);
            }
            Rhythm::UndoneRename => {
                let to = format!("{}-renamed", self.folder);
                self.rename(&self.folder.clone(), &to);
                self.rename(&to, &self.folder.clone());
            }
        }
    }

    /// A third of the files are what it makes.
    fn builds(&mut self) {
        let chunks = self.files / 3;
        let mut there: Vec<SyncPath> = (0..chunks).map(|n| self.file(n)).collect();
        for build in 0..BUILDS {
            for (n, path) in std::mem::take(&mut there).into_iter().enumerate() {
                self.act(Op::Remove { path });
                self.step(n as u64);
            }
            for n in 0..chunks {
                // What did not change keeps its name.
                let build = if self.rng.chance(300) { 0 } else { build };
                let path = self.path(&format!("chunk{n}-{build}.js"));
                let data = self.text(n, 100 + build);
                self.save(path.clone(), data, None);
                there.push(path);
                self.step(n);
            }
            self.rest();
        }
    }

    fn jobs(&mut self) {
        let taker = (self.node + 1) % self.nodes;
        for n in 0..JOBS {
            let data = self.fresh();
            self.save(self.path(&format!("spool/job{n}")), data, None);
            self.at += self.rng.below(self.step_ns + 1);
            if n % 3 == 0 {
                self.beats.push((self.at, taker, Beat::TakeAll(self.path("spool"))));
            }
        }
    }

    fn photos(&mut self) {
        let copies = self.rng.chance(300);
        self.act(Op::MakeFolder { path: self.path("archive/2026") });
        for n in 0..self.files {
            let (from, to) = (self.file(n), self.path(&format!("archive/2026/f{n}")));
            if copies {
                // As `mv` between two file systems.
                self.act(Op::Copy { from: from.clone(), to, keep_mtime: true });
                self.act(Op::Remove { path: from });
            } else {
                self.act(Op::Rename { from, to });
            }
            self.step(n);
        }
    }

    /// Of ten files, three differ in the other branch, two are there no more, and two are new.
    fn checkouts(&mut self) {
        let times = 1 + self.rng.below(4);
        for time in 0..times {
            let other = time % 2 == 0;
            for n in 0..self.files {
                let (file, new) = (self.file(n), self.path(&format!("g{n}")));
                match (n % 10, other) {
                    (0..3, _) => self.save(file, self.text(n, u64::from(other)), None),
                    (3 | 4, true) => self.act(Op::Remove { path: file }),
                    (3 | 4, false) => self.save(file, self.text(n, 0), None),
                    (5 | 6, true) => self.save(new, self.text(n, 7), None),
                    (5 | 6, false) => self.act(Op::Remove { path: new }),
                    _ => {}
                }
                self.step(n);
            }
            self.rest();
        }
    }

    fn collect(&mut self) {
        let data = self.fresh();
        self.save(self.path("pack-new"), Data { padding: 200_000, ..data }, None);
        self.rest();
        for n in 0..self.files {
            self.act(Op::Remove { path: self.file(n) });
            self.step(n);
        }
    }

    /// Most is the same, some newer, and some older: fewer than half.
    fn unpack(&mut self) {
        let unlinks = self.rng.chance(500);
        for n in 0..self.files {
            let path = self.file(n);
            let (data, secs) = match n % 5 {
                0 | 1 => (self.text(n, 0), OLD_SECS),
                2 | 3 => (self.fresh(), NEWER_SECS),
                _ => (self.fresh(), OLDER_SECS),
            };
            if unlinks {
                self.act(Op::Remove { path: path.clone() });
                self.step(n);
            }
            self.save(path, data, Some(secs));
            self.step(n);
        }
    }

    fn install(&mut self) {
        for n in 0..self.files {
            self.act(Op::Remove { path: self.file(n) });
            self.step(n);
        }
        self.act(Op::Remove { path: users::path(&self.folder) });
        self.rest();
        for n in 0..self.files {
            match n % 10 {
                0 => {}
                1 => self.save(self.file(n), self.text(n, 1), None),
                _ => self.save(self.file(n), self.text(n, 0), None),
            }
            self.step(n);
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.act(Op::Rename { from: users::path(from), to: users::path(to) });
        self.rest();
    }

    fn renames(&mut self, times: u64) {
        let mut from = self.folder.clone();
        for time in 0..times {
            let to = format!("{}-{time}", self.folder);
            self.rename(&from, &to);
            from = to;
            if self.rng.chance(400) {
                self.node = self.rng.index(self.nodes);
            }
        }
    }
}

impl World {
    /// The files that are there from the start, the same everywhere, and old.
    pub fn lay_work(&mut self) {
        let rhythms = self.plan.rhythms.clone();
        for (at, rhythm) in rhythms.iter().enumerate() {
            let mut files: Vec<_> = (0..FILES / rhythms.len() as u64)
                .map(|n| (format!("{}/f{n}", folder(at)), Data::small(format!("{} {n} 0;", folder(at)))))
                .collect();
            if *rhythm == Rhythm::Collect {
                files.push((format!("{}/pack", folder(at)), Data { text: "pack;".into(), padding: 1 << 20 }));
            }
            for (path, data) in files {
                for node in 0..self.nodes.len() {
                    let mtime = Some(FileTime { secs: OLD_SECS, nanos: 0 });
                    self.user_does(node, &Op::Save { path: users::path(&path), data: data.clone(), mtime });
                }
            }
        }
        self.nodes.iter_mut().for_each(|node| node.disk.sync_all());
    }

    /// They begin while users act; for how long the last of them goes on (ns).
    pub fn plan_rhythms(&mut self) -> u64 {
        let rhythms = self.plan.rhythms.clone();
        let mut last = 0;
        for (at, rhythm) in rhythms.iter().enumerate() {
            let (begin, nodes) = (self.rng.below(self.plan.active_ns + 1), self.nodes.len());
            let step_ns = *self.rng.pick(&[MS, 20 * MS, 200 * MS]);
            let node = self.rng.index(nodes);
            let rng = &mut self.rng;
            let files = FILES / rhythms.len() as u64;
            let folder = folder(at);
            let mut score = Score { rng, folder, files, node, nodes, step_ns, at: begin, made: 0, beats: Vec::new() };
            score.write(*rhythm);
            last = last.max(score.at);
            for (delay, node, beat) in score.beats {
                self.after(delay, Happening::Beat(node, beat));
            }
        }
        last
    }

    pub fn beat(&mut self, node: NodeId, beat: Beat) {
        match beat {
            Beat::Do(op) => self.user_does(node, &op),
            Beat::TakeAll(folder) => {
                let jobs = self.nodes[node].disk.live.listing().into_keys().filter(|path| path.is_below(&folder));
                for path in jobs.collect::<Vec<_>>() {
                    self.user_does(node, &Op::Remove { path });
                }
            }
        }
    }
}

fn folder(at: usize) -> String {
    format!("{WORK}/{at}")
}

/// Whether a path is where rhythms work.
pub fn is_work(path: &SyncPath) -> bool {
    path.components().next() == Some(WORK.as_bytes())
}
