//! What is asked of the peer on one link: so many streams at a time as it allows; what is asked
//! beyond that waits for one to end.
//!
//! Who has asked enough is the engine's affair; here nothing is refused or put before something
//! else. A stream counts until the peer said `End`, also one that was cancelled, since the peer
//! counts it so. Deliberately not here: what comes of a stream (`transfer`).

use crate::io::net::transfer::{IncomingContent, MAX_STREAMS};
use crate::wire::frame::Packet;
use crate::wire::packet::Ending;
use std::collections::{HashMap, VecDeque};

#[derive(Default)]
pub(super) struct Asks {
    /// Each is kept until both sides are done with its number.
    fetches: HashMap<u32, IncomingContent>,
    /// Those of them that the peer has not heard of, in order.
    waiting: VecDeque<(u32, Packet)>,
    /// The peer heard of them, and has not ended them.
    open: usize,
}

impl Asks {
    /// What to send now, if there is room: what `packet` asks for.
    pub fn add(&mut self, stream: u32, fetching: IncomingContent, packet: Packet) -> Option<Packet> {
        self.fetches.insert(stream, fetching);
        self.waiting.push_back((stream, packet));
        self.next()
    }

    fn next(&mut self) -> Option<Packet> {
        if self.open >= MAX_STREAMS {
            return None;
        }
        let (_, packet) = self.waiting.pop_front()?;
        self.open += 1;
        Some(packet)
    }

    fn place(&self, stream: u32) -> Option<usize> {
        self.waiting.iter().position(|(waiting, _)| *waiting == stream)
    }

    pub fn knows(&self, stream: u32) -> bool {
        self.fetches.contains_key(&stream)
    }

    /// One of which the peer may send something.
    pub fn asked(&mut self, stream: u32) -> Option<&mut IncomingContent> {
        if self.place(stream).is_some() {
            return None;
        }
        self.fetches.get_mut(&stream)
    }

    /// One that the engine waits for.
    pub fn awaited(&mut self, stream: u32) -> Option<&mut IncomingContent> {
        self.fetches.get_mut(&stream).filter(|fetching| !fetching.answered)
    }

    /// The engine knows how one that it awaited went: what the peer is to be told.
    pub fn answered(&mut self, stream: u32) -> Option<Packet> {
        let fetching = self.awaited(stream)?;
        fetching.answered = true;
        fetching.abandon();
        let has_ended = fetching.ended;
        let place = self.place(stream);
        if has_ended || place.is_some() {
            self.fetches.remove(&stream);
            place.and_then(|place| self.waiting.remove(place));
            return None;
        }
        Some(Packet::Cancel { stream })
    }

    /// The peer ended one. What to ask for in its place, or how it broke the rules.
    pub fn ended(&mut self, stream: u32, how: Ending) -> Result<Option<Packet>, &'static str> {
        let fetching = self.asked(stream).ok_or("an end of no stream")?;
        fetching.end(how)?;
        if fetching.answered {
            self.fetches.remove(&stream);
        }
        self.open -= 1;
        Ok(self.next())
    }

    /// The link is gone: those that the engine still waits for.
    pub fn take_all(&mut self) -> impl Iterator<Item = (u32, IncomingContent)> {
        std::mem::take(self).fetches.into_iter().filter(|(_, fetching)| !fetching.answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(asks: &mut Asks, stream: u32) -> Option<Packet> {
        let (fetching, _) = IncomingContent::new(0, 1);
        asks.add(stream, fetching, Packet::Sign { stream })
    }

    #[test]
    fn what_is_asked_beyond_what_the_peer_allows_waits_for_an_end_and_its_turn() {
        let mut asks = Asks::default();
        let most = MAX_STREAMS as u32;
        for stream in 0..most {
            assert_eq!(ask(&mut asks, stream), Some(Packet::Sign { stream }));
        }
        for stream in most..most + 3 {
            assert_eq!(ask(&mut asks, stream), None);
        }
        assert_eq!(asks.ended(most, Ending::NotHere), Err("an end of no stream"), "nobody asked for it yet");
        assert!(asks.asked(most).is_none() && asks.awaited(most).is_some());
        // One that waits is given up without a word; one that is open counts until the peer has
        // ended it.
        assert_eq!(asks.answered(most), None);
        assert!(!asks.knows(most));
        assert_eq!(asks.answered(0), Some(Packet::Cancel { stream: 0 }));
        assert_eq!(ask(&mut asks, most + 3), None);
        assert_eq!(asks.ended(0, Ending::NotHere), Ok(Some(Packet::Sign { stream: most + 1 })));
        assert!(!asks.knows(0));
        // What has ended there, and is still written here, takes no place.
        assert_eq!(asks.ended(1, Ending::NotHere), Ok(Some(Packet::Sign { stream: most + 2 })));
        assert_eq!(asks.ended(1, Ending::NotHere), Err("a second end of a stream"));
        assert_eq!(asks.answered(1), None);
        assert_eq!(asks.ended(2, Ending::NotHere), Ok(Some(Packet::Sign { stream: most + 3 })));
        assert_eq!(asks.ended(3, Ending::NotHere), Ok(None));
        assert_eq!(ask(&mut asks, most + 4), Some(Packet::Sign { stream: most + 4 }));
    }
}
