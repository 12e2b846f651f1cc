//! Members who lie about large contents, linked with real daemons: what they send never gets into a folder, the log names them, and
//! everyone else goes on (P1, P9).
//!
//! Strangers, who do not know the secret, are in `tests/real/hostile_peer.rs`; what breaks the protocol, and so the link, in
//! `tests/net/`.

#[path = "../common/mod.rs"]
mod common;
mod member;

use common::machine::{free_tcp_port, wait_linked};
use common::{Group, Machine, PATIENCE, noise, read, wait_equal, write};
use dirsyncd::model::{Chunks, ContentId};
use dirsyncd::wire::frame::Packet;
use dirsyncd::wire::message::Message;
use dirsyncd::wire::packet::{Ending, Part};
use member::{join, news, pieces};

/// As much as a stream's first credit.
const SIZE: usize = 4 << 20;

/// Two machines; `b` runs and listens where the liars know, `a` is to come.
struct Lab {
    a: Machine,
    b: Machine,
    port: u16,
}

impl Lab {
    fn new() -> Self {
        let (group, port) = (Group::new(), free_tcp_port());
        let (a, mut b) = (group.machine("a"), group.machine("b"));
        b.options = vec!["-l".to_owned(), port.to_string()];
        b.start();
        Self { a, b, port }
    }

    /// `a` comes, and the two go on as if nothing had happened.
    fn goes_on(&self) {
        self.a.start();
        wait_linked(&[&self.a, &self.b]);
        write(self.a.at("small"), "of a");
        write(self.b.at("large"), noise(99, 6 << 20));
        wait_equal(&[&self.a, &self.b], PATIENCE);
        assert!(self.b.exit_status().is_none());
    }
}

/// Says that it holds all of every content, and answers for lists with `list`, and for chunks with what `chunks` says, if it does.
fn boaster(
    list: Vec<u8>,
    chunks: impl Fn(usize, usize) -> Option<Vec<u8>> + Send + 'static,
) -> impl FnMut(&Packet) -> Vec<Packet> + Send + 'static {
    move |packet| match packet {
        Packet::Message(Message::Seek { content, size, .. }) => {
            let chunks = vec![(0, Chunks::of(*size).count())];
            vec![Packet::Message(Message::Have { content: *content, chunks })]
        }
        Packet::Fetch { stream, part: Part::List, .. } => pieces(*stream, 0, &list),
        Packet::Fetch { stream, part: Part::Chunks { first, count }, size, .. } => {
            let (from, length) = Chunks::of(*size).span(*first, *count).expect("a daemon asks for what there is");
            let bytes = chunks(from as usize, length as usize);
            bytes.map_or_else(Vec::new, |bytes| pieces(*stream, from, &bytes))
        }
        Packet::Fetch { stream, .. } => vec![Packet::End { stream: *stream, how: Ending::NotHere }],
        _ => Vec::new(),
    }
}

fn list_of(bytes: &[u8]) -> Vec<u8> {
    let chunks = Chunks::of(bytes.len() as u64);
    let of = |chunk| &bytes[chunks.offset(chunk) as usize..][..chunks.len(chunk) as usize];
    (0..chunks.count()).flat_map(|chunk| chunks.hash(chunk, of(chunk))).collect()
}

#[test]
fn wrong_chunks_of_a_liar_are_refused_and_the_file_comes_from_another() {
    let lab = Lab::new();
    let (good, bad) = (noise(1, SIZE), noise(2, SIZE));
    let first = vec![news("file", ContentId::of(&good), SIZE as u64)];
    let wrong = move |from: usize, length: usize| Some(bad[from..from + length].to_vec());
    let _liar = join(&lab.b, lab.port, "liar", first, boaster(list_of(&good), wrong));
    lab.b.wait_log(&["what liar sent of 'file' is not what it should be"]);
    assert!(!lab.b.at("file").exists());
    write(lab.a.at("file"), &good);
    lab.goes_on();
    assert!(read(lab.b.at("file")) == good);
}

#[test]
fn a_list_that_is_not_the_content_s_costs_its_sender_that_content() {
    let lab = Lab::new();
    let good = noise(3, SIZE);
    let first = vec![news("file", ContentId::of(&good), SIZE as u64)];
    let mut swapped = list_of(&good);
    swapped[..64].rotate_left(32);
    let _one = join(&lab.b, lab.port, "swapper", first, boaster(swapped, |_, _| None));
    let _two = join(&lab.b, lab.port, "inventor", Vec::new(), boaster(vec![7; 4 * 32], |_, _| None));
    lab.b.wait_log(&["what swapper sent of 'file' is not what it should be"]);
    write(lab.a.at("file"), &good);
    lab.goes_on();
    assert!(read(lab.b.at("file")) == good);
}

#[test]
fn a_file_that_no_disk_holds_is_a_trouble_of_that_path_alone() {
    let lab = Lab::new();
    let huge = (1 << 63) - 1;
    let first = vec![news("huge", ContentId([5; 32]), huge)];
    let _boaster = join(&lab.b, lab.port, "boaster", first, boaster(Vec::new(), |_, _| None));
    lab.b.wait_log(&["'huge'", "cannot"]);
    lab.goes_on();
    assert!(!lab.b.at("huge").exists());
}
