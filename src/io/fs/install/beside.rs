//! What takes reading many bytes, beside the threads that stage and install: one more thread, which
//! reads one large file at a time.
//!
//! A large file that gets another time in its place is read before and after that. Between the two
//! it goes through the thread that installs, which sees that its stat is still the one that was
//! expected. Its job ends with the second reading; others go on meanwhile. Large copies are made
//! here, too. The engine has one install at a time under way for a path, so none overtakes another
//! of its path. Deliberately not here: the way into the folder.

use super::place::{self, PathChange};
use super::{Applier, Prepared, Site};
use crate::engine::{Event, Job, Outcome, Source, Stat};
use crate::io::fail::{self, Point};

/// Files of this size or more are large.
const LARGE_BYTES: u64 = 64 << 20;

/// What the thread is to do.
pub(super) enum Reading {
    /// Make or prove what is to be installed.
    Before(Job),
    /// Prove it again, now that it is in place as this.
    After(Job, Option<Stat>),
}

/// Whether to install it takes reading a large file.
pub(super) fn reads_much(job: &Job) -> bool {
    let reads = match &job.source {
        Source::Copy { .. } | Source::Kept { .. } => true,
        Source::InPlace => job.expect.is_some_and(|old| old.mtime != job.entry.mtime),
        Source::Nothing | Source::Bytes(_) | Source::Staged(_) | Source::Rename { .. } => false,
    };
    reads && job.entry.file().is_some_and(|(_, size)| size >= LARGE_BYTES)
}

impl Applier {
    /// A thread: reads until it is stopped.
    pub fn read(&self) {
        while let Some(Some(reading)) = self.readings.wait(std::collections::VecDeque::pop_front) {
            match reading {
                Reading::Before(job) => {
                    let made = self.site.make_or_prove(&job);
                    self.ready.announce(1);
                    self.ready.extend(vec![(job, made)]);
                }
                Reading::After(job, stat) => {
                    let outcome = match self.site.prove_again(&job, stat.as_ref()) {
                        Ok(()) => Outcome::Done { stat, kept: None },
                        Err(outcome) => outcome,
                    };
                    self.events.send(Event::Installed { job: job.id, outcome });
                }
            }
        }
    }
}

impl Site {
    pub(super) fn make_or_prove(&self, job: &Job) -> Result<Prepared, Outcome> {
        let prepared = self.prepare_all(std::slice::from_ref(job), true).pop();
        let made = prepared.unwrap_or(Err(Outcome::NoSource))?;
        if !matches!(made, Prepared::InPlace) {
            return Ok(made);
        }
        place::prove(self, &PathChange::of(job, &made))?;
        fail::after(Point::InstallProven);
        Ok(Prepared::Proven)
    }

    pub(super) fn prove_again(&self, job: &Job, stat: Option<&Stat>) -> Result<(), Outcome> {
        place::prove_again(self, &PathChange::of(job, &Prepared::Proven), stat.ok_or(Outcome::Stale)?)
    }
}
