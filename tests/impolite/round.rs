//! One round: machines on a LAN of their own, a script, then everything mended, and the oracle.

use crate::common::lan::Lan;
use crate::common::{Group, Machine, converge, pace};
use crate::hands::Hands;
use crate::ledger::Ledger;
use crate::script::{Fault, Script, Step};
use crate::tools;
use std::fmt::{self, Display};
use std::time::{Duration, Instant};

/// How much a round did.
#[derive(Default)]
pub struct Played {
    values: usize,
    faults: usize,
    healed: Vec<Duration>,
}

impl Played {
    pub fn add(&mut self, other: &Self) {
        self.values += other.values;
        self.faults += other.faults;
        self.healed.extend(&other.healed);
    }
}

impl Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut healed = self.healed.clone();
        healed.sort();
        let at = |percent: usize| healed.get((healed.len() * percent / 100).min(healed.len().saturating_sub(1)));
        let (half, most) = (at(50).copied().unwrap_or_default(), at(99).copied().unwrap_or_default());
        write!(f, "{} values, {} faults; equal after healing: p50 {half:.1?}, p99 {most:.1?}", self.values, self.faults)
    }
}

/// What a machine goes through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Daemon {
    Running,
    Frozen,
    Dead,
}

struct Round {
    lan: Lan,
    machines: Vec<Machine>,
    daemons: Vec<Daemon>,
}

/// Plays a script; panics when something is lost, torn, back from the dead, or not equal in the
/// end.
pub fn play(script: &Script) -> Played {
    let (lan, group) = (Lan::new(script.machines as u32), Group::new());
    let machine = |n: usize| lan.machine(&group, &char::from(b'a' + n as u8).to_string(), n as u32 + 1);
    let machines: Vec<_> = (0..script.machines).map(machine).collect();
    machines.iter().for_each(Machine::start);
    let mut round = Round { daemons: vec![Daemon::Running; machines.len()], lan, machines };
    let mut hands: Vec<_> = round.machines.iter().map(Hands::new).collect();
    let mut ledger = Ledger::default();
    for step in &script.steps {
        match step {
            Step::Pace(ms) => pace(*ms),
            Step::Fault(machine, fault) => round.strike(*machine, *fault),
            Step::User(act) => hands[act.machine].act(act, &mut ledger),
        }
    }
    drop(hands);
    let healing = Instant::now();
    for machine in 0..script.machines {
        for fault in [Fault::Mend, Fault::Thaw, Fault::Start] {
            round.strike(machine, fault);
        }
    }
    let tree = converge(&round.machines.iter().collect::<Vec<_>>());
    let healed = healing.elapsed();
    ledger.check(&tree, &round.machines, script.kills());
    tools::check_repositories(&tree, &round.machines);
    let faults = script.steps.iter().filter(|step| matches!(step, Step::Fault(..))).count();
    Played { values: ledger.len(), faults, healed: vec![healed] }
}

impl Round {
    fn strike(&mut self, number: usize, fault: Fault) {
        let (machine, daemon) = (&self.machines[number], &mut self.daemons[number]);
        match (fault, *daemon) {
            (Fault::Kill, Daemon::Running | Daemon::Frozen) => {
                machine.kill();
                *daemon = Daemon::Dead;
            }
            (Fault::Stop, Daemon::Running) => {
                machine.wait_up();
                machine.stop();
                *daemon = Daemon::Dead;
            }
            (Fault::Start, Daemon::Dead) => {
                machine.spawn();
                *daemon = Daemon::Running;
            }
            (Fault::Freeze, Daemon::Running) => {
                machine.freeze();
                *daemon = Daemon::Frozen;
            }
            (Fault::Thaw, Daemon::Frozen) => {
                machine.thaw();
                *daemon = Daemon::Running;
            }
            (Fault::Cut, _) => self.lan.cut(number as u32 + 1),
            (Fault::Mend, _) => self.lan.mend(number as u32 + 1),
            _ => {}
        }
    }
}
