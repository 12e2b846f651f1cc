//! What happens in a round, step by step: a text of one line a step that can be written down,
//! shortened and played again.
//!
//! Deliberately not here: how a step is done.

use crate::common::Dice;
use std::fmt::{self, Display};

/// Faults and users' steps in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub machines: usize,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Milliseconds.
    Pace(u64),
    /// Machine, from 0, and what is done to it.
    Fault(usize, Fault),
    User(Act),
}

/// Each is without effect where it cannot be, so that any part of a script is a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Kill,
    Stop,
    Start,
    Freeze,
    Thaw,
    Cut,
    Mend,
}

/// One thing that a user does at one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    pub machine: usize,
    pub way: Way,
    /// Relative to the folder.
    pub path: String,
    /// Makes what is written unique.
    pub id: u64,
    /// Of what is written (bytes).
    pub len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A whole new file, exchanged with the old one.
    Swap,
    Delete,
    /// Truncated and written again through the same descriptor, in two halves.
    InPlace,
    Append,
    /// Opened, and written only by a later `Release`.
    Hold,
    Release,
    /// The old one renamed to a backup, a new one made, the backup deleted.
    Vim,
    /// A lock that is a dangling link, an autosaved file, a backup that stays.
    Emacs,
    /// A lock file, a temporary file, a rename.
    Office,
    /// To another name in another folder.
    Move,
    MoveFolder,
    /// A whole folder, from outside.
    MoveIn,
    RemoveFolder,
    Touch,
    Chmod,
    Link,
    Rsync,
    Tar,
    Git,
}

const FAULTS: [(&str, Fault); 7] = [
    ("kill", Fault::Kill),
    ("stop", Fault::Stop),
    ("start", Fault::Start),
    ("freeze", Fault::Freeze),
    ("thaw", Fault::Thaw),
    ("cut", Fault::Cut),
    ("mend", Fault::Mend),
];

/// With how often each is drawn.
const WAYS: [(&str, Way, u64); 19] = [
    ("swap", Way::Swap, 20),
    ("delete", Way::Delete, 6),
    ("in-place", Way::InPlace, 10),
    ("append", Way::Append, 8),
    ("hold", Way::Hold, 4),
    ("release", Way::Release, 6),
    ("vim", Way::Vim, 8),
    ("emacs", Way::Emacs, 6),
    ("office", Way::Office, 6),
    ("move", Way::Move, 6),
    ("move-folder", Way::MoveFolder, 2),
    ("move-in", Way::MoveIn, 2),
    ("remove-folder", Way::RemoveFolder, 2),
    ("touch", Way::Touch, 2),
    ("chmod", Way::Chmod, 2),
    ("link", Way::Link, 1),
    ("rsync", Way::Rsync, 2),
    ("tar", Way::Tar, 2),
    ("git", Way::Git, 2),
];

/// Of a random script.
const STEPS: u64 = 260;
/// A large file does not ride along with its entry.
const LARGE_BYTES: usize = 300_000;

impl Script {
    pub fn random(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let machines = 3 + dice.roll(3) as usize;
        let mut steps = Vec::new();
        for n in 0..STEPS {
            if dice.roll(3) > 0 {
                steps.push(Step::Pace(dice.roll(80)));
            }
            if dice.roll(14) == 0 {
                let (_, fault) = FAULTS[dice.roll(7) as usize];
                steps.push(Step::Fault(dice.roll(machines as u64) as usize, fault));
            }
            steps.push(Step::User(act(&mut dice, machines, seed.wrapping_mul(STEPS).wrapping_add(n))));
        }
        Self { machines, steps }
    }

    /// Whether a daemon is ever killed.
    pub fn kills(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Fault(_, Fault::Kill)))
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let machines = lines.next().and_then(|line| line.strip_prefix("machines ")).and_then(|n| n.parse().ok());
        let machines = machines.ok_or("the first line is not 'machines N'")?;
        let step = |line: &str| Step::parse(line).ok_or_else(|| format!("no step: {line}"));
        Ok(Self { machines, steps: lines.map(step).collect::<Result<_, _>>()? })
    }
}

fn act(dice: &mut Dice, machines: usize, id: u64) -> Act {
    let mut draw = dice.roll(WAYS.iter().map(|(_, _, weight)| weight).sum());
    let mut way = Way::Swap;
    for (_, candidate, weight) in WAYS {
        if draw < weight {
            way = candidate;
            break;
        }
        draw -= weight;
    }
    let len = if dice.roll(12) == 0 { LARGE_BYTES } else { dice.roll(5000) as usize };
    let path = format!("d{}/f{}", dice.roll(3), dice.roll(4));
    Act { machine: dice.roll(machines as u64) as usize, way, path, id, len }
}

impl Step {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["pace", ms] => Some(Self::Pace(ms.parse().ok()?)),
            [machine, fault] => {
                let (_, fault) = FAULTS.iter().find(|(name, _)| *name == fault)?;
                Some(Self::Fault(machine.parse().ok()?, *fault))
            }
            [machine, way, path, id, len] => {
                let (_, way, _) = WAYS.iter().find(|(name, ..)| *name == way)?;
                let (machine, id, len) = (machine.parse().ok()?, id.parse().ok()?, len.parse().ok()?);
                Some(Self::User(Act { machine, way: *way, path: path.to_owned(), id, len }))
            }
            _ => None,
        }
    }
}

impl Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "machines {}", self.machines)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pace(ms) => write!(f, "pace {ms}"),
            Self::Fault(machine, fault) => {
                let name = FAULTS.iter().find(|(_, known)| known == fault).map_or("", |(name, _)| *name);
                write!(f, "{machine} {name}")
            }
            Self::User(Act { machine, way, path, id, len }) => {
                let name = WAYS.iter().find(|(_, known, _)| known == way).map_or("", |(name, ..)| *name);
                write!(f, "{machine} {name} {path} {id} {len}")
            }
        }
    }
}

#[test]
fn a_script_is_the_same_after_it_was_written_down() {
    for seed in 0..20 {
        let script = Script::random(seed);
        assert_eq!(Script::parse(&script.to_string()), Ok(script));
    }
    for bad in ["", "machines x", "machines 3\n0 sneeze", "machines 3\n0 swap d0/f0 1"] {
        assert!(Script::parse(bad).is_err(), "{bad:?}");
    }
}
