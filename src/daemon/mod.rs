//! The daemon: starts everything in order, turns the loop until it is asked to stop, and ends
//! cleanly.
//!
//! May import everything below; nothing but `bin/` imports it. Deliberately not here: the loop
//! itself (`turn.rs`), wiring (`shell.rs`), decisions (`engine/`).

mod again;
mod background;
mod chores;
mod hangup;
mod http;
mod joining;
mod last_run;
mod leaving;
mod limit;
mod marker;
mod membership;
mod naming;
pub mod preview;
mod reload;
mod shell;
mod turn;

use crate::engine::api::index::{Counts, Index};
use crate::engine::observe::torn::Cut;
use crate::engine::{Config, Engine, Event, Halt, Keeps, OnConflict, RootState, Trust};
use crate::humanize;
use crate::io::Events;
use crate::io::control::http::HttpState;
use crate::io::control::{About, Api, Control, Handle, NoSocket, SecretPlace};
use crate::io::fs::boot::{self, BootPlace};
use crate::io::fs::disk::{Disk, DiskOptions};
use crate::io::fs::nested::{self, NestedError};
use crate::io::fs::root::{Root, RootError};
use crate::io::fs::stall;
use crate::io::identity::import::{self, BegunError};
use crate::io::journal::Journal;
use crate::io::net::device_key::{self, META_FORMER_KEYS};
use crate::io::net::link::Times;
use crate::io::net::mesh::{Listen, Net, NetConfig, NetError};
use crate::io::net::tls::{DeviceKey, KeyError};
use crate::io::store::index::{IndexError, IndexOrigin, OpenedIndex, SqliteIndex};
use crate::io::store::secret::{Secret, SecretError, credentials};
use crate::io::store::state_folder::{StateDir, StateError};
use crate::model::{Capability, DeviceId, text};
use crate::options::{self, CodeSource, ListenPort, Options, SecretSource};
use crate::wire::condition::StopCause;
pub use again::replace_process;
use background::Stop;
use chores::Chores;
use hangup::Hangups;
pub use hangup::catch as catch_hangups;
use http::OtherWays;
use joining::Joined;
use marker::{MarkerError, MarkerVerdict};
pub use reload::{ReadOptions, Reload};
use shell::{NetworkReads, NetworkStaging, Shell};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use turn::{Clock, Loop};

