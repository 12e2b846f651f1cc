//! How fast frames are written and read, and what zlib costs, beside the limits of the machine:
//! copying memory, and a bare TCP pipe.
//!
//! `cargo bench --bench wire`. 16 MiB each time, in pieces as they travel.

use bytes::Bytes;
use dirsyncd::io::net::greeting::{self, Identity, Role, Stream};
use dirsyncd::io::net::tls::{DeviceKey, Tls};
use dirsyncd::io::store::secret::Secret;
use dirsyncd::model::{ContentId, DeviceId, Entry, FileTime, Kind, Mode, SyncPath, Version, VersionVector};
use dirsyncd::wire::features::Features;
use dirsyncd::wire::frame::{self, EncodedFrame, LENGTHS_BYTES, MAX_BODY_BYTES, MAX_HEAD_BYTES, Packet, Squeeze};
use dirsyncd::wire::message::{Change, Message};
use dirsyncd::wire::packet::{PIECE_BYTES, PROTOCOL};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use std::sync::{Arc, LazyLock};
use std::thread;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

const BYTES: usize = 16 << 20;
const SMALL_FILES: usize = 200;
const SMALL_BYTES: usize = 4096;

static NOISE: LazyLock<Bytes> = LazyLock::new(|| noise(BYTES).into());
/// Words of a small vocabulary: shrinks to about a third.
static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
    let letters: Vec<u8> = noise(1 << 16).iter().map(|byte| b'a' + byte % 26).collect();
    let word = |number: &[u8]| {
        let at = usize::from(u16::from_be_bytes([number[0] & 0x0f, number[1]]));
        [&letters[at * 8..][..2 + at % 7], b" "].concat()
    };
    noise(BYTES / 2).chunks_exact(2).flat_map(word).take(BYTES).collect()
});

fn main() {
    divan::main();
}

fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn pieces(of: &Bytes) -> Vec<Packet> {
    let piece = |at: usize| Packet::Piece { stream: 1, offset: at as u64, bytes: of.slice(at..at + PIECE_BYTES) };
    (0..BYTES).step_by(PIECE_BYTES).map(piece).collect()
}

fn changes() -> Packet {
    let change = |n: usize| {
        let bytes = NOISE.slice(n * SMALL_BYTES..(n + 1) * SMALL_BYTES);
        let author = DeviceId([7; 32]);
        let version = Version { stamp: n as u64, author, seen: VersionVector::default().with(author, n as u64) };
        let kind = Kind::File { size: SMALL_BYTES as u64, content: ContentId([1; 32]) };
        let entry = Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version };
        let path = SyncPath::new(format!("some/folder/file-{n}.txt")).expect("a path");
        Change { path, entry, body: Some(bytes) }
    };
    Packet::Message(Message::Changes { changes: (0..SMALL_FILES).map(change).collect(), relayed_to: Vec::new() })
}

fn gathered(frames: impl Iterator<Item = EncodedFrame>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES + BYTES / 8);
    for frame in frames {
        bytes.extend_from_slice(&frame.head);
        bytes.extend_from_slice(&frame.body);
    }
    bytes
}

fn decoded(mut bytes: Bytes) -> usize {
    let mut packets = 0;
    while !bytes.is_empty() {
        let (packet, taken) = frame::decode_first(&bytes).expect("it was just made");
        divan::black_box(packet);
        bytes = bytes.slice(taken..);
        packets += 1;
    }
    packets
}

#[divan::bench]
fn limit_memcpy(bencher: Bencher) {
    let mut to = vec![0; BYTES];
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| to.copy_from_slice(divan::black_box(&NOISE)));
}

#[divan::bench]
fn pieces_written(bencher: Bencher) {
    let packets = pieces(&NOISE);
    let encode = || gathered(packets.iter().map(|packet| frame::encode_as(packet, Squeeze::Never)));
    bencher.counter(BytesCount::new(BYTES)).bench_local(encode);
}

#[divan::bench]
fn pieces_read(bencher: Bencher) {
    let packets = pieces(&NOISE);
    let bytes = Bytes::from(gathered(packets.iter().map(|packet| frame::encode_as(packet, Squeeze::Never))));
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| decoded(bytes.clone()));
}

#[divan::bench]
fn small_files_written_and_read(bencher: Bencher) {
    let packet = changes();
    bencher
        .counter(ItemsCount::new(SMALL_FILES))
        .bench_local(|| decoded(gathered(std::iter::once(frame::encode(&packet))).into()));
}

