//! What the daemon's shell does with an engine's actions, in simulated time: looks, walks,
//! installs, contents.
//!
//! It decides nothing. Between the steps of one action users go on working, so every race of the
//! real shell that the contract allows can happen here.

use super::bugs::Bug;
use super::disk::{NO_MODE, PathChange};
use super::ledger::NodeId;
use super::network::Parcel;
use super::obstacles::respelled;
use super::plan::MS;
use super::swap::{folder_of, half_adjusted, hints_of, no_space, observe, prepare, read, refused, swap, trouble};
use super::tree::{Body, Data};
use super::world::{Happening, World};
use dirsyncd::engine::{
    Action, Cause, Event, FetchError, FetchId, FoundLoser, Job, LinkId, LocatedKept, Observed, Outcome, RangeId,
    Report, ServedFile, Source, StageId, Stat, StatKind, Trouble, WalkId,
};
use dirsyncd::model::{ContentId, Entry, SyncPath};
use dirsyncd::wire::message::{Message, Sought};
use std::collections::VecDeque;

/// Jobs that are made durable together.
const BATCH: usize = 8;

/// A step of something that takes time on one machine.
pub enum Step {
    Turn,
    Commit(Vec<Action>),
    Tick(u64),
    Hints,
    Inspect { path: SyncPath, known: Option<Stat>, rehash: bool, body: bool },
    InspectAgain { path: SyncPath, observed: Observed },
    Walk { walk: WalkId, left: VecDeque<Option<SyncPath>> },
    InstallNext,
    InstallSwap { job: Job, staged: Option<Data> },
    InstallSync,
    SendContents { to: LinkId, files: Vec<(u32, Option<ServedFile>)> },
    Serve { to: LinkId, stream: FetchId, file: Option<ServedFile> },
    KeepBase { path: SyncPath, entry: Entry, stat: Stat },
    Merge { path: SyncPath, ours: Entry, kept: String, theirs: Entry, stat: Stat },
    Scrub { path: SyncPath, known: Stat },
    ScrubEnd { path: SyncPath, known: Stat, content: ContentId },
    ServeDelta { to: LinkId, stream: FetchId, file: Option<ServedFile> },
    Answer(Event),
}

