//! The swarm as a table of what is asked of whom, and as many machines that fetch from each other.

use super::*;
use crate::engine::limits::{SECOND, SWARM_STARVES_NS};
use crate::model::chunks::CHUNK_BYTES;
use rstest::rstest;

const SEED: LinkId = LinkId(1);
const OTHER: LinkId = LinkId(2);
const THIRD: LinkId = LinkId(3);

/// Of so many chunks, with the list here.
fn swarm(chunks: u32) -> Swarm {
    let mut swarm = Swarm::new(0, Chunks::of(u64::from(chunks) * CHUNK_BYTES));
    swarm.listed = true;
    swarm
}

/// Asks for all that may be asked for; numbers ranges from `next`.
fn ask_all(swarm: &mut Swarm, now: u64, next: &mut u32) -> Vec<(RangeId, Ask)> {
    std::iter::from_fn(|| {
        let ask = swarm.next()?;
        *next += 1;
        swarm.asking(now, RangeId(*next), ask);
        Some((RangeId(*next), ask))
    })
    .collect()
}

fn bring(swarm: &mut Swarm, now: u64, range: RangeId, ask: Ask) {
    for chunk in ask.first..ask.first + ask.count {
        swarm.came(now, range, chunk);
    }
    swarm.ended(now, range, Ok(()));
}

fn ids(asks: &[(RangeId, Ask)]) -> Vec<(RangeId, LinkId)> {
    asks.iter().map(|(id, ask)| (*id, ask.from)).collect()
}

#[test]
fn of_one_source_a_content_comes_in_order_with_a_full_window() {
    let mut swarm = swarm(100);
    swarm.add_source(0, SEED);
    let mut next = 0;
    let asks = ask_all(&mut swarm, 0, &mut next);
    let parts: Vec<_> = asks.iter().map(|(_, ask)| (ask.first, ask.count)).collect();
    assert_eq!(parts, (0..8).map(|n| (n * 4, 4)).collect::<Vec<_>>());
    bring(&mut swarm, 1, asks[0].0, asks[0].1);
    assert_eq!(ask_all(&mut swarm, 1, &mut next)[0].1, Ask { from: SEED, first: 32, count: 4 });
}

#[test]
fn of_one_source_few_ranges_are_open_however_its_chunks_come() {
    for (listed, ranges) in [(true, 9), (false, 3)] {
        let mut swarm = swarm(256);
        (swarm.listed, swarm.is_alone) = (listed, true);
        swarm.add_source(0, SEED);
        let (mut next, mut open) = (0, std::collections::VecDeque::new());
        while !swarm.is_whole() {
            open.extend(ask_all(&mut swarm, 0, &mut next));
            assert!(open.len() <= ranges, "{open:?}");
            assert!(swarm.sources[&SEED].under_way > 0);
            let (range, ask) = open[0];
            let chunk = ask.first + ask.count - swarm.ranges[&range].left;
            swarm.came(0, range, chunk);
            if chunk + 1 == ask.first + ask.count {
                swarm.ended(0, range, Ok(()));
                open.pop_front();
            }
        }
        assert_eq!(swarm.here().runs(), [(0, 256)]);
    }
}

#[test]
fn what_was_asked_of_the_only_holder_is_given_back_once_others_seek_the_content() {
    let mut swarm = swarm(100);
    swarm.add_source(0, SEED);
    let mut next = 0;
    let asks = ask_all(&mut swarm, 0, &mut next);
    swarm.came(1, asks[0].0, asks[0].1.first);
    swarm.set_turn(0, 1);
    assert_eq!(swarm.too_far_ahead(), [], "nobody else seeks it");
    swarm.set_turn(1, 4);
    let given_back: Vec<_> = asks[3..].iter().map(|(id, _)| *id).collect();
    assert_eq!(swarm.too_far_ahead(), given_back, "the first has begun, and two follow it");
    assert_eq!(swarm.too_far_ahead(), []);
    // What was given back is asked of another who has it.
    swarm.has(1, OTHER, &[(asks[3].1.first, 1)]).unwrap();
    let asked: Vec<_> = ask_all(&mut swarm, 1, &mut next).into_iter().map(|(_, ask)| ask).collect();
    assert_eq!(asked, [Ask { from: OTHER, first: asks[3].1.first, count: 1 }]);
}