#[divan::bench]
fn compress_text(bencher: Bencher) {
    let packets = pieces(&TEXT);
    bencher
        .counter(BytesCount::new(BYTES))
        .bench_local(|| packets.iter().map(frame::encode).filter(|f| f.zlib).count());
}

#[divan::bench]
fn inflate_text(bencher: Bencher) {
    let bytes = Bytes::from(gathered(pieces(&TEXT).iter().map(frame::encode)));
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| decoded(bytes.clone()));
}

#[divan::bench]
fn compress_noise_in_vain(bencher: Bencher) {
    let packets = pieces(&NOISE);
    bencher
        .counter(BytesCount::new(BYTES))
        .bench_local(|| packets.iter().map(frame::encode).filter(|f| f.zlib).count());
}

#[divan::bench]
fn limit_tcp_pipe(bencher: Bencher) {
    let runtime = Runtime::new().expect("a runtime");
    let (mut to, mut from) = runtime.block_on(tcp_pair());
    let mut buffer = vec![0; PIECE_BYTES];
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        let write = async {
            for part in NOISE.chunks(PIECE_BYTES) {
                to.write_all(part).await.expect("the other end reads");
            }
        };
        let read = async {
            for _ in 0..BYTES / PIECE_BYTES {
                from.read_exact(&mut buffer).await.expect("the other end writes");
            }
        };
        both(&runtime, write, read);
    });
}

#[divan::bench]
fn pieces_over_tcp(bencher: Bencher) {
    let runtime = Runtime::new().expect("a runtime");
    let ends = runtime.block_on(tcp_pair());
    bench_frames(bencher, &runtime, ends);
}

#[divan::bench]
fn pieces_over_a_link(bencher: Bencher) {
    let runtime = Runtime::new().expect("a runtime");
    let ends = runtime.block_on(link_pair());
    bench_frames(bencher, &runtime, ends);
}

fn bench_frames<S: AsyncRead + AsyncWrite + Unpin + Send>(
    bencher: Bencher,
    runtime: &Runtime,
    (mut to, mut from): (S, S),
) {
    let packets = pieces(&NOISE);
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        let write = async {
            for packet in &packets {
                let frame = frame::encode_as(packet, Squeeze::Never);
                to.write_all(&frame.to_vec()).await.expect("the other end reads");
            }
            to.flush().await.expect("the other end reads");
        };
        let read = async {
            for _ in 0..packets.len() {
                let mut lengths = [0; LENGTHS_BYTES];
                from.read_exact(&mut lengths).await.expect("the other end writes");
                let (head, body) =
                    frame::decode_lengths(lengths, MAX_HEAD_BYTES, MAX_BODY_BYTES).expect("frames alone are sent");
                let mut bytes = vec![0; head + body];
                from.read_exact(&mut bytes).await.expect("the other end writes");
                let bytes = Bytes::from(bytes);
                divan::black_box(frame::decode(&bytes[..head], bytes.slice(head..)).expect("it was just made"));
            }
        };
        both(runtime, write, read);
    });
}

/// Each on a thread of its own, as on two machines.
fn both(runtime: &Runtime, write: impl Future<Output = ()> + Send, read: impl Future<Output = ()>) {
    thread::scope(|scope| {
        scope.spawn(|| runtime.block_on(write));
        runtime.block_on(read);
    });
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let dialled = TcpStream::connect(listener.local_addr().expect("its own")).await.expect("loopback");
    (dialled, listener.accept().await.expect("loopback").0)
}

async fn link_pair() -> (Stream, Stream) {
    let identity = |name: &str| {
        let key = DeviceKey::generate().expect("a key");
        Identity {
            device: key.device().expect("its own"),
            name: name.to_owned(),
            tls: Tls::new(&key).expect("a certificate"),
            keys: Secret::open_to_all().keys(),
            protocol: PROTOCOL,
            boot: 1,
            started: 1,
            features: Features::ours(),
            group: Arc::default(),
            former_keys: Bytes::new(),
        }
    };
    let (dialler, listener) = (identity("a"), identity("b"));
    let (to, from) = tcp_pair().await;
    let greet = async |tcp, role, me: &Identity| {
        greeting::secure(tcp, role, &me.tls).await.expect("TLS").greet(me).await.expect("a member").stream
    };
    tokio::join!(greet(to, Role::Dialler, &dialler), greet(from, Role::Listener, &listener))
}
