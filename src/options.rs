//! The command line of `dirsyncd`: raw arguments ([`Args`]), then validated configuration
//! ([`Options`]).
//!
//! What stands here is checked before anything is opened, locked or bound; each refusal is one line
//! that says what to do, and ends the daemon with exit code 2. May import `model`. Deliberately not
//! here: reading the secret, making folders.

mod code;
mod config;
mod given;
mod http;
mod place;
mod preview;
mod print;

pub use place::{KeptState, SYSTEM_STATES, kept_states, state_dir, state_homes};

use crate::model::invitation::CodeError;
use crate::model::{SyncRole, text};
use clap::Parser;
use clap::builder::RangedU64ValueParser;
pub use code::CodeSource;
pub use config::{ConfigArgs, ConfigError, FOR_ONE_START};
pub use given::{Given, GivenError};
pub use http::{HttpArgs, HttpPlace, SocketGroup};
pub use preview::{PreviewArgs, PreviewForm};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where links are listened for unless `--listen-port` says otherwise.
const DEFAULT_LISTEN_PORT: u16 = 6000;
const NAME_BYTES: usize = 63;

/// Keep one folder the same on every machine of a LAN.
///
/// Run `dirsyncd DIRECTORY` on two or more machines that hold the same secret file: they find each
/// other by UDP broadcast, link over TLS, and keep the folder equal, live. Whoever changed a file
/// last wins everywhere, and what a remote change replaces or deletes stays in
/// DIRECTORY/.dirsync/history for a while. Ask a running daemon with `dirsync status`.
///
/// One secret is one folder: the same secret on two different folders merges them.
#[derive(Parser, Debug, Clone)]
#[command(
    name = "dirsyncd",
    version,
    after_help = "Every option can also be given in the environment, as DIRSYNCD_STATE_DIR for --state-dir; what takes no \
                  value, as 1 or 0. --config names a file with options.\n\
                  Exit codes: 0 stopped as asked (SIGTERM, SIGINT), 1 failed, 2 wrong usage."
)]
pub struct Args {
    /// The folder to keep the same; everything in it but what .dirsyncignore names
    #[arg(value_name = "DIRECTORY", env = "DIRSYNCD_DIRECTORY")]
    pub directory: PathBuf,