impl World {
    pub fn act(&mut self, node: NodeId, action: Action) {
        let quick = self.plan.disk_ns;
        if !is_routine(&action) {
            self.last_work = self.now;
        }
        match action {
            Action::Inspect { path, known, rehash, body, .. } => {
                self.step_soon(node, quick, Step::Inspect { path, known, rehash, body });
            }
            Action::Walk { walk, below } => self.step_soon(node, quick, Step::Walk { walk, left: [below].into() }),
            Action::CheckRoot => self.step_soon(node, quick, Step::Answer(Event::Root(self.root(node)))),
            Action::ReadIgnore => {
                let is_unread = self.plan.blind_permille > 0 && self.rng.chance(self.plan.blind_permille);
                let answer = match self.read_patterns(node) {
                    _ if is_unread => Event::IgnoreUnread("it cannot be read".to_owned()),
                    patterns => Event::IgnoreRead(patterns),
                };
                self.step_soon(node, quick, Step::Answer(answer));
            }
            Action::Install(job) => self.queue_install(node, job),
            Action::KeepBase { path, entry, stat } => {
                self.step_soon(node, quick, Step::KeepBase { path, entry, stat });
            }
            Action::FindLoser { path, winner, loser } => {
                let tree = &self.nodes[node].disk.live;
                let holds = |ino: &u64| matches!(&tree.inodes[ino].body, Body::File(data) if loser.file() == Some((data.content(), data.size())));
                let of_path = format!("{}@", path.to_text());
                let kept = tree.history.iter().filter(|(name, ino)| name.starts_with(&of_path) && holds(ino));
                if let Some(kept) = kept.map(|(name, _)| name.clone()).next_back() {
                    self.step_soon(
                        node,
                        quick,
                        Step::Answer(Event::LoserFound(Box::new(FoundLoser { path, winner, loser, kept }))),
                    );
                }
            }
            Action::Merge { path, ours, kept, theirs, stat } => {
                self.merge_later(node, Step::Merge { path, ours, kept, theirs, stat });
            }
            Action::Scrub { path, known, .. } => self.step_soon(node, quick, Step::Scrub { path, known }),
            Action::SetPace(_) => {}
            Action::KeepSuspect { path, stat } => self.keep_suspect(node, &path, stat),
            Action::ListPast { .. } => self.fail(format!("n{node} is asked for its history, and nobody here asks")),
            Action::FindKept(sought) => {
                let found = sought.into_iter().map(|sought| self.find_kept(node, sought)).collect();
                self.step_soon(node, quick, Step::Answer(Event::KeptFound(found)));
            }
            Action::LocateKept(sought) => {
                let located = sought.into_iter().map(|sought| self.locate_kept(node, sought)).collect();
                self.step_soon(node, quick, Step::Answer(Event::KeptLocated(located)));
            }
            Action::DropKept { kept, was, content, path, stat } => {
                self.drop_kept(node, &kept, (&was, content), &path, &stat);
            }
            Action::Discard(stage) => {
                self.nodes[node].staging.remove(&stage);
            }
            Action::Send { to, message } => to.into_iter().for_each(|link| self.send_message(link, message.clone())),
            Action::SendContents { to, files } => self.step_soon(node, quick, Step::SendContents { to, files }),
            Action::Fetch { fetch, from, path, content, size } => {
                if !self.is_up(from) {
                    let event = Event::FetchFailed { fetch, why: FetchError::LinkLost };
                    return self.step_soon(node, quick, Step::Answer(event));
                }
                self.nodes[node].fetches.insert(fetch, from);
                self.send(from, Parcel::Ask { fetch, path, content, size });
            }
            Action::FetchDelta { fetch, from, path, content, size, base } => {
                if !self.is_up(from) {
                    let event = Event::FetchFailed { fetch, why: FetchError::LinkLost };
                    return self.step_soon(node, quick, Step::Answer(event));
                }
                let (base, base_size) = (base.clone(), base.size);
                self.send(from, Parcel::AskDelta { fetch, path, content, size, base: base.content, base_size });
                self.nodes[node].fetches.insert(fetch, from);
                self.nodes[node].bases.insert(fetch, base);
            }
            Action::CancelFetch { fetch } => {
                self.nodes[node].fetches.remove(&fetch);
            }
            Action::OpenPartial { fetch, content, size } => self.open_partial(node, fetch, content, size),
            Action::FetchPart { range, from, path, content, size, part } => {
                self.ask_part(node, range, from, Parcel::AskPart { range, path, content, size, part }, content);
            }
            Action::CancelPart { range } => {
                self.nodes[node].ranges.remove(&range);
            }
            Action::FinishPartial { fetch, content } => self.finish_partial(node, fetch, content),
            Action::ClosePartial { content, keep } => {
                if !keep {
                    self.nodes[node].partials.remove(&content);
                }
            }
            Action::ServePartial { to, stream, content } => self.serve_partial(node, to, stream, content),
            Action::Serve { to, stream, file } => self.step_soon(node, quick, Step::Serve { to, stream, file }),
            Action::ServeDelta { to, stream, file, .. } => {
                self.step_soon(node, quick, Step::ServeDelta { to, stream, file });
            }
            Action::Close { link, .. } if Self::is_with_removed(link) => {}
            Action::Close { link, why } => {
                self.fail(format!("n{node} closes an honest peer's link: {why}"));
                self.close(link);
            }
            Action::Group(group) => self.group_known(node, *group),
            Action::Rekey => self.after(quick, Happening::Rekey(node)),
            Action::NewDevice => self.after(quick, Happening::Renew(node)),
            Action::Report(Report::Merged { path, entry, loser, kept, .. }) => {
                self.check_merged(node, &path, &entry, &loser, &kept);
            }
            Action::Report(Report::Undone { .. }) => self.undone += 1,
            Action::Report(Report::StaysAway { paths }) => self.stays_away.extend(paths),
            Action::Report(Report::Conflict { path, kept, .. }) => {
                self.conflicts += 1;
                self.note_conflict(node, &path, kept.as_ref());
            }
            Action::Report(_) => {}
        }
    }

    /// From here on a disk answers none of what peers ask of it, though its machine lives; or it
    /// does so again.
    pub fn hang(&mut self, node: NodeId, hangs: bool) {
        if hangs && self.nodes[node].is_up() {
            self.trace.note(self.now, format_args!("n{node}'s disk hangs"));
            self.nodes[node].hanging.get_or_insert_default();
        } else if let Some(steps) = self.nodes[node].hanging.take() {
            self.trace.note(self.now, format_args!("n{node}'s disk is back with {} steps", steps.len()));
            for step in steps {
                self.step(node, step);
            }
        }
    }