#[test]
fn what_a_peer_says_that_it_holds_is_no_progress() {
    let mut swarm = swarm(4);
    swarm.add_source(0, SEED);
    let (range, ask) = ask_all(&mut swarm, 0, &mut 0)[0];
    swarm.has(5, OTHER, &[(1, 1)]).unwrap();
    assert_eq!(swarm.came_at(), 0);
    swarm.came(7, range, ask.first);
    assert_eq!(swarm.came_at(), 7);
}

#[test]
fn what_is_missing_here_and_there_is_asked_for_too() {
    let mut swarm = swarm(64);
    swarm.add_source(0, SEED);
    swarm.resume(0, &(0..31).map(|n| (2 * n, 1)).collect::<Vec<_>>());
    let asks = ask_all(&mut swarm, 0, &mut 0);
    let parts: Vec<_> = asks.iter().map(|(_, ask)| (ask.first, ask.count)).collect();
    assert_eq!(parts, (0..30).map(|n| (2 * n + 1, 1)).collect::<Vec<_>>());
    swarm.came(0, asks[0].0, 1);
    swarm.came(0, asks[1].0, 3);
    assert_eq!(ask_all(&mut swarm, 0, &mut 99)[0].1, Ask { from: SEED, first: 61, count: 3 });
}

#[test]
fn until_the_list_is_here_only_one_is_asked() {
    let mut swarm = swarm(100);
    (swarm.listed, swarm.is_alone) = (false, true);
    swarm.add_source(0, SEED);
    swarm.add_source(0, OTHER);
    let asks = ask_all(&mut swarm, 0, &mut 0);
    assert!(!asks.is_empty() && asks.iter().all(|(_, ask)| ask.from == SEED));
}

#[test]
fn what_was_asked_of_one_who_is_refused_and_never_answers_is_asked_of_another() {
    let mut swarm = swarm(4);
    swarm.add_source(0, SEED);
    let asks = ask_all(&mut swarm, 0, &mut 0);
    swarm.refuse(SEED);
    assert_eq!(swarm.stalled(0), ids(&asks));
    assert!(swarm.starves(0), "nobody is left");
    swarm.add_source(0, OTHER);
    assert_eq!(ask_all(&mut swarm, 0, &mut 9)[0].1, Ask { from: OTHER, first: 0, count: 4 });
}

#[test]
fn one_who_answers_nothing_is_not_asked_for_ever_before_the_list_is_here() {
    let mut swarm = swarm(4);
    swarm.listed = false;
    swarm.add_source(0, SEED);
    swarm.add_source(0, OTHER);
    let asks = ask_all(&mut swarm, 0, &mut 0);
    assert_eq!((asks[0].1.from, swarm.list_source()), (SEED, Some(SEED)));
    assert_eq!(swarm.stalled(100 * SECOND), ids(&asks));
    let asks = ask_all(&mut swarm, 100 * SECOND, &mut 9);
    assert_eq!((asks[0].1.from, swarm.list_source()), (OTHER, Some(OTHER)));
}

#[rstest]
#[case::alone("what only a whole holder has comes first", &[(SEED, None), (OTHER, Some((0, 2)))], SEED, 2)]
#[case::rare("what two have comes before what three have", &[(OTHER, Some((0, 6))), (THIRD, Some((0, 3)))], OTHER, 3)]
fn the_rarest_comes_first(
    #[case] why: &str,
    #[case] holders: &[(LinkId, Option<(u32, u32)>)],
    #[case] of: LinkId,
    #[case] first: u32,
) {
    let mut swarm = swarm(6);
    for (link, some) in holders {
        match some {
            Some(run) => swarm.has(0, *link, &[*run]).unwrap(),
            None => swarm.add_source(0, *link),
        }
    }
    assert_eq!(swarm.pick(of), Some(first), "{why}");
}