    /// UDP port on which machines find each other; the same on all of them
    #[arg(
        short, long, value_name = "PORT", env = "DIRSYNCD_BROADCAST_PORT", default_value_t = 5000,
        value_parser = RangedU64ValueParser::<u16>::new().range(1..=65535)
    )]
    pub broadcast_port: u16,

    /// TCP port for links; 0 takes any free one [default: 6000, or any free one if that is taken]
    #[arg(short, long, value_name = "PORT", env = "DIRSYNCD_LISTEN_PORT")]
    pub listen_port: Option<u16>,

    /// Folder for cached signatures of large files [default: <state-dir>/signatures]
    #[arg(short, long, value_name = "DIR", env = "DIRSYNCD_SIGNATURE_DIR")]
    pub signature_dir: Option<PathBuf>,

    /// Folder for the index, the device key and the secret; outside DIRECTORY [default:
    /// $STATE_DIRECTORY, or $XDG_STATE_HOME/dirsyncd/<name and hash of DIRECTORY>]
    #[arg(long, value_name = "DIR", env = "DIRSYNCD_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// DIRECTORY is the folder that was synced as OLD, which is gone: go on as the same machine,
    /// with the state that is kept of it. Only needed where it was moved to another disk; a folder
    /// that was renamed is known by itself
    #[arg(long, value_name = "OLD", env = "DIRSYNCD_MOVED_FROM", conflicts_with = "state_dir")]
    pub moved_from: Option<PathBuf>,

    /// The group's secret: 64 hexadecimal digits in a file of mode 0600 [default:
    /// <state-dir>/secret, made if missing]
    #[arg(long, value_name = "FILE", env = "DIRSYNCD_SECRET_FILE")]
    pub secret_file: Option<PathBuf>,

    /// Join a group by the code that 'dirsync invite' shows on one of its machines: CODE, '-' to
    /// read it from standard input, nothing to be asked on the terminal. Ignored where this machine
    /// is a member of that group already
    #[arg(
        long, value_name = "CODE", env = "DIRSYNCD_JOIN", num_args = 0..=1, default_missing_value = code::ASK
    )]
    pub join: Option<String>,

    #[command(flatten)]
    pub preview: PreviewArgs,

    /// No secret: anyone on this network may join, read and write. For a lab
    #[arg(long, env = "DIRSYNCD_OPEN", value_parser = switch)]
    pub open: bool,

    /// This machine's name, as others see it in their logs: up to 63 of A-Z a-z 0-9 . _ - [default:
    /// the host name]
    #[arg(long, value_name = "NAME", env = "DIRSYNCD_NAME")]
    pub name: Option<String>,

    /// Also link to this address, where broadcast does not reach; can be given several times, or
    /// comma-separated
    #[arg(long = "peer", value_name = "HOST:PORT", env = "DIRSYNCD_PEER", value_delimiter = ',')]
    pub peers: Vec<String>,

    /// Send at most so many bytes a second to each machine, and to all of them together: a number
    /// with K, M or G after it (1,024 of the one before), such as 20M
    /// [default: as 'dirsync limit' set it last, or no limit]
    #[arg(long, value_name = "RATE", env = "DIRSYNCD_LIMIT", value_parser = rate)]
    pub limit: Option<u64>,

    #[command(flatten)]
    pub http: HttpArgs,

    /// Hold nothing back, however much is deleted or goes back to older contents at once: as if
    /// 'dirsync confirm' were always said
    #[arg(long, env = "DIRSYNCD_ALLOW_MASS_DELETE", value_parser = switch)]
    pub allow_mass_delete: bool,

    /// What becomes of the loser when a file was changed in two places at once; give it on all
    /// machines alike
    #[arg(long, value_enum, value_name = "WHAT", env = "DIRSYNCD_ON_CONFLICT", default_value_t = ConflictOption::Newest)]
    pub on_conflict: ConflictOption,

    /// What this machine does with changes: both, receive-only (its own are announced to nobody) or
    /// send-only (those of others are not installed) [default: what 'dirsync role' or --role said
    /// last, else both]
    #[arg(long, value_name = "ROLE", env = "DIRSYNCD_ROLE")]
    pub role: Option<SyncRole>,

    /// Do not hash every file again each month, a little a day, to find what rotted on the disk;
    /// only 'dirsync verify' does
    #[arg(long, env = "DIRSYNCD_NO_SCRUB", value_parser = switch)]
    pub no_scrub: bool,

    /// How log lines are written, on standard error
    #[arg(long, value_enum, env = "DIRSYNCD_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// error, warn, info, debug or trace, or a filter such as 'info,dirsyncd::io=debug' [default:
    /// $RUST_LOG, or info]
    #[arg(long, value_name = "LEVEL", env = "DIRSYNCD_LOG_LEVEL")]
    pub log_level: Option<String>,

    #[command(flatten)]
    pub config: ConfigArgs,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line a thing, for people and journald
    Text,
    /// One JSON object a line
    Json,
}

/// What becomes of the loser of a conflict. History keeps it whatever is said here.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictOption {
    /// The newest wins, and the other is in history
    Newest,
    /// The other also appears beside the winner, on all machines, as NAME.conflict-TIME-DEVICE.EXT
    KeepBoth,
    /// Texts are merged where their edits do not overlap, else the newest wins
    Merge,
}

/// Which TCP port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenPort {
    /// If it is taken, any free one will do: nobody asked for it.
    Preferred(u16),
    /// If it is taken, refuse to start. 0: any free one.
    Required(u16),
}