    pub fn step(&mut self, node: NodeId, step: Step) {
        if let Some(hanging) = &mut self.nodes[node].hanging
            && matches!(step, Step::SendContents { .. } | Step::Serve { .. } | Step::ServeDelta { .. })
        {
            return hanging.push(step);
        }
        match step {
            Step::Turn => self.turn(node),
            Step::Commit(actions) => self.commit(node, actions),
            Step::Tick(due) => {
                if self.nodes[node].tick_due == Some(due) {
                    self.nodes[node].tick_due = None;
                    self.tell(node, Event::Tick);
                }
            }
            Step::Hints => self.hints_arrive(node),
            Step::Inspect { path, known, rehash, body } => self.look(node, path, known, rehash, body),
            Step::InspectAgain { path, observed } => self.look_again(node, path, observed),
            Step::Walk { walk, left } => self.walk(node, walk, left),
            Step::InstallNext => self.install_next(node),
            Step::InstallSwap { job, staged } => self.install_swap(node, job, staged),
            Step::InstallSync => self.install_sync(node),
            Step::SendContents { to, files } => self.send_contents(node, to, &files),
            Step::Serve { to, stream, file } => self.serve(node, to, stream, file.as_ref()),
            Step::KeepBase { path, entry, stat } => self.keep_base(node, path, &entry, stat),
            Step::Merge { path, ours, kept, theirs, stat } => self.merge(node, path, &ours, &kept, (&theirs, stat)),
            Step::Scrub { path, known } => self.scrub(node, path, known),
            Step::ScrubEnd { path, known, content } => self.scrub_end(node, path, known, content),
            Step::ServeDelta { to, stream, file } => self.serve_delta(node, to, stream, file.as_ref()),
            Step::Answer(event) => self.tell(node, event),
        }
    }

    // Hints.

    /// What inotify makes of a change, where the folder is watched. A folder that was moved away is
    /// watched no more.
    pub fn give_hints(&mut self, node: NodeId, changes: &[PathChange], closed: bool) {
        let rng = &mut self.rng;
        let here = &mut self.nodes[node];
        let folds = here.disk.live.folds;
        for change in changes {
            let dir = folder_of(changes, &here.disk.live, &change.path, change.after.is_none());
            if !dir.is_some_and(|dir| here.watched.contains(&dir)) {
                continue;
            }
            let is_echo = here.echo_until.get(&change.path).is_some_and(|until| self.now < *until);
            for hint in hints_of(change, closed, rng.chance(300)).into_iter().flatten().filter(|_| !is_echo) {
                // Whoever opened what is there may have spelled its name otherwise; what is new has
                // the name it got.
                let is_respelled = folds && change.before.is_some() && rng.chance(300);
                let path = if is_respelled { respelled(&change.path) } else { change.path.clone() };
                here.hints.push_back((path, hint));
            }
        }
        for change in changes {
            if let Some((ino, _)) = &change.before
                && change.after.as_ref().is_none_or(|(now, _)| now != ino)
            {
                here.watched.remove(ino);
            }
        }
        if !self.nodes[node].hints.is_empty() {
            self.step_soon(node, self.plan.hint_ns, Step::Hints);
        }
    }

    fn hints_arrive(&mut self, node: NodeId) {
        let hints = std::mem::take(&mut self.nodes[node].hints);
        if hints.is_empty() {
            return;
        }
        self.last_work = self.now;
        if self.rng.chance(self.plan.overflow_permille) {
            if self.has(Bug::LosesHints) {
                return;
            }
            self.tell(node, Event::Overflow);
        } else {
            for (path, hint) in hints {
                self.tell(node, Event::Hint { path, hint });
            }
        }
    }

    // Looks.

    fn look(&mut self, node: NodeId, path: SyncPath, known: Option<Stat>, rehash: bool, body: bool) {
        let body = body && self.rng.chance(900);
        if self.rng.chance(self.plan.blind_permille) {
            let trouble = Trouble { cause: Cause::Other, text: "it cannot be looked at".to_owned() };
            return self.tell(node, Event::Inspected { path, observed: Observed::Failed(trouble) });
        }
        let rehash = rehash && !self.has(Bug::SkipsTheSecondHash);
        let (unsynced, by_size) = (self.has(Bug::TellsUnsynced), self.has(Bug::LooksAtSizeAndMtime));
        let disk = &mut self.nodes[node].disk;
        let stat = disk.live.stat(&path);
        if let (Some(stat), Some(known)) = (stat, known)
            && known.kind == StatKind::Directory
            && (known.kind, known.ino, known.mode) == (stat.kind, stat.ino, stat.mode)
        {
            return self.tell(node, Event::Inspected { path, observed: Observed::Directory { stat } });
        }
        let likeness = |stat: Option<Stat>| stat.map(|stat| (stat.kind, stat.size, stat.mtime));
        let is_same = stat == known || (by_size && likeness(stat) == likeness(known));
        if stat.is_some() && is_same && !rehash {
            return self.tell(node, Event::Inspected { path, observed: Observed::Unchanged });
        }
        if !unsynced {
            disk.sync(&path);
        }
        let observed = match disk.live.get(&path) {
            None => Observed::Absent,
            Some((ino, inode)) => observe(inode, inode.stat(ino), body),
        };
        self.step_soon(node, self.plan.disk_ns, Step::InspectAgain { path, observed });
    }