#[test]
fn a_source_that_brings_nothing_gives_up_to_others_and_a_lone_one_is_waited_for() {
    let mut swarm = swarm(4);
    swarm.add_source(0, SEED);
    let asks = ask_all(&mut swarm, 0, &mut 0);
    assert_eq!((swarm.stalled(100 * SECOND), swarm.due()), (vec![], None));
    swarm.add_source(100 * SECOND, OTHER);
    assert_eq!(swarm.stalled(100 * SECOND), ids(&asks));
    let again = ask_all(&mut swarm, 100 * SECOND, &mut 10);
    assert!(again.iter().any(|(_, ask)| ask.from == OTHER));
    // Each time it is waited for longer.
    swarm.came(104 * SECOND, again[0].0, again[0].1.first);
    assert!(swarm.stalled(104 * SECOND).is_empty());
    assert!(swarm.due().is_some_and(|due| due > 104 * SECOND));
}

/// Of two sources that bring nothing, so long that an early end would throw away what is half here,
/// again and again.
#[test]
fn on_a_slow_line_patience_grows_and_beside_one_that_brings_it_does_not() {
    let (mut slow, mut beside) = (swarm(8), swarm(400));
    for swarm in [&mut slow, &mut beside] {
        swarm.add_source(0, SEED);
        swarm.add_source(0, OTHER);
    }
    let longest = |swarm: &mut Swarm, brings: bool| {
        let (mut next, mut open, mut longest, mut since) = (0, Vec::new(), 0, 0);
        for second in 1..1500 {
            open.extend(ask_all(swarm, second * SECOND, &mut next).into_iter().filter(|(_, ask)| ask.from == OTHER));
            if brings && second % 10 == 0 && !open.is_empty() {
                let (range, ask) = open.remove(0);
                bring(swarm, second * SECOND, range, ask);
            }
            let stalled = swarm.stalled(second * SECOND);
            open.retain(|(range, _)| stalled.iter().all(|(gone, _)| gone != range));
            if stalled.iter().any(|(_, from)| *from == SEED) {
                longest = longest.max(second - since);
                since = second;
            }
        }
        longest
    };
    assert!(longest(&mut slow, false) > 500);
    // And a second until it is asked anew.
    assert_eq!(longest(&mut beside, true), 81);
}

#[test]
fn what_a_source_did_not_bring_is_asked_of_another_and_a_wrong_one_is_asked_no_more() {
    let mut swarm = swarm(8);
    swarm.add_source(0, SEED);
    swarm.add_source(0, OTHER);
    let asks = ask_all(&mut swarm, 0, &mut 0);
    let (range, ask) = *asks.iter().find(|(_, ask)| ask.from == SEED).unwrap();
    assert_eq!(swarm.ended(1, range, Err(&FetchError::Corrupt)), Some(SEED));
    for (range, ask) in asks.iter().filter(|(_, ask)| ask.from == OTHER) {
        bring(&mut swarm, 1, *range, *ask);
    }
    let again = ask_all(&mut swarm, 1, &mut 100);
    assert!(again.iter().all(|(_, ask)| ask.from == OTHER));
    assert!(again.iter().any(|(_, again)| again.first == ask.first));
    assert!(swarm.has(2, SEED, &[(0, 8)]).is_ok());
    assert_eq!(swarm.list_source(), Some(OTHER));
}

