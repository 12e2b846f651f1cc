//! How this machine comes into a group at its start: by `--join`, or not at all if it is in one.
//!
//! A machine that was never linked with another is in a group of its own, and leaves it: its secret
//! is kept beside the new one. Deliberately not here: the search for the inviter and the exchange
//! with it (`io/net/join.rs`).

use super::{DaemonError, chores};
use crate::engine::known_machines;
use crate::humanize;
use crate::io::net::join::{self, Inviter, JoinConfig, JoinError, OTHERS_WITHIN, Store};
use crate::io::net::tls::DeviceKey;
use crate::io::store::index::SqliteIndex;
use crate::io::store::secret::{Secret, SecretError};
use crate::io::store::state_folder::StateDir;
use crate::model::InvitationCode;
use crate::model::invitation::CodeError;
use crate::options::{CodeSource, Options};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As long as an invitation is open if nobody says otherwise.
const PATIENCE: Duration = Duration::from_mins(10);
/// Far above any way to write a code.
const LINE_BYTES: u64 = 256;

/// Why this machine did not join. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JoiningError {
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("what was read is no invitation code: {0}")]
    Code(#[from] CodeError),
    #[error("no invitation code can be read: {0}")]
    Unread(#[from] io::Error),
    #[error(
        "--join asks for the code, and standard input is no terminal: give the code after it, or \
         '--join -' to read it from there"
    )]
    NobodyToAsk,
    #[error(
        "--join: this machine is a member of another group, with {machines}: leave out --join to \
         stay in it; to leave it for good, start it without --join, run 'dirsync leave', and join \
         then"
    )]
    OtherGroup { machines: String },
}

/// Proves the code and keeps it for this device; nothing is stored.
pub(super) fn reserve(options: &Options, source: &CodeSource, key: &DeviceKey) -> Result<Inviter, JoiningError> {
    Ok(join::join(&config(options, key, &code(source)?, PATIENCE), None)?)
}

/// The secret that this machine has joined with, now or before.
pub(super) fn secret(
    options: &Options,
    source: &CodeSource,
    file: &Path,
    state: &StateDir,
    index: &SqliteIndex,
    key: &DeviceKey,
) -> Result<Joined, DaemonError> {
    Joining { options, source, file, state, index, key }.secret().map_err(|why| DaemonError::Joining(Box::new(why)))
}

/// A secret, and the machine that handed it over just now.
pub(super) struct Joined {
    pub secret: Secret,
    pub inviter: Option<Inviter>,
}

struct Joining<'a> {
    options: &'a Options,
    source: &'a CodeSource,
    file: &'a Path,
    state: &'a StateDir,
    index: &'a SqliteIndex,
    key: &'a DeviceKey,
}

impl Joining<'_> {
    fn secret(self) -> Result<Joined, JoiningError> {
        let own = match Secret::read(self.file, None) {
            Err(SecretError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read?),
        };
        let Some(own) = own else { return self.join(&code(self.source)?) };
        let machines = known_machines(self.index);
        let own_tag = own.keys().members.group_tag;
        let joined_with = self.state.joined_with().filter(|(_, tag)| *tag == own_tag).map(|(code, _)| code);
        let is_member = joined_with.is_some() || !machines.is_empty();
        // A unit that has --join in it has nobody to ask at its second start.
        let code = match self.source {
            CodeSource::Given(code) => Some(code.clone()),
            CodeSource::StandardInput => match code(self.source) {
                Err(JoiningError::Code(CodeError::Length(0))) if is_member => None,
                read => Some(read?),
            },
            CodeSource::Terminal if is_member => None,
            CodeSource::Terminal => Some(code(self.source)?),
        };
        match code {
            Some(code) if joined_with == Some(code.fingerprint()) => say_it_is_ignored(&machines),
            Some(code) if machines.is_empty() => return self.join(&code),
            Some(code) => self.refuse_another_group(&code, &own, &machines)?,
            None => say_it_is_ignored(&machines),
        }
        Ok(Joined { secret: own, inviter: None })
    }

    fn join(&self, code: &InvitationCode) -> Result<Joined, JoiningError> {
        let config = config(self.options, self.key, code, PATIENCE);
        let file = PathBuf::from(self.file);
        let (state, fingerprint) = (self.options.state_dir.clone(), code.fingerprint());
        let store: Store = Box::new(move |secret| {
            let secret = Secret::from_member(secret);
            StateDir::note_joining(&state, fingerprint, secret.keys().members.group_tag)
                .map_err(|why| why.to_string())?;
            secret.store(&file).map_err(|why| why.to_string())
        });
        let inviter = join::join(&config, Some(store))?;
        tracing::info!(kind = "joined", "joined the group of {} ({})", inviter.name, inviter.address.ip());
        Ok(Joined { secret: Secret::from_member(&inviter.secret), inviter: Some(inviter) })
    }

    /// Whose code it is says the machine that made it, if it is here. Else this machine stays what
    /// it is: a unit must start without the one that once invited it.
    fn refuse_another_group(
        &self,
        code: &InvitationCode,
        own: &Secret,
        machines: &[String],
    ) -> Result<(), JoiningError> {
        match join::join(&config(self.options, self.key, code, OTHERS_WITHIN), None) {
            Ok(inviter) if Secret::from_member(&inviter.secret).is_same_group(own) => say_it_is_ignored(machines),
            Ok(_) => return Err(JoiningError::OtherGroup { machines: humanize::listed(machines) }),
            Err(why) => tracing::warn!(
                "--join is ignored: this machine is a member already, with {}, and whose code it \
                 is cannot be asked: {why}",
                humanize::listed(machines)
            ),
        }
        Ok(())
    }
}

fn config(options: &Options, key: &DeviceKey, code: &InvitationCode, patience: Duration) -> JoinConfig {
    JoinConfig {
        key: key.clone(),
        name: options.name.clone(),
        broadcast_port: options.broadcast_port,
        peers: options.peers.iter().map(ToString::to_string).collect(),
        code: code.clone(),
        patience,
        others_within: OTHERS_WITHIN,
        goes_on: chores::extend_start,
    }
}

fn code(source: &CodeSource) -> Result<InvitationCode, JoiningError> {
    match source {
        CodeSource::Given(code) => Ok(code.clone()),
        CodeSource::StandardInput => Ok(line()?.parse()?),
        CodeSource::Terminal => ask(),
    }
}

fn say_it_is_ignored(machines: &[String]) {
    let with = if machines.is_empty() { String::new() } else { format!(", with {}", humanize::listed(machines)) };
    tracing::info!("--join is ignored: this machine is a member already{with}");
}

fn line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().take(LINE_BYTES).read_line(&mut line)?;
    Ok(line)
}

/// Until what is typed is a code.
fn ask() -> Result<InvitationCode, JoiningError> {
    if !io::stdin().is_terminal() {
        return Err(JoiningError::NobodyToAsk);
    }
    loop {
        eprint!("Invitation code, as 'dirsync invite' shows it: ");
        io::stderr().flush()?;
        let typed = line()?;
        match typed.parse() {
            Ok(code) => return Ok(code),
            Err(why) if typed.is_empty() => return Err(why.into()),
            Err(why) => eprintln!("{why}"),
        }
    }
}