    /// A file must have stood still while it was hashed.
    fn look_again(&mut self, node: NodeId, path: SyncPath, observed: Observed) {
        let now = self.nodes[node].disk.live.stat(&path);
        let observed = match &observed {
            Observed::File { content, body, .. } if self.has(Bug::StatsAfterTheHash) && now.is_some() => {
                let stat = now.expect("it was just found to be there");
                Observed::File { stat, content: *content, body: body.clone() }
            }
            Observed::File { stat, .. } if now != Some(*stat) => Observed::Unstable,
            _ => observed,
        };
        self.tell(node, Event::Inspected { path, observed });
    }

    /// One folder: watch it, list it; what is below comes later.
    fn walk(&mut self, node: NodeId, walk: WalkId, mut left: VecDeque<Option<SyncPath>>) {
        let Some(dir) = left.pop_front() else {
            return self.tell(node, Event::Walked { walk, unread: Vec::new() });
        };
        let is_watched = !self.has(Bug::WatchesNoNewFolders) || walk == WalkId(1);
        let here = &mut self.nodes[node];
        if let Some(ino) = here.disk.live.folder(dir.as_ref()) {
            if is_watched {
                here.watched.insert(ino);
            }
            let mut found = Vec::new();
            for (name, &child) in here.disk.live.children(ino).into_iter().flatten() {
                let path = SyncPath::join(dir.as_ref(), name).expect("users and engines use good names");
                let stat = here.disk.live.inodes[&child].stat(child);
                if stat.kind == StatKind::Directory && !here.ignored.ignores(&path, true) {
                    left.push_back(Some(path.clone()));
                }
                found.push((path, stat));
            }
            if !found.is_empty() {
                self.tell(node, Event::Listed { walk, found });
            }
        }
        self.step_soon(node, self.plan.disk_ns, Step::Walk { walk, left });
    }

    // Installs.

    fn queue_install(&mut self, node: NodeId, job: Job) {
        let here = &mut self.nodes[node];
        here.jobs.push_back(job);
        if !std::mem::replace(&mut here.installing, true) {
            let most = 1 + self.rng.index(BATCH);
            self.nodes[node].batch_left = most;
            self.step_soon(node, self.plan.disk_ns, Step::InstallNext);
        }
    }

    /// Prepares the next job of the batch, or ends the batch.
    fn install_next(&mut self, node: NodeId) {
        let here = &mut self.nodes[node];
        let next = if here.batch_left > 0 { here.jobs.pop_front() } else { None };
        let Some(job) = next else {
            return self.step_soon(node, self.plan.disk_ns, Step::InstallSync);
        };
        here.batch_left -= 1;
        let ready = match trouble(&mut self.rng, self.plan.trouble_permille) {
            Some(trouble) => Err(refused(&job, trouble)),
            None if here.is_full && job.source != Source::Nothing => Err(refused(&job, no_space())),
            None => prepare(&here.disk.live, &here.staging, &job, self.bug == Some(Bug::AcceptsAnyContent)),
        };
        let step = match ready {
            Ok(staged) => Step::InstallSwap { job, staged },
            Err(outcome) => {
                here.ended.push((job, outcome));
                Step::InstallNext
            }
        };
        self.step_soon(node, self.plan.disk_ns, step);
    }

