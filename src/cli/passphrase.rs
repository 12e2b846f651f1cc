//! Where a passphrase comes from: the terminal, without showing it, or standard input. Never from
//! an argument, which everyone on the machine could read.

use super::Failure;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, BufRead, Read};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Far above any passphrase.
const LINE_BYTES: u64 = 4096;

/// Whoever sits at the terminal, and may interrupt whatever is done with what they typed.
pub(super) struct Person {
    interrupts: Signal,
}

impl Person {
    /// From now on an interrupt ends nothing by itself.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { interrupts: signal(SignalKind::interrupt())? })
    }

    /// A new one.
    pub(super) async fn asked_twice(&mut self) -> Result<String, Failure> {
        let passphrase = self.asked("Passphrase for the export: ").await?;
        if self.asked("The same again: ").await? != passphrase {
            return Err(Failure::Nothing("the two passphrases differ; nothing was written".to_owned()));
        }
        Ok(passphrase)
    }

    /// One that is known. An interrupt leaves the terminal as it was.
    pub(super) async fn asked(&mut self, prompt: &'static str) -> Result<String, Failure> {
        let no_terminal = |why: io::Error| {
            Failure::Usage(format!(
                "no terminal can be asked for the passphrase ({why}): give it by --passphrase-stdin"
            ))
        };
        let terminal = File::open("/dev/tty").map_err(no_terminal)?;
        let shows = tcgetattr(&terminal).map_err(|why| no_terminal(why.into()))?;
        match self.unless_interrupted(move || rpassword::prompt_password(prompt)).await {
            Ok(Ok(typed)) => acceptable(typed),
            Ok(Err(why)) if why.kind() != io::ErrorKind::Interrupted => Err(no_terminal(why)),
            _ => {
                tcsetattr(&terminal, OptionalActions::Now, &shows).map_err(io::Error::from)?;
                Err(interrupted())
            }
        }
    }

    /// What takes long: an interrupt ends the command, and nothing waits for the thread.
    pub(super) async fn unless_interrupted<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        std::thread::spawn(move || drop(answer.send(work())));
        tokio::select! {
            biased;
            _ = self.interrupts.recv() => Err(interrupted()),
            done = answered => done.map_err(|_| Failure::Nothing("the work ended without a result".to_owned())),
        }
    }
}

fn interrupted() -> Failure {
    Failure::Nothing("interrupted; nothing was done".to_owned())
}

/// The first line of standard input.
pub(super) fn line() -> Result<String, Failure> {
    let mut line = String::new();
    // One that is cut would be another passphrase: what is longer is read, and refused.
    let read = io::stdin().lock().take(LINE_BYTES + 3).read_line(&mut line);
    read.map_err(|why| Failure::Usage(format!("no passphrase can be read from standard input: {why}")))?;
    acceptable(line.trim_end_matches(['\n', '\r']).to_owned())
}

fn acceptable(passphrase: String) -> Result<String, Failure> {
    if passphrase.len() as u64 > LINE_BYTES {
        return Err(Failure::Usage(format!("a passphrase has at most {LINE_BYTES} bytes; give a shorter one")));
    }
    if passphrase.is_empty() {
        return Err(Failure::Usage("an empty passphrase protects nothing; give one".to_owned()));
    }
    Ok(passphrase)
}
