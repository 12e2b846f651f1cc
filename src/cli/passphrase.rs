//! Where a passphrase comes from: the terminal, without showing it, or standard input. Never from an
//! argument, which everyone on the machine could read.

use super::Failure;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, BufRead, Read};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Far above any passphrase.
const LINE_BYTES: u64 = 4096;

/// A new one.
pub(super) async fn asked_twice() -> Result<String, Failure> {
    let passphrase = asked("Passphrase for the export: ").await?;
    if asked("The same again: ").await? != passphrase {
        return Err(Failure::Nothing("the two passphrases differ; nothing was written".to_owned()));
    }
    Ok(passphrase)
}

/// One that is known. An interrupt leaves the terminal as it was.
pub(super) async fn asked(prompt: &'static str) -> Result<String, Failure> {
    let no_terminal = |why: io::Error| {
        Failure::Usage(format!("no terminal can be asked for the passphrase ({why}): give it by --passphrase-stdin"))
    };
    let terminal = File::open("/dev/tty").map_err(no_terminal)?;
    let shows = tcgetattr(&terminal).map_err(|why| no_terminal(why.into()))?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let (answer, answered) = oneshot::channel();
    // Nothing waits for this thread: it ends with the process.
    std::thread::spawn(move || drop(answer.send(rpassword::prompt_password(prompt))));
    let typed = tokio::select! {
        typed = answered => typed.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())),
        _ = interrupted.recv() => Err(io::ErrorKind::Interrupted.into()),
    };
    match typed {
        Ok(typed) => not_empty(typed),
        Err(why) if why.kind() == io::ErrorKind::Interrupted => {
            tcsetattr(&terminal, OptionalActions::Now, &shows).map_err(io::Error::from)?;
            Err(Failure::Nothing("interrupted; nothing was done".to_owned()))
        }
        Err(why) => Err(no_terminal(why)),
    }
}

/// The first line of standard input.
pub(super) fn line() -> Result<String, Failure> {
    let mut line = String::new();
    let read = io::stdin().lock().take(LINE_BYTES).read_line(&mut line);
    read.map_err(|why| Failure::Usage(format!("no passphrase can be read from standard input: {why}")))?;
    not_empty(line.trim_end_matches(['\n', '\r']).to_owned())
}

fn not_empty(passphrase: String) -> Result<String, Failure> {
    if passphrase.is_empty() {
        return Err(Failure::Usage("an empty passphrase protects nothing; give one".to_owned()));
    }
    Ok(passphrase)
}