/// Set when a new key was made in the midst of a run: the start that follows takes no other.
const META_RENEWED: &str = "daemon.renewed";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// Somebody asked for it.
    Stopped,
    /// To be started anew, as another device.
    Renewed,
    /// To be started anew, with another name.
    Renamed,
    /// To be started anew, with another secret of its group.
    Rekeyed,
    /// This machine has left its group: nothing is to be started.
    Left,
}

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("the device key cannot be used: {0}")]
    Key(#[from] KeyError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Control(#[from] NoSocket),
    #[error(transparent)]
    Nested(#[from] NestedError),
    #[error("{0}")]
    Marker(String),
    #[error("{0}")]
    Preview(Box<preview::PreviewFailure>),
    #[error("{0}")]
    Joining(Box<joining::JoiningError>),
    #[error(transparent)]
    Begun(#[from] BegunError),
    #[error("cannot start: {0}{more}", more = way_out(.0))]
    Start(#[from] io::Error),
}

impl DaemonError {
    /// Whether it may be over by itself, or by what a person does elsewhere: the disk of the index
    /// is full or failing.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Index(why) if why.is_the_disks())
    }
}

impl From<MarkerError> for DaemonError {
    fn from(why: MarkerError) -> Self {
        match why {
            MarkerError::Index(why) => why.into(),
            MarkerError::Write(_) => Self::Marker(why.to_string()),
        }
    }
}

/// Runs until SIGTERM or SIGINT, or until another device id is needed; an error is the reason of
/// exit code 1.
pub fn run(options: &Options, reload: Reload) -> Result<RunEnd, DaemonError> {
    crate::io::fs::rlimits::raise_descriptors();
    let stop = Stop::default();
    match run_once(options, &stop, reload) {
        Err(why) if why.may_pass() => again::start_anew(why, &options.directory, &stop),
        ended => ended,
    }
}

fn run_once(options: &Options, stop: &Stop, mut reload: Reload) -> Result<RunEnd, DaemonError> {
    nested::refuse(&options.directory)?;
    let state = StateDir::open(&options.state_dir)?;
    import::finish_begun(&state)?;
    let given = secret(options)?;
    let root = Arc::new(Root::open(&options.directory)?);
    let (mut index, was_clean) = open_index(&state, &root)?;
    let options = &naming::named(options, &index);
    let cut = last_run::judge(&mut index, was_clean, &BootPlace::of(&root))?;
    let key = own_key(&mut index, &state)?;
    let device = key.device()?;
    let mut inviter = None;
    let (secret, secret_made) = match given {
        GivenSecret::Here(secret, made) => (secret, made),
        GivenSecret::ToJoin(source, file) => match joining::secret(options, source, file, &state, &index, &key) {
            Ok(Joined { secret, inviter: by }) => {
                if let Some(by) = &by
                    && index.counts() == Counts::default()
                {
                    preview::say_before_joining(options, &key, secret.keys(), by.address.to_string());
                }
                inviter = by;
                (secret, None)
            }
            Err(why) => {
                index.close()?;
                return Err(why);
            }
        },
    };
    let secret = membership::in_force(secret, inviter.as_ref(), options, (&state, &mut index))?;
    let was_renewed = was_renewed(&mut index)?;
    let verdict = marker::judge(&root, &index);
    let marked = verdict == MarkerVerdict::Trusted(Trust::Known);
    match verdict {
        MarkerVerdict::Trusted(Trust::Known) => renew_marker(&root, &mut index)?,
        MarkerVerdict::Trusted(Trust::Restored) => {}
        MarkerVerdict::Missing => marker::expect_last(&root, &index),
    }
    if marked {
        remember(&state, &root, &index);
    }

    let other_ways = OtherWays::wanted(options, &key)?;
    let (events, received) = Events::channel();
    let (handle, requests) = Handle::new(events.clone());
    let disk = start_disk(options, &root, &events, &index)?;
    let net = start_net(net_config(options, key, &secret, (&state, &index)), &events, &root, &disk)?;
    keep_port(options, &state, net.port());
    let about = about(options, net.port(), secret.capability(), other_ways.http());
    let control = bind_control(options, &root)?;
    introduce(options, device, &about, root.keeps());
    if let Some(file) = secret_made {
        say_how_to_add_a_machine(file);
    }
    let shell = Arc::new(Shell::new(disk, net));
    stall::watch(root.waits(), text::escape(options.directory.as_os_str().as_bytes()))?;
    let journal = Journal::new().shown_by(handle.feed().clone());
    let api = Api::new(handle, Arc::clone(&shell) as _, about);
    other_ways.start(&api)?;
    let hangups = Hangups::default();
    background::start(control, api, events, (stop, &hangups))?;

    let mut turns = Loop {
        engine: engine(options, secret.capability(), &root, (device, was_renewed), index),
        journal,
        hands: Arc::clone(&shell),
        clock: Clock::start(),
        events: received,
        requests,
        ends: None,
        leaves: None,
    };
    turns.journal.begin(turns.clock.now());
    say_if_it_was_killed(was_clean, cut.is_some());
    begin(&mut turns, &verdict, cut, options)?;
    let mut chores = Chores::start(&root, state, &shell, marked);
    while !stop.is_asked() && turns.ends.is_none() {
        let due = chores.run(turns.clock.now(), &mut turns.engine)?;
        turns.turn(due)?;
        reload.run_if_asked(&hangups, &shell, turns.engine.index());
        leaving::decide(&mut turns, chores.state())?;
    }
    let ended = turns.ends.unwrap_or(RunEnd::Stopped);
    end(turns, &shell, ended)?;
    if ended == RunEnd::Left {
        leaving::finish(chores.state())?;
    }
    Ok(ended)
}

fn say_if_it_was_killed(was_clean: bool, was_cut: bool) {
    if !was_clean && !was_cut {
        tracing::info!(
            kind = "killed",
            "the last run was killed or failed; the machine and the disk stayed up, so what was \
             written is there"
        );
    }
}

fn about(options: &Options, listen_port: u16, capability: Capability, http: HttpState) -> About {
    About {
        directory: options.directory.clone(),
        state_dir: options.state_dir.clone(),
        listen_port,
        broadcast_port: options.broadcast_port,
        http,
        name_is_given: options.name_is_given,
        secret: match &options.secret {
            SecretSource::Own(_) => SecretPlace::Own,
            SecretSource::Named(file) => SecretPlace::Named(file.clone()),
            SecretSource::Open => SecretPlace::Open,
        },
        capability,
    }
}

fn bind_control(options: &Options, root: &Root) -> Result<Control, NoSocket> {
    let control = Control::bind(root.private(), &options.state_dir)?;
    if control.is_elsewhere() {
        root.learn(|keeps| keeps.sockets = false);
    }
    Ok(control.also_by_inode(root.dir()))
}

fn start_disk(options: &Options, root: &Arc<Root>, events: &Events, index: &SqliteIndex) -> io::Result<Disk> {
    let kept = DiskOptions { signature_dir: Some(options.signature_dir.clone()), ..DiskOptions::default() };
    let disk = Disk::start(Arc::clone(root), events.clone(), &kept)?;
    if index.counts() == Counts::default() {
        disk.expect_many();
    }
    Ok(disk)
}

fn start_net(config: NetConfig, events: &Events, root: &Arc<Root>, disk: &Disk) -> Result<Net, NetError> {
    let incoming = Arc::new(NetworkStaging(disk.stage(), disk.partials()));
    let outgoing = Arc::new(NetworkReads {
        root: Arc::clone(root),
        deltas: disk.deltas(),
        lists: disk.lists(),
        history: disk.history(),
    });
    Net::start(config, events.clone(), incoming, outgoing)
}

/// The engine as the options and the folder want it, not started yet.
fn engine(
    options: &Options,
    capability: Capability,
    root: &Root,
    (device, was_renewed): (DeviceId, bool),
    index: SqliteIndex,
) -> Engine<SqliteIndex> {
    let on_conflict = match options.on_conflict {
        options::ConflictOption::Newest => OnConflict::Newest,
        options::ConflictOption::KeepBoth => OnConflict::KeepBoth,
        options::ConflictOption::Merge => OnConflict::Merge,
    };
    let mut engine = Engine::new(Config { device, name: options.name.clone(), on_conflict }, index);
    if let Some(role) = options.role {
        engine.begin_as(role);
    }
    if !capability.writes() {
        engine.read_only();
    }
    if options.allow_mass_delete {
        engine.allow_mass_delete();
    }
    if was_renewed {
        engine.was_renewed();
    }
    engine.booted(boot::this_boot(root));
    engine.set_keeps(root.keeps());
    if options.no_scrub {
        engine.scrub_only_when_asked();
    }
    engine
}

/// A folder that has a marker can do with it: a full disk is no reason not to serve.
fn renew_marker(root: &Root, index: &mut SqliteIndex) -> Result<(), DaemonError> {
    match marker::renew(root, index) {
        Err(why @ MarkerError::Write(_)) if root.marker().is_some() => {
            tracing::warn!("{why}; the one that is there stays for now");
            Ok(())
        }
        renewed => Ok(renewed?),
    }
}

/// Hands the engine its first event. What the marker says comes before the first walk is asked for.
fn begin(
    turns: &mut Loop<Arc<Shell>>,
    verdict: &MarkerVerdict,
    cut: Option<Cut>,
    options: &Options,
) -> Result<(), DaemonError> {
    let trust = match *verdict {
        MarkerVerdict::Trusted(trust) => trust,
        MarkerVerdict::Missing => Trust::Known,
    };
    if trust == Trust::Restored {
        tracing::warn!(
            "the marker in .dirsync is not the one that the index knows: the folder came back \
             from a snapshot or a backup; what it holds is compared as if found for the first \
             time, and nothing counts as deleted"
        );
    }
    if let Some(cut) = cut {
        tracing::info!(
            kind = "power_cut",
            "the machine lost power or was restarted in the last run, or the disk was taken away: \
             what that left is looked at as such"
        );
        turns.engine.cut_short(cut, trust);
    }
    say_role(&turns.engine);
    let mut actions = Vec::new();
    if *verdict == MarkerVerdict::Missing {
        let why = format!(
            "'{}' has no marker '.dirsync/marker', but the index knows files in it: is its disk \
             mounted? If this is the right folder, stop the daemon, move '{}' away and start \
             again: nothing is deleted then",
            shown(&options.directory),
            shown(&options.state_dir.join("index"))
        );
        actions.extend(turns.engine.handle(
            turns.clock.now(),
            Event::Root(RootState::Wrong(Halt { cause: StopCause::MarkerLost, text: why })),
        ));
    }
    actions.extend(turns.engine.start(turns.clock.now(), trust));
    turns.conclude(actions)?;
    Ok(())
}

fn say_role(engine: &Engine<SqliteIndex>) {
    let (role, local) = (engine.role(), engine.index().counts().local);
    let changes = humanize::counted(local, "local change", "local changes");
    if role.announces() && local > 0 {
        tracing::info!(
            kind = "role",
            "this machine is {}: {changes} of when it was not are announced once the folder was walked",
            role.word()
        );
    } else if !role.is_both() {
        tracing::info!(kind = "role", "this machine is {}; {changes}", role.word());
    }
}

/// Ends in order: peers, disk, what they still had to say, the index.
fn end(mut turns: Loop<Arc<Shell>>, shell: &Shell, ended: RunEnd) -> Result<(), DaemonError> {
    // systemd must not wait for an end that does not come.
    if matches!(ended, RunEnd::Stopped | RunEnd::Left) {
        chores::say_stopping();
    }
    tracing::info!("stopping");
    shell.shutdown();
    // Installs that were finished meanwhile are in the index before it is closed; what follows from
    // them waits for the next start.
    turns.turn(0)?;
    if turns.engine.status().idle {
        last_run::is_over(turns.engine.index_mut());
    }
    let now = turns.clock.now();
    turns.journal.finish(now);
    turns.conclude(Vec::new())?;
    let mut index = turns.engine.into_index();
    if ended == RunEnd::Renewed {
        device_key::renew(&mut index)?;
        index.set_meta(META_RENEWED, b"1");
    }
    index.close()?;
    tracing::info!("stopped");
    Ok(())
}

/// The first line of the log.
fn introduce(options: &Options, device: DeviceId, about: &About, keeps: Keeps) {
    tracing::info!(
        "dirsyncd {} keeps '{}' as device {} ('{}'); TCP port {}, UDP port {}, state in '{}'",
        env!("CARGO_PKG_VERSION"),
        shown(&options.directory),
        device.short(),
        options.name,
        about.listen_port,
        about.broadcast_port,
        shown(&options.state_dir)
    );
    if !keeps.sockets {
        tracing::info!("the control socket is in the state directory '{}'", shown(&options.state_dir));
    }
    let lacks = keeps.lacks();
    if !lacks.is_empty() {
        tracing::warn!(
            "the file system of '{}' has {}: what it cannot keep stays at the other machines as it is",
            shown(&options.directory),
            humanize::listed(&lacks)
        );
    }
    if !about.capability.writes() {
        tracing::info!(
            kind = "role",
            "this machine may only read: what is changed here stays here, and 'dirsync local' lists it"
        );
    }
    if options.secret == SecretSource::Open {
        tracing::warn!("--open: anyone on this network may read and write '{}'", shown(&options.directory));
    }
}

fn say_how_to_add_a_machine(file: &Path) {
    tracing::info!(
        "a new secret was made: '{}'. To add a machine, run 'dirsync invite' here. Whoever has \
         the secret can read and write this folder; one secret is one folder",
        shown(file)
    );
}

/// The group's secret as the options have it.
enum GivenSecret<'a> {
    /// With its file if it was made just now.
    Here(Secret, Option<&'a Path>),
    /// Another machine has it; it is to be stored here.
    ToJoin(&'a CodeSource, &'a Path),
}

fn secret(options: &Options) -> Result<GivenSecret<'_>, SecretError> {
    let credentials = credentials();
    match (&options.secret, &options.join) {
        (SecretSource::Named(file), _) => Ok(GivenSecret::Here(Secret::read(file, credentials.as_deref())?, None)),
        (SecretSource::Open, _) => Ok(GivenSecret::Here(Secret::open_to_all(), None)),
        (SecretSource::Own(file), Some(source)) => Ok(GivenSecret::ToJoin(source, file)),
        (SecretSource::Own(file), None) => {
            let (secret, made) = Secret::read_or_make(file, credentials.as_deref())?;
            Ok(GivenSecret::Here(secret, made.then_some(file.as_path())))
        }
    }
}

fn open_index(state: &StateDir, root: &Root) -> Result<(SqliteIndex, bool), IndexError> {
    let OpenedIndex { index, origin, was_clean } = SqliteIndex::open(&state.index_path())?;
    let has_left = leaving::has_left(state);
    if origin == IndexOrigin::New && has_left {
        tracing::info!("this machine has left its group, and is a new device in a group of its own");
    } else if origin == IndexOrigin::New && root.marker().is_some() {
        tracing::warn!(
            "the folder was synced before, and there is no index in '{}': it is compared as if \
             found for the first time, nothing counts as deleted, and this machine is a new \
             device; if the index is elsewhere, stop and give --state-dir",
            shown(&state.index_path())
        );
    }
    if let IndexOrigin::Rebuilt { aside, why } = origin {
        tracing::warn!(
            "the index was damaged ({}) and is set aside as '{}'; a new one is made by scanning \
             the folder, and this machine is a new device from now on",
            text::escape(why.as_bytes()),
            shown(&aside)
        );
    }
    Ok((index, was_clean))
}

fn own_key(index: &mut SqliteIndex, state: &StateDir) -> Result<DeviceKey, DaemonError> {
    if let Some(key) = device_key::stored(index)? {
        forget_joining_key(state);
        return Ok(key);
    }
    let key = match state.joining_key().and_then(|bytes| DeviceKey::from_bytes(&bytes).ok()) {
        Some(key) => key,
        None => DeviceKey::generate()?,
    };
    device_key::keep(index, &key);
    // Durable before anybody hears of it.
    index.commit()?;
    forget_joining_key(state);
    Ok(key)
}

/// The index has it, or one of its own.
fn forget_joining_key(state: &StateDir) {
    if let Err(why) = state.forget_joining_key() {
        tracing::warn!("the key of a preview cannot be removed from the state directory: {why}");
    }
}

/// Whether the run before this one ended to take this key; said once.
fn was_renewed(index: &mut SqliteIndex) -> Result<bool, IndexError> {
    let was = index.meta(META_RENEWED).is_some_and(|set| !set.is_empty());
    if was {
        index.set_meta(META_RENEWED, &[]);
        index.commit()?;
    }
    Ok(was)
}

/// Which folder this state belongs to; without it a rename of the folder looks like a copy.
fn remember(state: &StateDir, root: &Root, index: &SqliteIndex) {
    if let Err(why) = root.record(marker::accepted(index)).and_then(|record| state.remember(&record)) {
        tracing::warn!("which folder '{}' belongs to cannot be noted in it: {why}", shown(&state.index_path()));
    }
}

/// A second folder of this machine keeps the port that was chosen for it, so that `--peer` and
/// firewalls can name it.
fn keep_port(options: &Options, state: &StateDir, port: u16) {
    let ListenPort::Preferred(usual) = options.listen_port else { return };
    let tried = state.port().unwrap_or(usual);
    if port == tried {
        return;
    }
    match state.set_port(port) {
        Ok(()) => tracing::info!(
            "TCP port {tried} is taken, by another folder's daemon perhaps: this folder has port \
             {port} from now on (--listen-port sets another)"
        ),
        Err(why) => tracing::warn!("port {port} cannot be kept for the next start: {why}"),
    }
}

fn net_config(
    options: &Options,
    key: DeviceKey,
    secret: &Secret,
    (state, index): (&StateDir, &SqliteIndex),
) -> NetConfig {
    NetConfig {
        key,
        keys: secret.keys(),
        secret: (options.secret != SecretSource::Open).then(|| secret.clone()),
        name: options.name.clone(),
        broadcast_port: options.broadcast_port,
        listen: match options.listen_port {
            ListenPort::Preferred(port) => Listen::Default(state.port().unwrap_or(port)),
            ListenPort::Required(port) => Listen::Exactly(port),
        },
        peers: options.peers.iter().map(ToString::to_string).collect(),
        times: Times::default(),
        limit: options.limit.or_else(|| limit::kept(index)),
        group: membership::known(index),
        former_keys: index.meta(META_FORMER_KEYS).unwrap_or_default(),
    }
}

/// Of an error that names no subject: threads and memory are what a start can lack.
fn way_out(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
            "; raise the limits of threads and memory (ulimit -u and -v, or TasksMax= and \
             MemoryMax= of the unit)"
        }
        _ => "",
    }
}

fn shown(path: &Path) -> String {
    text::escape(path.as_os_str().as_bytes())
}