    fn install_swap(&mut self, node: NodeId, mut job: Job, staged: Option<Data>) {
        let time = self.nodes[node].file_time(self.now);
        let bug = self.bug;
        let here = &mut self.nodes[node];
        let kept = format!("{}@{}-{}", job.path, here.life, job.id.0);
        let at = here.disk.live.spelled(&job.path);
        let old = here.disk.live.get(&at).map(|(ino, inode)| (inode.stat(ino), inode.value()));
        let before = here.disk.live.clone();
        if bug == Some(Bug::SkipsTheExchangeCheck) {
            job.expect = old.as_ref().map(|(stat, _)| *stat);
        }
        let (mut outcome, changes) = here.disk.change(|tree| match swap(tree, &job, staged, &kept, time, bug) {
            Ok((stat, kept)) => Outcome::Done { stat, kept },
            Err(outcome) => outcome,
        });
        if let Outcome::Done { stat: Some(stat), .. } = &mut outcome
            && !here.disk.keeps_modes
            && stat.kind != StatKind::Symlink
        {
            stat.mode = NO_MODE;
        }
        self.trace.note(self.now, format_args!("n{node} swaps {:?} {:?}: {outcome:?}", job.id, job.path));
        if let Outcome::Done { stat: Some(stat), .. } = &outcome {
            if job.source == Source::InPlace {
                here.disk.went_by(half_adjusted(before, stat.ino, &job, time));
            }
            if bug != Some(Bug::InstallsUnsynced) {
                here.disk.flush(stat.ino);
            }
        }
        if let (Outcome::Done { .. }, Source::Rename { from, .. }) = (&outcome, &job.source) {
            self.moved_along(node, (from, &job.path), &changes);
        }
        let here = &mut self.nodes[node];
        if bug == Some(Bug::SwallowsEcho) {
            here.echo_until.insert(job.path.clone(), self.now + 200 * MS);
        }
        if let Outcome::Done { .. } = &outcome {
            self.ledger.torn.remove(&(node, job.path.clone()));
            self.check_rot(node, &job.path);
        }
        if let (Outcome::Done { kept: Some(_), .. }, Some((stat, Some(value)))) = (&outcome, old) {
            self.check_replaced(node, &job.path, stat, &value);
        }
        self.nodes[node].ended.push((job, outcome));
        self.give_hints(node, &changes, true);
        self.step_soon(node, self.plan.disk_ns, Step::InstallNext);
    }

    fn find_kept(&self, node: NodeId, sought: Sought) -> (Sought, Option<(String, Stat)>) {
        let tree = &self.nodes[node].disk.live;
        let of_path = format!("{}@", sought.path.to_text());
        let kept = tree.history.iter().filter(|(name, _)| name.starts_with(&of_path));
        let stats = kept.map(|(name, &ino)| (name.clone(), tree.inodes[&ino].stat(ino)));
        let fitting = stats.filter(|(_, stat)| stat.kind == StatKind::File && stat.size == sought.size);
        let best = fitting.max_by_key(|(name, stat)| (stat.mtime == sought.mtime, name.clone()));
        (sought, best)
    }

    /// The likeliest first, then the newest, as in the daemon.
    fn locate_kept(&self, node: NodeId, sought: Sought) -> (Sought, Option<LocatedKept>) {
        let tree = &self.nodes[node].disk.live;
        let of_path = format!("{}@", sought.path.to_text());
        let holds = tree
            .history
            .iter()
            .filter(|(_, ino)| matches!(&tree.inodes[ino].body, Body::File(data) if data.content() == sought.content));
        let best = holds.max_by_key(|(name, ino)| {
            let is_likely = name.starts_with(&of_path) && tree.inodes[ino].stat(**ino).mtime == sought.mtime;
            (is_likely, (*name).clone())
        });
        let located = best.map(|(name, ino)| LocatedKept {
            kept: name.clone(),
            stat: tree.inodes[ino].stat(*ino),
            is_hashed: true,
        });
        (sought, located)
    }

    /// What history kept of a renamed file goes, while the file is at its new path.
    fn drop_kept(
        &mut self,
        node: NodeId,
        kept: &str,
        (was, content): (&Stat, ContentId),
        path: &SyncPath,
        stat: &Stat,
    ) {
        self.nodes[node].disk.change(|tree| {
            let Some(ino) = tree.history.get(kept).copied() else { return };
            let now = tree.inodes[&ino].stat(ino);
            let is_as_it_came = (now.kind, now.ino, now.size, now.mtime) == (was.kind, was.ino, was.size, was.mtime);
            let holds = matches!(&tree.inodes[&ino].body, Body::File(data) if data.content() == content);
            if is_as_it_came && holds && tree.stat(path) == Some(*stat) {
                tree.history.remove(kept);
                tree.drop_inode(ino);
            }
        });
    }

