//! The network facade between real sockets on this host: who is let in, what arrives, and what is refused.

use bytes::Bytes;
use dirsyncd::engine::{Action, Event, FetchError, FetchId, LinkId, RangeId, ServedFile, StageId, Stat, StatKind};
use dirsyncd::io::delta::Deltas;
use dirsyncd::io::greet::{self, GreetError, Greeted, Identity, Role};
use dirsyncd::io::link::Times;
use dirsyncd::io::net::{Listen, Net, NetConfig, NetError};
use dirsyncd::io::partial::{Partial, Partials};
use dirsyncd::io::root::Root;
use dirsyncd::io::secret::Secret;
use dirsyncd::io::stage::Stage;
use dirsyncd::io::tls::{DeviceKey, Tls};
use dirsyncd::io::transfer::{Served, StagedWriter, Staging};
use dirsyncd::io::{Events, Inbox};
use dirsyncd::model::{ContentId, DeviceId, Entry, FileTime, Kind, Mode, Seen, SyncPath, Version};
use dirsyncd::wire::frame::{self, Packet};
use dirsyncd::wire::message::{Change, Message};
use dirsyncd::wire::packet::{Ending, PIECE_BYTES, PROTOCOL, Part};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(10);
/// Of librsync's MD4 signatures.
const SIGNATURE_MAGIC: u32 = 0x7273_0136;

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
fn logged(parts: &[&str]) -> String {
    let find = |text: &str| text.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned);
    let text = log().text.lock().unwrap();
    let (text, waited) = log().more.wait_timeout_while(text, SOON, |text| find(text).is_none()).unwrap();
    assert!(!waited.timed_out(), "no line with {parts:?} in:\n{text}");
    find(&text).unwrap()
}

/// Staging in memory. Writes wait while `held`.
#[derive(Default)]
struct Memory {
    staged: Mutex<HashMap<StageId, Vec<u8>>>,
    held: Mutex<bool>,
    released: Condvar,
}

impl Memory {
    fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.released.notify_all();
    }
}

struct MemoryWriter {
    memory: Arc<Memory>,
    bytes: Vec<u8>,
}

struct InMemory(Arc<Memory>);

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
struct OnDisk(Arc<Stage>, Arc<Partials>);