/// A `--peer`: a host name or address, and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// An IPv6 address stands without its brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Where the group's secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file that somebody named: it must exist.
    Named(PathBuf),
    /// `<state-dir>/secret`: made on the first start.
    Own(PathBuf),
    /// `--open`.
    Open,
}

/// What the daemon runs with: every value checked.
#[derive(Debug, Clone)]
pub struct Options {
    /// Absolute, no link in it.
    pub directory: PathBuf,
    pub broadcast_port: u16,
    pub listen_port: ListenPort,
    /// Absolute, outside `directory`.
    pub state_dir: PathBuf,
    pub signature_dir: PathBuf,
    pub secret: SecretSource,
    /// Another machine has the secret, and an invitation open.
    pub join: Option<CodeSource>,
    /// Only say what joining would do.
    pub preview: Option<PreviewForm>,
    pub name: String,
    /// Not the host's.
    pub name_is_given: bool,
    pub peers: Vec<PeerAddress>,
    /// Bytes a second sent to each peer, and in all.
    pub limit: Option<u64>,
    /// The API is answered there, too.
    pub http: Option<HttpPlace>,
    /// Its members may read the API.
    pub socket_group: Option<SocketGroup>,
    /// Nothing is held for being too much.
    pub allow_mass_delete: bool,
    pub on_conflict: ConflictOption,
    /// `None`: the one that the index has.
    pub role: Option<SyncRole>,
    /// Nothing is hashed again unless a person asks.
    pub no_scrub: bool,
}

/// Wrong usage: one line each, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    #[error("'{0}' does not exist; create it first (mkdir -p), or name another folder to sync")]
    DirectoryMissing(String),
    #[error("'{0}' is not a directory; name the folder to sync")]
    NotDirectory(String),
    #[error("'{path}' cannot be used: {why}")]
    Unusable { path: String, why: std::io::Error },
    #[error(
        "the {what} '{path}' lies inside the synced folder '{directory}', and would be sent to \
         every machine; give --{option} a place outside"
    )]
    Inside { what: &'static str, path: String, directory: String, option: &'static str },
    #[error(
        "no place for the state directory: neither $STATE_DIRECTORY, $XDG_STATE_HOME nor $HOME is \
         set; give --state-dir"
    )]
    NoStateHome,
    #[error("--moved-from '{old}': {why}")]
    MovedFrom { old: String, why: &'static str },
    #[error("--name '{0}' is not allowed; use 1 to 63 of the characters A-Z a-z 0-9 . _ -")]
    Name(String),
    #[error("--peer '{0}' is no HOST:PORT; write it as in 'nas.local:6000', '192.0.2.7:6000' or '[2001:db8::7]:6000'")]
    Peer(String),
    #[error(
        "--http '{0}' is no address; write a port, as in 8080, or an address in full, as in 192.0.2.7:8080 or [::1]:8080"
    )]
    Http(String),
    #[error("--http-tls says how --http is answered; add --http ADDR")]
    TlsAlone,
    #[error("--join: {0}; 'dirsync invite' on a member shows one, such as 0123-4567-89AB-CDEF")]
    Code(#[from] CodeError),
    #[error("--json says a preview in JSON; add --preview")]
    JsonAlone,
    #[error("--join gets the secret from another machine; leave --secret-file and --open out")]
    JoinWithSecret,
    #[error("--open needs no secret, but '{0}' holds one; remove that file, or leave --open out")]
    OpenBesideSecret(String),
    #[error("--open needs no secret, but --secret-file names one; give one of the two")]
    OpenWithSecret,
}

impl Options {
    /// Checks raw arguments against the file system and the environment; changes nothing.
    pub fn new(args: Args) -> Result<Self, OptionError> {
        Self::with_environment(args, |name| env::var_os(name).filter(|value| !value.is_empty()), &host_name())
    }

