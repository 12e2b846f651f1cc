//! A daemon's network without the daemon: staging in memory or on a disk, a folder that serves, and
//! what was logged.

use super::ports::free_udp_port;
use bytes::Bytes;
use dirsyncd::engine::{Action, Event, FetchError, LinkId, ServedFile, StageId, Stat, StatKind};
use dirsyncd::io::fs::delta::Deltas;
use dirsyncd::io::fs::partial::{Partial, Partials};
use dirsyncd::io::fs::root::Root;
use dirsyncd::io::fs::stage::Stage;
use dirsyncd::io::net::greeting::{self, GreetError, Greeted, Identity, Role};
use dirsyncd::io::net::link::Times;
use dirsyncd::io::net::mesh::{Listen, Net, NetConfig, NetError};
use dirsyncd::io::net::tls::{DeviceKey, Tls};
use dirsyncd::io::net::transfer::{Served, StagedWriter, Staging};
use dirsyncd::io::store::secret::Secret;
use dirsyncd::io::{Events, Inbox};
use dirsyncd::model::{ContentId, DeviceId, FileTime, Mode, SyncPath};
use dirsyncd::wire::features::Features;
use dirsyncd::wire::message::Message;
use dirsyncd::wire::packet::PROTOCOL;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

pub const SOON: Duration = Duration::from_secs(10);

/// All that this process logged, and a way to wait for a line.
#[derive(Default)]
struct Log {
    text: Mutex<String>,
    more: Condvar,
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        tracing_subscriber::fmt().with_writer(|| LogWriter).with_ansi(false).init();
        Log::default()
    })
}

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        log().text.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        log().more.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for a line that holds all of `parts`, and returns it.
pub fn logged(parts: &[&str]) -> String {
    let find = |text: &str| text.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned);
    let text = log().text.lock().unwrap();
    let (text, waited) = log().more.wait_timeout_while(text, SOON, |text| find(text).is_none()).unwrap();
    assert!(!waited.timed_out(), "no line with {parts:?} in:\n{text}");
    find(&text).unwrap()
}

/// Waits for so many lines that hold all of `parts`.
pub fn logged_often(parts: &[&str], often: usize) {
    let count = |text: &str| text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
    let text = log().text.lock().unwrap();
    let (text, waited) = log().more.wait_timeout_while(text, SOON, |text| count(text) < often).unwrap();
    assert!(!waited.timed_out(), "fewer than {often} lines with {parts:?} in:\n{text}");
}

/// Staging in memory. Writes wait while `held`.
#[derive(Default)]
pub struct Memory {
    pub staged: Mutex<HashMap<StageId, Vec<u8>>>,
    pub held: Mutex<bool>,
    pub released: Condvar,
}

impl Memory {
    pub fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.released.notify_all();
    }
}

struct MemoryWriter {
    memory: Arc<Memory>,
    bytes: Vec<u8>,
}

pub struct InMemory(Arc<Memory>);

impl Staging for InMemory {
    fn create(&self, _: u64) -> Result<Box<dyn StagedWriter>, FetchError> {
        Ok(Box::new(MemoryWriter { memory: Arc::clone(&self.0), bytes: Vec::new() }))
    }

    fn discard(&self, staged: StageId) {
        self.0.staged.lock().unwrap().remove(&staged);
    }
}

impl StagedWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        let held = self.memory.held.lock().unwrap();
        drop(self.memory.released.wait_while(held, |held| *held).unwrap());
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, content: &ContentId) -> Result<StageId, FetchError> {
        if ContentId::of(&self.bytes) != *content {
            return Err(FetchError::Corrupt);
        }
        let mut staged = self.memory.staged.lock().unwrap();
        let id = StageId(staged.len() as u64 + 1);
        staged.insert(id, self.bytes);
        Ok(id)
    }
}

/// Staging on a disk, for what comes in chunks.
pub struct OnDisk(pub Arc<Stage>, pub Arc<Partials>);

impl OnDisk {
    pub fn new(folder: &Path) -> Arc<Self> {
        let root = Arc::new(Root::open(folder).unwrap());
        let stage = Stage::open(Arc::clone(&root)).unwrap();
        Arc::new(Self(Arc::clone(&stage), Arc::new(Partials::new(root, stage))))
    }
}

impl Staging for OnDisk {
    fn create(&self, _: u64) -> Result<Box<dyn StagedWriter>, FetchError> {
        Err(FetchError::NotHere)
    }

    fn discard(&self, staged: StageId) {
        self.0.discard(staged);
    }

    fn partial(&self, content: &ContentId) -> Option<Arc<Partial>> {
        self.1.get(content)
    }
}

pub struct Folder(PathBuf, Arc<Deltas>);

impl Served for Folder {
    fn open(&self, file: &ServedFile) -> io::Result<File> {
        File::open(self.0.join(file.path.to_text()))
    }