impl OnDisk {
    fn new(folder: &Path) -> Arc<Self> {
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

struct Folder(PathBuf, Arc<Deltas>);

impl Served for Folder {
    fn open(&self, file: &ServedFile) -> io::Result<File> {
        File::open(self.0.join(file.path.to_text()))
    }

    fn deltas(&self) -> Option<Arc<Deltas>> {
        Some(Arc::clone(&self.1))
    }
}

/// A daemon's network, without the daemon.
struct Machine {
    net: Net,
    device: DeviceId,
    events: Inbox,
    memory: Arc<Memory>,
    folder: tempfile::TempDir,
}

impl Machine {
    fn start(name: &str, change: impl FnOnce(&mut NetConfig)) -> Self {
        Self::try_start(name, change).unwrap()
    }

    fn try_start(name: &str, change: impl FnOnce(&mut NetConfig)) -> Result<Self, NetError> {
        Self::start_with(name, change, |memory| Arc::new(InMemory(memory)))
    }

    fn start_with(
        name: &str,
        change: impl FnOnce(&mut NetConfig),
        staging: impl FnOnce(Arc<Memory>) -> Arc<dyn Staging>,
    ) -> Result<Self, NetError> {
        log();
        let mut config = NetConfig {
            key: DeviceKey::generate().unwrap(),
            keys: Secret::open_to_all().keys(),
            name: name.to_owned(),
            broadcast_port: free_udp_port(),
            listen: Listen::Exactly(0),
            peers: Vec::new(),
            limit: None,
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

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.net.port())
    }

    /// Waits for the first event that `pick` wants.
    fn wait<T>(&self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let until = Instant::now() + SOON;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).expect("the event awaited never came");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    }

    fn linked(&self) -> LinkId {
        self.wait(|event| if let Event::LinkUp { link, .. } = event { Some(link) } else { None })
    }

    fn down(&self, which: LinkId) {
        self.wait(|event| matches!(event, Event::LinkDown { link } if link == which).then_some(()));
    }

    fn put(&self, name: &str, bytes: &[u8]) -> ServedFile {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
        served_file(self.folder.path(), name, ContentId::of(bytes))
    }

    fn run(&self, action: Action) {
        assert_eq!(self.net.run(action), None);
    }
}

fn served_file(folder: &Path, name: &str, content: ContentId) -> ServedFile {
    let meta = std::fs::metadata(folder.join(name)).unwrap();
    let stat = Stat {
        kind: StatKind::File,
        size: meta.len(),
        mtime: FileTime { secs: meta.mtime(), nanos: meta.mtime_nsec() as u32 },
        ctime: FileTime { secs: meta.ctime(), nanos: meta.ctime_nsec() as u32 },
        ino: meta.ino(),
        mode: Mode::of(meta.mode()),
    };
    ServedFile { path: SyncPath::new(name).unwrap(), stat, content, size: meta.len() }
}

fn free_udp_port() -> u16 {
    std::net::UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

fn free_tcp_port() -> u16 {
    std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

/// Two machines, the second of which dials the first, and their links.
fn pair(names: [&str; 2]) -> ([Machine; 2], [LinkId; 2]) {
    let first = Machine::start(names[0], |_| {});
    let second = Machine::start(names[1], |config| config.peers = vec![first.address()]);
    let links = [first.linked(), second.linked()];
    ([first, second], links)
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

fn state(pending: u64) -> Message {
    Message::State { root: [7; 16], pending }
}

fn message(event: Event) -> Option<Message> {
    if let Event::Message { message, .. } = event { Some(message) } else { None }
}

/// A member that is no `Net`, to say what a `Net` would not.
async fn member(net: &Machine, change: impl FnOnce(&mut Identity)) -> Result<Greeted, GreetError> {
    let key = DeviceKey::generate().unwrap();
    let mut me = Identity {
        device: key.device().unwrap(),
        name: "odd".to_owned(),
        tls: Tls::new(&key).unwrap(),
        link_key: Secret::open_to_all().keys().link,
        protocol: PROTOCOL,
        boot: 1,
        started: 1,
    };
    change(&mut me);
    let tcp = TcpStream::connect(net.address()).await.unwrap();
    greet::secure(tcp, Role::Dialler, &me).await?.greet(&me).await
}

#[test]
fn two_that_hear_each_other_link_once_and_talk() {
    let broadcast_port = free_udp_port();
    let junk = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    junk.set_broadcast(true).unwrap();
    let one = Machine::start("one", |config| config.broadcast_port = broadcast_port);
    for datagram in [&b"junk"[..], &[0xff; 1024], b"{}", &[b'0'; 65]] {
        junk.send_to(datagram, ("127.255.255.255", broadcast_port)).unwrap();
    }
    let start = Instant::now();
    let two = Machine::start("two", |config| config.broadcast_port = broadcast_port);
    let links = [one.linked(), two.linked()];
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

    for (from, link, to, pending) in [(&one, links[0], &two, 1), (&two, links[1], &one, 2)] {
        from.run(Action::Send { to: vec![link], message: state(pending) });
        assert_eq!(to.wait(message), state(pending));
    }
    let info = &two.net.links()[0];
    assert_eq!((info.device, info.name.as_str()), (one.device, "one"));
    assert!(info.sent_bytes > 0 && info.received_bytes > 0);
    assert_eq!(two.net.links().len(), 1);
}

#[test]
fn a_large_content_arrives_verified() {
    let ([asker, server], links) = pair(["asker", "server"]);
    let bytes = noise(20 << 20);
    let file = server.put("big", &bytes);
    let (path, content, size) = (file.path.clone(), file.content, file.size);
    asker.run(Action::Fetch { fetch: FetchId(9), from: links[0], path: path.clone(), content, size });
    let asked = server.wait(|event| match event {
        Event::FetchAsked { link, stream, path, content, size } => Some((link, stream, path, content, size)),
        _ => None,
    });
    assert_eq!(asked, (links[1], FetchId(9), path, content, size));
    server.run(Action::Serve { to: links[1], stream: FetchId(9), file: Some(file) });
    let (staged, wire_bytes) = asker.wait(|event| match event {
        Event::Fetched { fetch: FetchId(9), staged, wire_bytes } => Some((staged, wire_bytes)),
        Event::FetchFailed { why, .. } => panic!("{why:?}"),
        _ => None,
    });
    assert!(asker.memory.staged.lock().unwrap()[&staged] == bytes);
    assert!(wire_bytes > size && wire_bytes < size + size / 100);
    logged(&["sent 'big' to asker (20.0 MiB, "]);
}

#[test]
fn a_content_that_is_gone_wrong_or_changing_is_a_failed_fetch() {
    let ([asker, server], links) = pair(["asker2", "server2"]);
    let content = ContentId::of(b"other");
    let good = server.put("good", &noise(300_000));
    let mut stale = server.put("stale", &noise(300_000));
    stale.stat.ino += 1;
    let cases = [
        (None, FetchError::NotHere),
        (Some(ServedFile { path: SyncPath::new("absent").unwrap(), ..good.clone() }), FetchError::NotHere),
        (Some(good), FetchError::Corrupt),
        (Some(stale), FetchError::NotHere),
    ];
    for (fetch, (file, due)) in cases.into_iter().enumerate() {
        let fetch = FetchId(fetch as u32);
        let path = SyncPath::new("good").unwrap();
        asker.run(Action::Fetch { fetch, from: links[0], path, content, size: 300_000 });
        server.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
        server.run(Action::Serve { to: links[1], stream: fetch, file });
        let failed = asker.wait(|event| match event {
            Event::FetchFailed { fetch, why } => Some((fetch, why)),
            Event::Fetched { .. } => panic!("fetched"),
            _ => None,
        });
        assert_eq!(failed, (fetch, due));
    }
}

/// Has `asker` make 'big' of what it has and what differs at `server`, which keeps no signatures; how that ended.
fn fetch_delta(machines: &[Machine; 2], links: [LinkId; 2], fetch: u32, base: ServedFile, file: ServedFile) -> Event {
    let ([asker, server], fetch) = (machines, FetchId(fetch));
    let (path, content, size) = (file.path.clone(), file.content, file.size);
    asker.run(Action::FetchDelta { fetch, from: links[0], path, content, size, base });
    let (base, base_size) = server.wait(|event| match event {
        Event::DeltaAsked { base, base_size, .. } => Some((base, base_size)),
        _ => None,
    });
    server.run(Action::ServeDelta { to: links[1], stream: fetch, file: Some(file), base, base_size });
    asker.wait(|event| matches!(event, Event::Fetched { .. } | Event::FetchFailed { .. }).then_some(event))
}

#[test]
fn a_delta_is_made_of_the_asker_s_signature_and_verified_by_the_asker() {
    let (machines, links) = pair(["asker8", "server8"]);
    let old = noise(5 << 20);
    let (mut new, mut other) = (old.clone(), old.clone());
    new.splice(1000..1000, *b"some words more");
    other.splice(2000..2010, *b"less");
    let [asker, server] = &machines;
    let (base, file) = (asker.put("big", &old), server.put("big", &new));
    let ended = fetch_delta(&machines, links, 1, base.clone(), file.clone());
    let Event::Fetched { staged, wire_bytes, .. } = ended else { panic!("{ended:?}") };
    let staged = asker.folder.path().join(".dirsync/staging").join(format!("{:016x}", staged.0));
    assert!(std::fs::read(staged).unwrap() == new);
    assert!(wire_bytes < 20_000, "{wire_bytes}");
    logged(&["sent 'big' to asker8 as a delta (5.0 MiB, "]);

    let is_no_delta = |event: &Event| matches!(event, Event::FetchFailed { why: FetchError::NoDelta, .. });
    let not_that = ServedFile { content: ContentId::of(&other), ..file.clone() };
    assert!(is_no_delta(&fetch_delta(&machines, links, 2, base.clone(), not_that)));
    logged(&["server8's delta for 'big' is of no use: what it makes is not the announced content"]);
    let unrelated = server.put("unrelated", &noise(6 << 20)[5 << 20..].repeat(5));
    assert!(is_no_delta(&fetch_delta(&machines, links, 3, base.clone(), unrelated)));
    let edited = asker.put("big", &other);
    let (stale, _) = (base, edited);
    assert!(is_no_delta(&fetch_delta(&machines, links, 4, stale, file)));
}

/// A frame whose body inflates to 16 MiB, and announces 4 KiB.
fn bomb() -> Vec<u8> {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    zlib.write_all(&vec![0; 16 << 20]).unwrap();
    let (head, body) = (br#"{"kind":"piece","stream":1,"offset":0,"inflated":4096}"#, zlib.finish().unwrap());
    let lengths = [head.len(), body.len()].map(|length| (length as u32).to_be_bytes()).concat();
    [&lengths[..], head, &body].concat()
}

/// The packets that came, up to one that `is_last`.
async fn heard_until(greeted: &mut Greeted, is_last: impl Fn(&Packet) -> bool) -> Packet {
    loop {
        let mut lengths = [0; frame::LENGTHS_BYTES];
        greeted.stream.read_exact(&mut lengths).await.unwrap();
        let (head, body) = frame::decode_lengths(lengths, frame::MAX_HEAD_BYTES, frame::MAX_BODY_BYTES).unwrap();
        let mut bytes = vec![0; head + body];
        greeted.stream.read_exact(&mut bytes).await.unwrap();
        let packet = frame::decode(&bytes[..head], Bytes::copy_from_slice(&bytes[head..])).unwrap();
        if is_last(&packet) {
            return packet;
        }
    }
}

async fn say(greeted: &mut Greeted, packet: Packet) {
    greeted.stream.write_all(&frame::encode(&packet).to_vec()).await.unwrap();
    greeted.stream.flush().await.unwrap();
}

#[tokio::test]
async fn of_a_member_s_signature_exactly_what_is_due_is_taken() {
    let machine = Machine::start("server9", |_| {});
    let file = machine.put("big", &noise(1 << 20));
    let mut greeted = member(&machine, |me| me.name = "odd9".to_owned()).await.unwrap();
    let link = machine.linked();
    let (path, base, base_size) = (file.path.clone(), ContentId([1; 32]), 1 << 20);
    // 512 blocks of 2 KiB: magic, block size, hash length, entries.
    let signature = |header: [u32; 3], entries: usize| {
        let mut bytes = header.map(u32::to_be_bytes).concat();
        bytes.resize(12 + entries * 20, 0);
        bytes
    };
    let rows = [
        ("block size 0", signature([SIGNATURE_MAGIC, 0, 16], 512)),
        ("hash length 0", signature([SIGNATURE_MAGIC, 2048, 0], 512)),
        ("hash length over 16", signature([SIGNATURE_MAGIC, 2048, 17], 512)),
        ("too few entries, and then no more", signature([SIGNATURE_MAGIC, 2048, 16], 511)),
        ("an entry too many", signature([SIGNATURE_MAGIC, 2048, 16], 513)),
    ];
    for ((what, bytes), stream) in rows.into_iter().zip(1..) {
        let (path, content, size) = (path.clone(), file.content, file.size);
        say(&mut greeted, Packet::Delta { stream, path, content, size, base, base_size }).await;
        machine.wait(|event| matches!(event, Event::DeltaAsked { .. }).then_some(()));
        let file = Some(file.clone());
        machine.run(Action::ServeDelta { to: link, stream: FetchId(stream), file, base, base_size });
        heard_until(&mut greeted, |packet| matches!(packet, Packet::Sign { .. })).await;
        let length = bytes.len();
        say(&mut greeted, Packet::Signature { stream, bytes: bytes.into() }).await;
        if length > 12 + 512 * 20 {
            continue;
        }
        if length < 12 + 512 * 20 {
            say(&mut greeted, Packet::Cancel { stream }).await;
        }
        let end = heard_until(&mut greeted, |packet| matches!(packet, Packet::End { .. })).await;
        assert_eq!(end, Packet::End { stream, how: Ending::NoDelta }, "{what}");
    }
    machine.down(link);
    logged(&["the link with odd9", "a signature that is longer than its file's size says"]);
    logged(&["no delta of 'big' is made for odd9: a signature is not of the agreed kind"]);
}

#[tokio::test]
async fn of_40_mb_of_signature_no_more_is_taken_than_is_due() {
    let machine = Machine::start("server10", |_| {});
    let file = machine.put("big", &noise(1 << 20));
    let mut greeted = member(&machine, |me| me.name = "odd10".to_owned()).await.unwrap();
    let link = machine.linked();
    let (path, content, size) = (file.path.clone(), file.content, file.size);
    let (stream, base, base_size) = (1, ContentId([1; 32]), 1 << 20);
    say(&mut greeted, Packet::Delta { stream, path, content, size, base, base_size }).await;
    machine.wait(|event| matches!(event, Event::DeltaAsked { .. }).then_some(()));
    machine.run(Action::ServeDelta { to: link, stream: FetchId(stream), file: Some(file), base, base_size });
    heard_until(&mut greeted, |packet| matches!(packet, Packet::Sign { .. })).await;
    let part = frame::encode(&Packet::Signature { stream, bytes: noise(PIECE_BYTES).into() }).to_vec();
    let mut took = 0;
    while took < 40_000_000 && greeted.stream.write_all(&part).await.is_ok() && greeted.stream.flush().await.is_ok() {
        took += part.len();
    }
    assert!(took < 40_000_000, "it took all of it");
    machine.down(link);
    logged(&["the link with odd10", "a signature that is longer than its file's size says"]);
}

#[test]
fn small_contents_come_packed_and_those_that_changed_come_as_not_here() {
    let ([asker, server], links) = pair(["asker3", "server3"]);
    let mut files = Vec::new();
    for id in 0..300_u32 {
        files.push((id, Some(server.put(&format!("f{id}"), &noise(10_000 + id as usize)))));
    }
    files[5].1.as_mut().unwrap().stat.mtime.secs -= 1;
    files[6].1 = None;
    server.run(Action::SendContents { to: links[1], files });
    let mut here = 0;
    let mut answered = 0;
    let mut messages = 0;
    while answered < 300 {
        let Message::Contents { contents } = asker.wait(message) else { continue };
        messages += 1;
        for (id, bytes) in contents {
            answered += 1;
            assert_eq!(bytes.is_none(), id == 5 || id == 6, "{id}");
            here += usize::from(bytes.is_some_and(|bytes| bytes == noise(10_000 + id as usize)));
        }
    }
    assert_eq!((here, messages), (298, 3));
}

#[test]
fn a_small_message_overtakes_a_large_content() {
    let ([asker, server], links) = pair(["asker4", "server4"]);
    let file = server.put("big", &noise(12 << 20));
    asker.memory.hold(true);
    let (path, content, size) = (file.path.clone(), file.content, file.size);
    asker.run(Action::Fetch { fetch: FetchId(1), from: links[0], path, content, size });
    server.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
    server.run(Action::Serve { to: links[1], stream: FetchId(1), file: Some(file) });
    // The disk takes nothing, the stream is out of credit, and yet messages pass.
    for pending in 0..100 {
        server.run(Action::Send { to: vec![links[1]], message: state(pending) });
        assert_eq!(asker.wait(message), state(pending));
    }
    asker.memory.hold(false);
    asker.wait(|event| matches!(event, Event::Fetched { .. }).then_some(()));
}

#[test]
fn a_fetch_ends_with_its_link_and_nothing_comes_after_that() {
    let ([asker, server], links) = pair(["asker5", "server5"]);
    let content = ContentId::of(b"x");
    let path = SyncPath::new("x").unwrap();
    asker.run(Action::Fetch { fetch: FetchId(1), from: links[0], path: path.clone(), content, size: 1 << 40 });
    server.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
    server.net.shutdown();
    let failed = asker.wait(|event| if let Event::FetchFailed { why, .. } = event { Some(why) } else { None });
    assert_eq!(failed, FetchError::LinkLost);
    let next = asker.wait(Some);
    assert!(matches!(next, Event::LinkDown { link } if link == links[0]), "{next:?}");
    logged(&["the link with server5", "ended: it said goodbye: it stops"]);
    asker.run(Action::Fetch { fetch: FetchId(2), from: links[0], path, content, size: 1 << 40 });
    let next = asker.wait(Some);
    assert!(matches!(next, Event::FetchFailed { fetch: FetchId(2), why: FetchError::LinkLost }), "{next:?}");
}

#[test]
fn a_cancelled_fetch_is_answered_once_and_its_late_pieces_are_no_fault() {
    let ([asker, server], links) = pair(["asker6", "server6"]);
    let file = server.put("big", &noise(12 << 20));
    asker.memory.hold(true);
    let (path, content, size) = (file.path.clone(), file.content, file.size);
    asker.run(Action::Fetch { fetch: FetchId(1), from: links[0], path: path.clone(), content, size });
    server.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
    server.run(Action::Serve { to: links[1], stream: FetchId(1), file: Some(file.clone()) });
    asker.run(Action::CancelFetch { fetch: FetchId(1) });
    asker.wait(|event| matches!(event, Event::FetchFailed { .. }).then_some(()));
    asker.memory.hold(false);
    // The link goes on, and the next content arrives.
    asker.run(Action::Fetch { fetch: FetchId(2), from: links[0], path, content, size });
    server.wait(|event| matches!(event, Event::FetchAsked { stream: FetchId(2), .. }).then_some(()));
    server.run(Action::Serve { to: links[1], stream: FetchId(2), file: Some(file) });
    asker.wait(|event| match event {
        Event::Fetched { fetch: FetchId(2), .. } => Some(()),
        Event::Fetched { .. } | Event::FetchFailed { .. } | Event::LinkDown { .. } => panic!("{event:?}"),
        _ => None,
    });
}

#[test]
fn another_secret_is_refused_at_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (other, _) = Secret::read_or_make(&dir.path().join("secret"), None).unwrap();
    let first = Machine::start("first", |_| {});
    let _second = Machine::start("second", |config| {
        config.keys = other.keys();
        config.peers = vec![first.address()];
    });
    logged(&["--peer", &first.address(), "holds another secret than this machine: copy the secret file"]);
    logged(&["WARN", "127.0.0.1:", "holds another secret"]);
    assert!(first.events.try_recv().is_err(), "no link came up");
}

#[tokio::test]
async fn another_protocol_is_refused_with_a_line() {
    let machine = Machine::start("modern", |_| {});
    let refused = member(&machine, |me| me.protocol = 999).await;
    assert!(matches!(refused, Err(GreetError::OtherProtocol(PROTOCOL))));
    logged(&["speaks protocol 999, this machine 1: install the same version"]);
    assert!(machine.events.try_recv().is_err());
}

#[tokio::test]
async fn garbage_instead_of_a_greeting_is_refused_and_others_are_served() {
    let machine = Machine::start("public", |_| {});
    let mut tcp = TcpStream::connect(machine.address()).await.unwrap();
    let from = tcp.local_addr().unwrap().to_string();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let _ = tcp.read_to_end(&mut Vec::new()).await;
    logged(&[&from, "does not speak dirsyncd's protocol"]);

    let mut tcp = TcpStream::connect(machine.address()).await.unwrap();
    let from = tcp.local_addr().unwrap().to_string();
    let mut endless = vec![22, 3, 1, 0x3f, 0xff, 1, 0, 0xff, 0xff];
    endless.resize(20_000, 0);
    let _ = tcp.write_all(&endless).await;
    let _ = tcp.read_to_end(&mut Vec::new()).await;
    logged(&[&from, "sent more than 4 KiB before proving"]);

    member(&machine, |_| {}).await.unwrap();
    machine.linked();
}

#[tokio::test]
async fn a_member_that_breaks_the_protocol_loses_its_link_and_is_named() {
    let machine = Machine::start("strict", |_| {});
    let piece = Packet::Piece { stream: 5, offset: 0, bytes: Bytes::from_static(b"x") };
    let (path, content) = (SyncPath::new("f").unwrap(), ContentId([1; 32]));
    let delta = |stream| {
        let (path, size, base_size) = (path.clone(), 1 << 20, 1 << 62);
        frame::encode(&Packet::Delta { stream, path, content, size, base: content, base_size }).to_vec()
    };
    let huge = {
        let version = Version { stamp: 1, author: DeviceId([1; 32]), seen: Seen::default() };
        let kind = Kind::File { size: 1 << 63, content };
        let entry = Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version };
        let changes = vec![Change { path: path.clone(), entry, body: None }];
        frame::encode(&Packet::Message(Message::Changes { changes, told: Vec::new() })).to_vec()
    };
    let seek = Packet::Message(Message::Seek { path: path.clone(), content, size: 1 << 63 });
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("giant", huge, "an entry is out of range"),
        ("seeker", frame::encode(&seek).to_vec(), "a size of 2^63 or more"),
        ("bomber", bomb(), "a frame's body does not inflate to the 4096 bytes announced"),
        (
            "oversize",
            [0u32, 0x0020_0001].map(u32::to_be_bytes).concat(),
            "a frame announces a head of 0 and a body of 2097153",
        ),
        ("junk", [&[0, 0, 0, 4, 0, 0, 0, 0][..], b"!\x1b[m"].concat(), "a frame's head is malformed"),
        ("pusher", frame::encode(&piece).to_vec(), "a piece that nobody asked for"),
        ("signer", frame::encode(&Packet::Sign { stream: 1 }).to_vec(), "a signature asked for on no stream"),
        ("repeater", [delta(1), delta(1)].concat(), "a stream's number used twice"),
        ("hoarder", (0..65).flat_map(delta).collect(), "over 64 contents asked for at once"),
        ("greeter", frame::encode(&Packet::Proof { mac: [0; 32] }).to_vec(), "a 'proof' after the greeting"),
    ];
    for (name, bytes, line) in cases {
        let mut greeted = member(&machine, |me| me.name = name.to_owned()).await.unwrap();
        let link = machine.linked();
        greeted.stream.write_all(&bytes).await.unwrap();
        greeted.stream.flush().await.unwrap();
        machine.down(link);
        let said = logged(&["WARN", &format!("the link with {name}"), line]);
        assert!(!said.contains('\u{1b}'));
    }
}

#[tokio::test]
async fn a_silent_member_is_gone() {
    let machine = Machine::start("listener", |config| config.times.silence = Duration::from_millis(300));
    let _greeted = member(&machine, |me| me.name = "mute".to_owned()).await.unwrap();
    let link = machine.linked();
    machine.down(link);
    logged(&["the link with mute", "it was silent for 0.3 s"]);
}

#[tokio::test]
async fn a_stranger_that_says_nothing_is_dropped() {
    let machine = Machine::start("patient", |config| config.times.greet = Duration::from_millis(200));
    let mut tcp = TcpStream::connect(machine.address()).await.unwrap();
    let from = tcp.local_addr().unwrap().to_string();
    assert_eq!(tcp.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    logged(&[&from, "was silent, or too slow"]);
}

#[test]
fn when_both_dial_one_and_the_same_link_stays() {
    for _ in 0..5 {
        let ports = [free_tcp_port(), free_tcp_port()];
        let start = |own: usize| {
            Machine::start("both", |config| {
                config.listen = Listen::Exactly(ports[own]);
                config.peers = vec![format!("127.0.0.1:{}", ports[1 - own])];
            })
        };
        let machines = [start(0), start(1)];
        // Links may come and go until both ends hold the same one; then it carries a message.
        let until = Instant::now() + SOON;
        loop {
            assert!(Instant::now() < until, "no link stayed");
            let links = machines.each_ref().map(|machine| machine.net.links());
            let [[here], [there]] = links.each_ref().map(Vec::as_slice) else { continue };
            if here.dialled == there.dialled {
                continue;
            }
            machines[0].run(Action::Send { to: vec![here.link], message: state(3) });
            let arrived = std::iter::from_fn(|| machines[1].events.recv_timeout(Duration::from_millis(500)).ok());
            if arrived.filter_map(message).any(|message| message == state(3)) {
                break;
            }
        }
        let links = machines.each_ref().map(|machine| machine.net.links());
        assert!(links.iter().all(|links| links.len() == 1), "{links:?}");
    }
}

#[test]
fn a_machine_that_dials_itself_is_refused() {
    let port = free_tcp_port();
    let machine = Machine::start("lonely", |config| {
        config.listen = Listen::Exactly(port);
        config.peers = vec![format!("127.0.0.1:{port}")];
    });
    logged(&[&format!("--peer 127.0.0.1:{port}"), "is this daemon itself"]);
    assert!(machine.events.try_recv().is_err());
}

#[test]
fn a_link_that_was_cut_comes_back() {
    let ([first, second], links) = pair(["first7", "second7"]);
    first.run(Action::Close { link: links[0], why: "a test".to_owned() });
    first.down(links[0]);
    second.down(links[1]);
    assert_ne!(first.linked(), links[0]);
    logged(&["the link with second7", "broke the protocol: a test"]);
}

#[test]
fn a_port_in_use_is_refused_or_gives_way() {
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = Machine::try_start("a", |config| config.listen = Listen::Exactly(port)).err().unwrap().to_string();
    assert!(refused.contains(&port.to_string()) && refused.contains("--listen-port"), "{refused}");
    let other = Machine::start("b", |config| config.listen = Listen::Default(port));
    assert_ne!(other.net.port(), port);
}

#[test]
fn a_bad_peer_is_refused_by_name() {
    for bad in ["nas", ":6000", "nas:", "nas:0", "nas:65536", "a b:1", "http://nas:6000", "::1:6000", "na\u{1b}s:1"] {
        let refused = Machine::try_start("a", |config| config.peers = vec![bad.to_owned()]).err().unwrap().to_string();
        assert!(
            refused.contains("--peer") && refused.contains("HOST:PORT") && !refused.contains('\u{1b}'),
            "{refused}"
        );
    }
    Machine::start("a", |config| config.peers = vec!["[::1]:1".to_owned(), "nas.local:6000".to_owned()]);
}

/// One that fetches in chunks from another.
struct Chunked {
    asker: Machine,
    server: Machine,
    links: [LinkId; 2],
    staging: Arc<OnDisk>,
    _folder: tempfile::TempDir,
}

impl Chunked {
    fn new(names: [&str; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let staging = OnDisk::new(folder.path());
        let server = Machine::start(names[0], |_| {});
        let dialling = |config: &mut NetConfig| config.peers = vec![server.address()];
        let asker = Machine::start_with(names[1], dialling, |_| Arc::clone(&staging) as _).unwrap();
        let links = [asker.linked(), server.linked()];
        Self { asker, server, links, staging, _folder: folder }
    }

    /// Asks for a part, and has it served from `file`.
    fn fetch(&self, id: u32, of: &ServedFile, part: Part, file: Option<ServedFile>) -> Vec<Event> {
        let (path, content, size) = (of.path.clone(), of.content, of.size);
        self.asker.run(Action::FetchPart { range: RangeId(id), from: self.links[0], path, content, size, part });
        self.server.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
        self.server.run(Action::Serve { to: self.links[1], stream: FetchId(id), file });
        let mut events = Vec::new();
        self.asker.wait(|event| {
            let ended = matches!(event, Event::RangeEnded { .. });
            events.push(event);
            ended.then_some(())
        });
        events
    }
}

fn how(events: &[Event]) -> &Result<(), FetchError> {
    match events.last() {
        Some(Event::RangeEnded { how, .. }) => how,
        other => panic!("{other:?}"),
    }
}

#[test]
fn chunks_and_their_list_arrive_verified_and_a_wrong_one_never_counts() {
    let lab = Chunked::new(["chunk-server", "chunk-asker"]);
    let bytes = noise((6 << 20) + 5);
    let good = lab.server.put("good", &bytes);
    let partial = lab.staging.1.open(good.content, good.size).unwrap();
    let mut wrong = bytes.clone();
    wrong[(5 << 20) + 1] ^= 1;
    let wrong = ServedFile { content: good.content, ..lab.server.put("wrong", &wrong) };

    let events = lab.fetch(1, &good, Part::List, Some(wrong.clone()));
    assert_eq!(how(&events), &Err(FetchError::NotHere), "a server that is honest knows that its file is another");
    let events = lab.fetch(2, &good, Part::List, Some(good.clone()));
    assert!(matches!(&events[0], Event::ListCame { range: RangeId(2), bad } if bad.is_empty()), "{events:?}");
    let events = lab.fetch(3, &good, Part::Chunks { first: 4, count: 3 }, Some(wrong));
    assert!(matches!(events[0], Event::ChunkCame { range: RangeId(3), chunk: 4, .. }), "{events:?}");
    assert_eq!((events.len(), how(&events)), (2, &Err(FetchError::Corrupt)));
    assert_eq!(partial.here().0, [(4, 1)]);
    for (id, first, count) in [(4, 0, 4), (5, 5, 2)] {
        let events = lab.fetch(id, &good, Part::Chunks { first, count }, Some(good.clone()));
        assert_eq!((events.len(), how(&events)), (count as usize + 1, &Ok(())));
    }
    assert!(lab.staging.1.finish(&good.content).is_ok());
}

#[test]
fn a_content_on_its_way_is_served_as_far_as_it_is_verified() {
    let lab = Chunked::new(["part-server", "part-asker"]);
    let bytes = noise(5 << 20);
    let good = lab.server.put("good", &bytes);
    let partial = lab.staging.1.open(good.content, good.size).unwrap();
    let whole = Part::Chunks { first: 0, count: 2 };
    lab.fetch(1, &good, whole, Some(good.clone()));
    assert!(!partial.may_serve(0, 2), "without a list");
    lab.fetch(2, &good, Part::List, Some(good.clone()));
    assert!(partial.may_serve(0, 2) && !partial.may_serve(1, 2));
    // Now the one that asked is asked.
    let (path, content, size) = (good.path.clone(), good.content, good.size);
    let ask = |range, part| Action::FetchPart {
        range: RangeId(range),
        from: lab.links[1],
        path: path.clone(),
        content,
        size,
        part,
    };
    lab.server.run(ask(7, whole));
    let ended = lab.server.wait(|event| if let Event::RangeEnded { how, .. } = event { Some(how) } else { None });
    assert_eq!(ended, Err(FetchError::NotHere), "it has no place for it");
}

/// A member that is asked for a part of a content of 8 MiB, answers with what `answers` makes of it, and is hung up on.
fn lying_member(machine: &Machine, name: &str, part: Part, answers: impl FnOnce(u32) -> Vec<Packet>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut greeted = member(machine, |me| name.clone_into(&mut me.name)).await.unwrap();
        let link = machine.linked();
        let (path, content) = (SyncPath::new("big").unwrap(), ContentId([9; 32]));
        machine.run(Action::FetchPart { range: RangeId(5), from: link, path, content, size: 8 << 20, part });
        for packet in answers(5) {
            greeted.stream.write_all(&frame::encode(&packet).to_vec()).await.unwrap();
        }
        greeted.stream.flush().await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(SOON, greeted.stream.read_to_end(&mut rest)).await.expect("it is hung up on");
    });
}

/// Why it is hung up on, what it was asked for, and what it sends on a stream of that number.
type Case = (&'static str, Part, Box<dyn FnOnce(u32) -> Vec<Packet>>);

#[test]
fn a_peer_that_sends_what_no_range_holds_is_named_and_hung_up_on() {
    let zeros = |offset, count| move |stream| vec![Packet::Zeros { stream, offset, count }];
    let (mib, chunks) = (1 << 20, Part::Chunks { first: 1, count: 2 });
    // Of 8 chunks.
    let list = |hashes: usize| {
        move |stream| {
            let (bytes, how) = (vec![7; hashes * 32].into(), Ending::Whole);
            vec![Packet::Piece { stream, offset: 0, bytes }, Packet::End { stream, how }]
        }
    };
    let cases: [Case; 7] = [
        ("a piece at a wrong offset", chunks, Box::new(zeros(0, 1))),
        ("more bytes than the content has", chunks, Box::new(zeros(mib, 2 * mib + 1))),
        ("more bytes than the content has", chunks, Box::new(zeros(mib, (1 << 63) - 1))),
        ("before the content's last byte", chunks, Box::new(|stream| vec![Packet::End { stream, how: Ending::Whole }])),
        ("zeros that nobody asked for", chunks, Box::new(|_| vec![Packet::Zeros { stream: 6, offset: 0, count: 1 }])),
        ("before the content's last byte", Part::List, Box::new(list(7))),
        ("more bytes than the content has", Part::List, Box::new(list(9))),
    ];
    for (number, (why, part, answers)) in cases.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let staging = OnDisk::new(folder.path());
        staging.1.open(ContentId([9; 32]), 8 << 20).unwrap();
        let machine = Machine::start_with("careful", |_| {}, |_| Arc::clone(&staging) as _).unwrap();
        lying_member(&machine, &format!("liar{number}"), part, answers);
        logged(&[&format!("the link with liar{number}"), why]);
    }
}

#[test]
fn a_peer_that_asks_for_chunks_which_no_content_has_is_named_and_hung_up_on() {
    let machine = Machine::start("asked", |_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut greeted = member(&machine, |_| {}).await.unwrap();
        let part = Part::Chunks { first: u32::MAX, count: 2 };
        let (path, content) = (SyncPath::new("big").unwrap(), ContentId([9; 32]));
        let packet = Packet::Fetch { stream: 1, path, content, size: 8 << 20, part };
        greeted.stream.write_all(&frame::encode(&packet).to_vec()).await.unwrap();
        greeted.stream.flush().await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(SOON, greeted.stream.read_to_end(&mut rest)).await.expect("it is hung up on");
    });
    logged(&["odd", "it asks for chunks that the content has not"]);
}