    fn with_environment(
        args: Args,
        environment: impl Fn(&str) -> Option<OsString>,
        host_name: &str,
    ) -> Result<Self, OptionError> {
        let directory = synced_directory(&args.directory)?;
        let state_dir = match args.state_dir {
            Some(dir) => resolve(&dir)?,
            None => resolve(&default_state_dir(&directory, args.moved_from.as_deref(), &environment)?)?,
        };
        refuse_inside(&directory, &state_dir, "state directory", "state-dir")?;
        let signature_dir = match args.signature_dir {
            Some(dir) => resolve(&dir)?,
            None => state_dir.join("signatures"),
        };
        refuse_inside(&directory, &signature_dir, "signature directory", "signature-dir")?;
        if signature_dir.exists() && !signature_dir.is_dir() {
            return Err(OptionError::NotDirectory(shown(&signature_dir)));
        }
        if args.join.as_ref().is_some_and(|code| !code.is_empty()) && (args.open || args.secret_file.is_some()) {
            return Err(OptionError::JoinWithSecret);
        }
        let secret = secret_source(args.secret_file, args.open, &directory, &state_dir)?;
        let join = args.join.as_deref().filter(|code| !code.is_empty()).map(CodeSource::parse).transpose()?;
        let listen_port = args.listen_port.map_or(ListenPort::Preferred(DEFAULT_LISTEN_PORT), ListenPort::Required);
        let name_is_given = args.name.is_some();
        let name = match args.name {
            Some(name) if is_name(&name) => name,
            Some(name) => return Err(OptionError::Name(text::escape(name.as_bytes()))),
            None => name_of_host(host_name),
        };
        let peers = args.peers.iter().map(|peer| peer_address(peer)).collect::<Result<_, _>>()?;
        let Args { broadcast_port, allow_mass_delete, on_conflict, limit, http, no_scrub, preview, role, .. } = args;
        Ok(Self {
            directory,
            broadcast_port,
            listen_port,
            state_dir,
            signature_dir,
            secret,
            join,
            preview: preview.form()?,
            name,
            name_is_given,
            peers,
            limit,
            http: http.place()?,
            socket_group: http.group(&environment),
            allow_mass_delete,
            on_conflict,
            role,
            no_scrub,
        })
    }
}

fn synced_directory(path: &Path) -> Result<PathBuf, OptionError> {
    match fs::canonicalize(path) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Err(OptionError::DirectoryMissing(shown(path))),
        Err(why) if why.kind() == std::io::ErrorKind::NotADirectory => Err(OptionError::NotDirectory(shown(path))),
        Err(why) => Err(OptionError::Unusable { path: shown(path), why }),
        Ok(real) if !real.is_dir() => Err(OptionError::NotDirectory(shown(path))),
        Ok(real) => Ok(real),
    }
}

/// The real path of something that may not exist yet: what exists of it is resolved, so that no
/// link hides where it lies.
fn resolve(path: &Path) -> Result<PathBuf, OptionError> {
    let unusable = |why| OptionError::Unusable { path: shown(path), why };
    let path = std::path::absolute(path).map_err(unusable)?;
    let mut missing = Vec::new();
    for existing in path.ancestors() {
        match fs::canonicalize(existing) {
            Ok(real) => return Ok(missing.iter().rev().fold(real, |path, name| path.join(name))),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => missing.extend(existing.file_name()),
            Err(why) => return Err(unusable(why)),
        }
    }
    Ok(path)
}

fn refuse_inside(directory: &Path, path: &Path, what: &'static str, option: &'static str) -> Result<(), OptionError> {
    if path.starts_with(directory) {
        return Err(OptionError::Inside { what, path: shown(path), directory: shown(directory), option });
    }
    Ok(())
}

/// A unit may name several, separated by colons.
fn first_of(dirs: &OsStr) -> PathBuf {
    let first = dirs.as_bytes().split(|&b| b == b':').next().unwrap_or_default();
    PathBuf::from(OsStr::from_bytes(first))
}