    fn deltas(&self) -> Option<Arc<Deltas>> {
        Some(Arc::clone(&self.1))
    }
}

/// A daemon's network, without the daemon.
pub struct Machine {
    pub net: Net,
    pub device: DeviceId,
    pub events: Inbox,
    pub memory: Arc<Memory>,
    pub folder: tempfile::TempDir,
}

impl Machine {
    pub fn start(name: &str, change: impl FnOnce(&mut NetConfig)) -> Self {
        Self::try_start(name, change).unwrap()
    }

    pub fn try_start(name: &str, change: impl FnOnce(&mut NetConfig)) -> Result<Self, NetError> {
        Self::start_with(name, change, |memory| Arc::new(InMemory(memory)))
    }

    pub fn start_with(
        name: &str,
        change: impl FnOnce(&mut NetConfig),
        staging: impl FnOnce(Arc<Memory>) -> Arc<dyn Staging>,
    ) -> Result<Self, NetError> {
        log();
        let mut config = NetConfig {
            key: DeviceKey::generate().unwrap(),
            keys: Secret::open_to_all().keys(),
            secret: Some(Secret::open_to_all()),
            name: name.to_owned(),
            broadcast_port: free_udp_port(),
            listen: Listen::Exactly(0),
            peers: Vec::new(),
            limit: None,
            group: Arc::default(),
            former_keys: Vec::new(),
            times: Times { retry_min: Duration::from_millis(50), complain: Duration::ZERO, ..Times::default() },
        };
        change(&mut config);
        let device = config.key.device().unwrap();
        let (sender, events) = Events::channel();
        let (memory, folder) = (Arc::<Memory>::default(), tempfile::tempdir().unwrap());
        let root = Arc::new(Root::open(folder.path()).unwrap());
        let stage = Stage::open(Arc::clone(&root)).unwrap();
        let served = Arc::new(Folder(folder.path().to_owned(), Deltas::new(root, stage, None)));
        let net = Net::start(config, sender, staging(Arc::clone(&memory)), served)?;
        Ok(Self { net, device, events, memory, folder })
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.net.port())
    }

    /// Waits for the first event that `pick` wants.
    pub fn wait<T>(&self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let until = Instant::now() + SOON;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).expect("the event awaited never came");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    }

    pub fn linked(&self) -> LinkId {
        self.wait(|event| if let Event::LinkUp { link, .. } = event { Some(link) } else { None })
    }

    pub fn down(&self, which: LinkId) {
        self.wait(|event| matches!(event, Event::LinkDown { link } if link == which).then_some(()));
    }

    pub fn put(&self, name: &str, bytes: &[u8]) -> ServedFile {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
        served_file(self.folder.path(), name, ContentId::of(bytes))
    }

    pub fn run(&self, action: Action) {
        assert_eq!(self.net.run(action), None);
    }
}

pub fn served_file(folder: &Path, name: &str, content: ContentId) -> ServedFile {
    let meta = std::fs::metadata(folder.join(name)).unwrap();
    let stat = Stat {
        kind: StatKind::File,
        size: meta.len(),
        mtime: FileTime { secs: meta.mtime(), nanos: meta.mtime_nsec() as u32 },
        ctime: FileTime { secs: meta.ctime(), nanos: meta.ctime_nsec() as u32 },
        ino: meta.ino(),
        mode: Mode::of(meta.mode()),
    };
    ServedFile { path: SyncPath::new(name).unwrap(), stat, content, size: meta.len(), kept: None }
}

/// Two machines, the second of which dials the first, and their links.
pub fn pair(names: [&str; 2]) -> ([Machine; 2], [LinkId; 2]) {
    let first = Machine::start(names[0], |_| {});
    let second = Machine::start(names[1], |config| config.peers = vec![first.address()]);
    let links = [first.linked(), second.linked()];
    ([first, second], links)
}

pub fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

pub fn message(event: Event) -> Option<Message> {
    if let Event::Message { message, .. } = event { Some(message) } else { None }
}

/// A member that is no `Net`, to say what a `Net` would not.
pub async fn member(net: &Machine, change: impl FnOnce(&mut Identity)) -> Result<Greeted, GreetError> {
    let key = DeviceKey::generate().unwrap();
    let mut me = Identity {
        device: key.device().unwrap(),
        name: "odd".to_owned(),
        tls: Tls::new(&key).unwrap(),
        keys: Secret::open_to_all().keys(),
        protocol: PROTOCOL,
        boot: 1,
        started: 1,
        features: Features::ours(),
        group: Arc::default(),
        former_keys: Bytes::default(),
    };
    change(&mut me);
    let tcp = TcpStream::connect(net.address()).await.unwrap();
    greeting::secure(tcp, Role::Dialler, &me.tls).await?.greet(&me).await
}

pub fn state(pending: u64) -> Message {
    Message::State { root: [7; 16], pending, condition: None }
}
