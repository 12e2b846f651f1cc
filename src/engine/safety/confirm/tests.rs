//! What is kept of confirmations, and what leaves where there is no room.

use super::*;
use crate::engine::api::map_index::MapIndex;
use crate::engine::limits::{
    CONFIRMATION_BYTES, CONFIRMATION_NS, CONFIRMATION_OWN_SLOTS, CONFIRMATION_SLOTS, CONFIRMATIONS_OF_ONE,
};

fn digests(from: u64, count: u64) -> Vec<Digest> {
    (from..from + count).map(|n| u128::from(n).to_be_bytes()).collect()
}

fn of(peer: u8, at: u64, from: u64, is_of_use: bool) -> KnownConfirmation {
    let digests = digests(from, CONFIRMED_AT_ONCE as u64);
    KnownConfirmation { seal: Seal::default(), digests, at, from: Some(DeviceId([peer; 32])), is_of_use }
}

const FULL: u64 = CONFIRMED_AT_ONCE as u64;

#[test]
fn what_one_peer_brings_takes_half_of_the_room_and_what_was_of_use_stays() {
    let (mut confirmations, mut index) = (Confirmations::default(), MapIndex::new());
    let names = |confirmations: &Confirmations, n: u64| confirmations.names(&digests(n * FULL, 1)[0]);
    assert!(confirmations.add(&mut index, of(1, 0, 0, true)));
    assert!(confirmations.add(&mut index, of(2, 0, FULL, false)));
    // The flood of one peer pushes out what it brought itself.
    for n in 2..400 {
        confirmations.add(&mut index, of(2, n, n * FULL, false));
    }
    let bytes: usize = confirmations.kept.values().map(KnownConfirmation::bytes).sum();
    assert!(bytes <= CONFIRMATIONS_OF_ONE + CONFIRMATION_BYTES + 16 * CONFIRMED_AT_ONCE);
    assert!(names(&confirmations, 0) && !names(&confirmations, 1) && names(&confirmations, 399));
    // Of what was of use, nothing goes for what was not.
    for n in 400..600 {
        confirmations.add(&mut index, of(3, n, n * FULL, true));
    }
    assert!(!confirmations.add(&mut index, of(3, 600, 600 * FULL, false)));
    assert!(names(&confirmations, 0) && names(&confirmations, 599));
    let again = Confirmations::load(&index);
    assert_eq!(again.kept, confirmations.kept);
}

#[test]
fn many_small_lists_have_an_end_and_leave_the_user_s_own() {
    let (mut confirmations, mut index) = (Confirmations::default(), MapIndex::new());
    confirmations.add_own(&mut index, 1, digests(1 << 40, 3));
    for n in 0..u64::from(CONFIRMATION_SLOTS) + 100 {
        let kept = KnownConfirmation { digests: digests(n, 1), ..of(1, n, 0, true) };
        assert!(confirmations.add(&mut index, kept));
    }
    assert_eq!(confirmations.kept.len(), usize::from(CONFIRMATION_SLOTS - CONFIRMATION_OWN_SLOTS) + 1);
    assert!(confirmations.names(&digests(1 << 40, 1)[0]) && !confirmations.names(&digests(0, 1)[0]));
}

#[test]
fn own_lists_are_filled_up_and_the_oldest_leaves() {
    let (mut confirmations, mut index) = (Confirmations::default(), MapIndex::new());
    for n in 0..10 {
        confirmations.add_own(&mut index, n, digests(n * 1000, 1000));
    }
    assert_eq!(confirmations.kept.len(), 3, "10,000 in lists of 4,096");
    assert!(confirmations.kept.values().all(|kept| kept.digests.is_sorted()));
    assert!((0..10_000).all(|n| confirmations.names(&digests(n, 1)[0])));
    for n in 10..10 + u64::from(CONFIRMATION_OWN_SLOTS) {
        confirmations.add_own(&mut index, n, digests(n * FULL, FULL));
    }
    assert_eq!(confirmations.kept.len(), usize::from(CONFIRMATION_OWN_SLOTS));
    assert!(!confirmations.names(&digests(0, 1)[0]));
    assert!(confirmations.names(&digests((9 + u64::from(CONFIRMATION_OWN_SLOTS)) * FULL, 1)[0]));
}

#[test]
fn what_is_a_month_old_is_forgotten() {
    let (mut confirmations, mut index) = (Confirmations::default(), MapIndex::new());
    confirmations.add_own(&mut index, 5, digests(0, 1));
    confirmations.add(&mut index, of(1, 6, FULL, true));
    confirmations.forget_old(&mut index, 5 + CONFIRMATION_NS);
    assert_eq!(confirmations.kept.len(), 2);
    confirmations.forget_old(&mut index, 6 + CONFIRMATION_NS);
    assert_eq!(confirmations.kept.len(), 1);
    assert_eq!(Confirmations::load(&index).kept, confirmations.kept);
}