    /// Makes the batch durable and reports it.
    fn install_sync(&mut self, node: NodeId) {
        let bug = self.bug;
        let here = &mut self.nodes[node];
        let ended = std::mem::take(&mut here.ended);
        for (job, outcome) in &ended {
            if matches!(outcome, Outcome::Done { .. }) {
                match bug {
                    Some(Bug::ReportsBeforeDurable) => {}
                    Some(Bug::InstallsUnsynced) => here.disk.sync_names(&job.path),
                    _ => here.disk.sync(&here.disk.live.spelled(&job.path)),
                }
                if let Source::Staged(stage) = job.source {
                    here.staging.remove(&stage);
                }
            }
        }
        here.installing = !here.jobs.is_empty();
        let again = here.installing;
        for (job, outcome) in ended {
            self.tell(node, Event::Installed { job: job.id, outcome });
        }
        if again {
            self.nodes[node].batch_left = 1 + self.rng.index(BATCH);
            self.step_soon(node, self.plan.disk_ns, Step::InstallNext);
        }
    }

    // Contents.

    fn send_contents(&mut self, node: NodeId, to: LinkId, files: &[(u32, Option<ServedFile>)]) {
        let live = &self.nodes[node].disk.live;
        let read = |file: &ServedFile| Some(read(live, file)?.text);
        let contents = files.iter().map(|(id, file)| (*id, file.as_ref().and_then(read))).collect();
        self.send_message(to, Message::Contents { contents });
    }

    fn serve(&mut self, node: NodeId, to: LinkId, stream: FetchId, file: Option<&ServedFile>) {
        let data = file.and_then(|file| read(&self.nodes[node].disk.live, file));
        if let Some(part) = self.nodes[node].asked.remove(&(to, stream)) {
            return self.send(to, Parcel::AnswerPart { range: RangeId(stream.0), part, data });
        }
        self.send(to, Parcel::Answer { fetch: stream, data });
    }

    /// Not every version has anything in common with another.
    fn serve_delta(&mut self, node: NodeId, to: LinkId, stream: FetchId, file: Option<&ServedFile>) {
        let data = file.and_then(|file| read(&self.nodes[node].disk.live, file)).filter(|_| self.rng.chance(600));
        self.send(to, Parcel::AnswerDelta { fetch: stream, data });
    }

    /// What a delta makes needs its base, as it was. Anything that goes wrong is one answer.
    pub fn delta_came(&mut self, node: NodeId, link: LinkId, fetch: FetchId, data: Option<Data>) {
        let here = &mut self.nodes[node];
        let base = here.bases.remove(&fetch);
        if here.fetches.get(&fetch) != Some(&link) {
            return;
        }
        let has_base = base.is_some_and(|base| read(&here.disk.live, &base).is_some());
        if data.is_some() && has_base && !self.rng.chance(self.plan.corrupt_permille) {
            return self.fetched(node, link, fetch, data);
        }
        here.fetches.remove(&fetch);
        self.step_soon(node, MS, Step::Answer(Event::FetchFailed { fetch, why: FetchError::NoDelta }));
    }

    pub fn fetched(&mut self, node: NodeId, link: LinkId, fetch: FetchId, data: Option<Data>) {
        let here = &mut self.nodes[node];
        if here.fetches.get(&fetch) != Some(&link) {
            return;
        }
        here.fetches.remove(&fetch);
        let fails = data.is_none() || self.rng.chance(self.plan.corrupt_permille);
        if fails && self.bug == Some(Bug::ForgetsFailedFetches) {
            return;
        }
        let is_accepted = self.bug == Some(Bug::AcceptsAnyContent);
        let event = match data {
            Some(_) if here.is_full => Event::FetchFailed { fetch, why: FetchError::Staging(no_space()) },
            None => Event::FetchFailed { fetch, why: FetchError::NotHere },
            Some(_) if fails && !is_accepted => Event::FetchFailed { fetch, why: FetchError::Corrupt },
            Some(mut data) => {
                if fails {
                    data.text = data.text.slice(..data.text.len() / 2);
                }
                here.next_stage += 1;
                let staged = StageId(here.next_stage);
                let wire_bytes = data.size();
                here.staging.insert(staged, data);
                Event::Fetched { fetch, staged, wire_bytes }
            }
        };
        self.step_soon(node, MS, Step::Answer(event));
    }
}

/// What also goes on when there is nothing to do.
fn is_routine(action: &Action) -> bool {
    matches!(
        action,
        Action::Send { message: Message::State { .. }, .. }
            | Action::Report(_)
            | Action::CheckRoot
            | Action::ReadIgnore
            | Action::Group(_)
    )
}