/// systemd's `$STATE_DIRECTORY`, else a folder of this directory's own below the user's state.
fn default_state_dir(
    directory: &Path,
    moved_from: Option<&Path>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, OptionError> {
    if let Some(dirs) = environment("STATE_DIRECTORY") {
        return Ok(first_of(&dirs));
    }
    let home = match (environment("XDG_STATE_HOME"), environment("HOME")) {
        (Some(state), _) => PathBuf::from(state),
        (None, Some(home)) => Path::new(&home).join(".local/state"),
        (None, None) => return Err(OptionError::NoStateHome),
    };
    state_dir(&home.join("dirsyncd"), directory, moved_from)
}

/// The directory's last name, for people, and 16 digits of its path's hash, so that no two share
/// one.
fn state_name(directory: &Path) -> String {
    let name = directory.file_name().map_or(&b"root"[..], OsStrExt::as_bytes);
    let plain = name.iter().take(100).map(|&b| if is_name_byte(b) { char::from(b) } else { '_' });
    let hash = blake3::hash(directory.as_os_str().as_bytes());
    format!("{}-{}", plain.collect::<String>(), text::hex(&hash.as_bytes()[..8]))
}

fn secret_source(
    named: Option<PathBuf>,
    open: bool,
    directory: &Path,
    state_dir: &Path,
) -> Result<SecretSource, OptionError> {
    let own = state_dir.join("secret");
    match named {
        Some(_) if open => Err(OptionError::OpenWithSecret),
        _ if open && own.exists() => Err(OptionError::OpenBesideSecret(shown(&own))),
        _ if open => Ok(SecretSource::Open),
        None => Ok(SecretSource::Own(own)),
        Some(file) => {
            let file = resolve(&file)?;
            refuse_inside(directory, &file, "secret file", "secret-file")?;
            Ok(SecretSource::Named(file))
        }
    }
}

/// What the environment may hold for an option without a value. Empty is as good as unset.
fn switch(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "y" | "t" => Ok(true),
        "" | "0" | "false" | "no" | "off" | "n" | "f" => Ok(false),
        _ => Err("write 1 or 0"),
    }
}

/// The least that `--limit` takes (bytes a second): below it, what keeps a link alive would take a
/// good part.
const LEAST_RATE: u64 = 64 << 10;

/// A `--limit`, in bytes a second.
fn rate(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err("write bytes a second as a number with K, M or G after it, such as 20M".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "write bytes a second as in 20M, 512K or 1000000".to_owned())?;
    match number.checked_mul(1 << shift) {
        Some(rate) if rate >= LEAST_RATE => Ok(rate),
        Some(_) => Err("at least 64K, or nothing would get on; leave it out for no limit".to_owned()),
        None => Err("more than any cable carries; leave it out for no limit".to_owned()),
    }
}

fn peer_address(text: &str) -> Result<PeerAddress, OptionError> {
    let wrong = || OptionError::Peer(text::escape(text.as_bytes()));
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse::<u16>().ok().filter(|&port| port > 0).ok_or_else(wrong)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(address) if matches!(address.parse(), Ok(IpAddr::V6(_))) => address,
        None if is_host(host) => host,
        _ => return Err(wrong()),
    };
    Ok(PeerAddress { host: host.to_owned(), port })
}

/// A name or an IPv4 address; whether it resolves is seen when it is dialled.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.len() <= 253 && !host.starts_with('-') && host.bytes().all(is_name_byte)
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(is_name_byte)
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._-".contains(&b)
}

/// How this machine is called where nobody named it.
pub fn own_name() -> String {
    name_of_host(&host_name())
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The host name with what may not stand in a name replaced.
fn name_of_host(host: &str) -> String {
    let plain: String =
        host.bytes().take(NAME_BYTES).map(|b| if is_name_byte(b) { char::from(b) } else { '-' }).collect();
    if plain.is_empty() { "unnamed".to_owned() } else { plain }
}

fn shown(path: &Path) -> String {
    text::escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests;