#[test]
fn a_peer_that_says_it_has_what_it_has_not_is_asked_three_times() {
    let mut swarm = swarm(8);
    for time in 0..3 {
        swarm.has(time, SEED, &[(0, 8)]).unwrap();
        let asks = ask_all(&mut swarm, time, &mut (100 * time as u32));
        assert!(!asks.is_empty());
        for (range, _) in asks {
            swarm.ended(time, range, Err(&FetchError::NotHere));
        }
    }
    swarm.has(9, SEED, &[(0, 8)]).unwrap();
    assert_eq!(swarm.next(), None);
    assert!(swarm.starves(9));
}

#[test]
fn chunks_that_no_content_has_are_refused() {
    let mut swarm = swarm(8);
    for runs in [&[(0, 9)][..], &[(8, 1)], &[(0, 0)], &[(u32::MAX, 1)], &[(1, 3), (2, 1)], &[(3, 1), (0, 1)]] {
        assert!(swarm.has(0, SEED, runs).is_err(), "{runs:?}");
    }
    assert!(swarm.has(0, SEED, &[(0, 1), (1, 1), (4, 4)]).is_ok());
}

#[test]
fn nothing_left_and_nobody_there_starve_in_their_time() {
    let mut swarm = swarm(8);
    assert!(swarm.starves(0));
    swarm.has(0, SEED, &[(0, 2)]).unwrap();
    for (range, ask) in ask_all(&mut swarm, 0, &mut 0) {
        bring(&mut swarm, 1, range, ask);
    }
    assert!(!swarm.starves(2) && swarm.starves(1 + SWARM_STARVES_NS));
    swarm.resume(20 * SECOND, &[(2, 6)]);
    assert!(swarm.is_whole() && !swarm.starves(100 * SECOND));
    assert_eq!(swarm.bytes_here(), 8 * CHUNK_BYTES);
}

/// Four machines fetch 128 chunks that a fifth holds; in each round every machine sends at most
/// four chunks, and news travel at once.
#[test]
fn the_first_holder_sends_each_chunk_about_once() {
    const CHUNKS: u32 = 128;
    let mut swarms: Vec<Swarm> = (0..4)
        .map(|turn| {
            let mut swarm = swarm(CHUNKS);
            swarm.set_turn(turn, 4);
            swarm.add_source(0, LinkId(0));
            swarm
        })
        .collect();
    let (mut next, mut sent, mut rounds) = (0, [0; 5], 0);
    let mut waiting: Vec<(usize, RangeId, Ask)> = Vec::new();
    while swarms.iter().any(|swarm| !swarm.is_whole()) {
        rounds += 1;
        for (n, swarm) in swarms.iter_mut().enumerate() {
            waiting.extend(ask_all(swarm, rounds, &mut next).into_iter().map(|(range, ask)| (n, range, ask)));
        }
        // A machine's line is shared by those who ask.
        let mut room = [[1; 4]; 5];
        let (served, later): (Vec<_>, Vec<_>) = waiting.drain(..).partition(|(to, _, ask)| {
            let room = &mut room[ask.from.0 as usize][*to];
            let fits = *room >= ask.count;
            *room -= if fits { ask.count } else { 0 };
            fits
        });
        waiting = later;
        assert!(!served.is_empty(), "they wait for each other");
        for (n, range, ask) in served {
            sent[ask.from.0 as usize] += ask.count;
            bring(&mut swarms[n], rounds, range, ask);
            for (other, swarm) in swarms.iter_mut().enumerate().filter(|(other, _)| *other != n) {
                assert_ne!(other, n);
                swarm.has(rounds, LinkId(n as u64 + 1), &[(ask.first, ask.count)]).unwrap();
            }
        }
    }
    assert!(sent[0] <= CHUNKS * 3 / 2, "the machines sent {sent:?} chunks of {CHUNKS} in {rounds} rounds");
    assert_eq!(sent.iter().sum::<u32>(), 4 * CHUNKS);
    assert!(rounds <= u64::from(CHUNKS) / 4 * 3 / 2, "{rounds} rounds");
}
