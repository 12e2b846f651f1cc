//! Which devices a machine was before: each former key signed the id that came after it.
//!
//! A machine takes a new id when it was rolled back or cloned, and when its membership is imported
//! on new hardware. The others have listed the old one. The chain of signatures shows them that the
//! new one is the same member. Whoever has a former key can add a link to any id: what a link says
//! is that the former device wants it so. May import `wire`. Deliberately not here: who is listed
//! or removed, and what follows from a former id that is.

use crate::io::net::seal::{Sealer, is_sealed};
use crate::io::net::tls::{DeviceKey, KeyError};
use crate::model::DeviceId;
use crate::wire::confirmation::{KEY_BYTES, MAX_SIGNATURE_BYTES, Seal};

/// A machine that takes a fifth new id is not known by its first one any more.
pub const MAX_LINKS: usize = 4;
/// No chain takes more: a format, a count, and for each link a key and a signature with their
/// lengths.
pub const MAX_CHAIN_BYTES: usize = 2 + MAX_LINKS * (2 + KEY_BYTES + MAX_SIGNATURE_BYTES);

/// A chain begins with it.
const FORMAT: u8 = 1;
/// What is signed begins with this, so that it is no signature of anything else.
const PURPOSE: &[u8] = b"dirsyncd succession 1\0";

/// The ids that this device had before, the last one first. Empty where anything in the chain is
/// wrong, or where it is another device's.
pub fn former_ids(chain: &[u8], device: DeviceId) -> Vec<DeviceId> {
    links(chain).and_then(|links| verified(&links, device)).unwrap_or_default()
}

/// The chain of a device that takes a new id: what it had so far, and a link that its key signs.
/// What it had so far counts for nothing where it is wrong; the oldest link goes where there are
/// too many.
pub fn extended(chain: Option<&[u8]>, old: &DeviceKey, new: DeviceId) -> Result<Vec<u8>, KeyError> {
    let device = old.device()?;
    let so_far = chain.and_then(links).filter(|links| verified(links, device).is_some());
    let mut links = so_far.unwrap_or_default();
    links.push(Sealer::new(old)?.seal_bytes(&signed_bytes(new))?);
    links.drain(..links.len().saturating_sub(MAX_LINKS));
    let bytes = [vec![FORMAT], postcard::to_stdvec(&links).expect("writing to memory does not fail")];
    Ok(bytes.concat())
}

/// The oldest first; no signature is checked yet.
fn links(chain: &[u8]) -> Option<Vec<Seal>> {
    let rest = chain.strip_prefix(&[FORMAT]).filter(|_| chain.len() <= MAX_CHAIN_BYTES)?;
    let (links, rest) = postcard::take_from_bytes::<Vec<Seal>>(rest).ok()?;
    let fits = |link: &Seal| link.key.len() == KEY_BYTES && link.signature.len() <= MAX_SIGNATURE_BYTES;
    let is_whole = rest.is_empty() && (1..=MAX_LINKS).contains(&links.len()) && links.iter().all(fits);
    is_whole.then_some(links)
}

/// From the last link to the first one, each must have signed the id that came after it; no id
/// comes twice.
fn verified(links: &[Seal], device: DeviceId) -> Option<Vec<DeviceId>> {
    let mut ids = vec![device];
    for link in links.iter().rev() {
        let former = link.device();
        let is_genuine = ids.last().is_some_and(|next| is_sealed(link, &signed_bytes(*next)));
        if !is_genuine || ids.contains(&former) {
            return None;
        }
        ids.push(former);
    }
    ids.remove(0);
    Some(ids)
}

fn signed_bytes(next: DeviceId) -> Vec<u8> {
    [PURPOSE, &next.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::confirmation::Confirmation;

    /// So many devices, and the chain of the last of them.
    fn lineage(devices: usize) -> (Vec<DeviceKey>, Option<Vec<u8>>) {
        let keys: Vec<_> = (0..devices).map(|_| DeviceKey::generate().unwrap()).collect();
        let mut chain = None;
        for pair in keys.windows(2) {
            chain = Some(extended(chain.as_deref(), &pair[0], pair[1].device().unwrap()).unwrap());
        }
        (keys, chain)
    }

    fn ids(keys: &[DeviceKey]) -> Vec<DeviceId> {
        keys.iter().rev().map(|key| key.device().unwrap()).collect()
    }

    fn bytes_of(links: &[Seal]) -> Vec<u8> {
        [vec![FORMAT], postcard::to_stdvec(links).unwrap()].concat()
    }

    #[test]
    fn a_device_shows_which_ones_it_was_before_and_forgets_the_oldest() {
        for devices in 2..=7 {
            let (keys, chain) = lineage(devices);
            let (last, before) = keys.split_last().unwrap();
            let known = &before[before.len().saturating_sub(MAX_LINKS)..];
            let chain = chain.unwrap();
            assert_eq!(former_ids(&chain, last.device().unwrap()), ids(known), "{devices} devices");
            assert!(chain.len() <= MAX_CHAIN_BYTES);
        }
    }

    #[test]
    fn a_chain_says_nothing_of_another_device() {
        let (keys, chain) = lineage(3);
        let chain = chain.unwrap();
        for other in [keys[0].device(), keys[1].device(), DeviceKey::generate().unwrap().device()] {
            assert_eq!(former_ids(&chain, other.unwrap()), []);
        }
    }

    #[test]
    fn a_chain_that_is_not_the_old_device_s_is_begun_anew() {
        let (_, foreign) = lineage(4);
        let (old, new) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap().device().unwrap());
        for so_far in [foreign.as_deref(), Some(&[][..]), Some(&[7; 40]), None] {
            let chain = extended(so_far, &old, new).unwrap();
            assert_eq!(former_ids(&chain, new), [old.device().unwrap()]);
        }
    }

    #[test]
    fn no_byte_of_a_chain_can_be_changed_left_out_or_added() {
        let (keys, chain) = lineage(3);
        let (chain, device) = (chain.unwrap(), keys[2].device().unwrap());
        assert_eq!(former_ids(&chain, device).len(), 2);
        for at in 0..chain.len() {
            for bit in 0..8 {
                let mut other = chain.clone();
                other[at] ^= 1 << bit;
                assert_eq!(former_ids(&other, device), [], "bit {bit} of byte {at}");
            }
            assert_eq!(former_ids(&chain[..at], device), [], "the first {at} bytes");
        }
        for more in [1, 4096] {
            assert_eq!(former_ids(&[&chain[..], &vec![0; more]].concat(), device), []);
        }
    }

    #[test]
    fn links_that_were_forged_reordered_or_made_for_something_else_are_refused() {
        let (keys, chain) = lineage(3);
        let device = keys[2].device().unwrap();
        let genuine = links(&chain.unwrap()).unwrap();
        let (first, last) = (genuine[0].clone(), genuine[1].clone());
        let stranger =
            |message: &[u8]| Sealer::new(&DeviceKey::generate().unwrap()).unwrap().seal_bytes(message).unwrap();
        let mut confirmation = Confirmation::unsigned(vec![[1; 16]]);
        Sealer::new(&keys[1]).unwrap().seal(&mut confirmation).unwrap();
        let bare = Sealer::new(&keys[1]).unwrap().seal_bytes(&device.0).unwrap();
        let of_itself = Sealer::new(&keys[2]).unwrap().seal_bytes(&signed_bytes(device)).unwrap();
        let back = Sealer::new(&keys[2]).unwrap().seal_bytes(&signed_bytes(keys[1].device().unwrap())).unwrap();
        let table = [
            ("none", vec![]),
            ("reordered", vec![last.clone(), first.clone()]),
            ("one left out", vec![first.clone()]),
            ("the same twice", vec![first.clone(), last.clone(), last.clone()]),
            ("the key of another", vec![first.clone(), Seal { key: first.key.clone(), ..last.clone() }]),
            ("no signature", vec![Seal { signature: vec![], ..last.clone() }]),
            ("a long signature", vec![Seal { signature: vec![0; 73], ..last.clone() }]),
            ("a short key", vec![Seal { key: last.key[..64].to_vec(), ..last.clone() }]),
            ("a key that is no point", vec![Seal { key: vec![4; KEY_BYTES], ..last.clone() }]),
            ("a confirmation", vec![confirmation.seal]),
            ("without its purpose", vec![bare]),
            ("its own successor", vec![of_itself]),
            ("round in a circle", vec![back, last.clone()]),
            ("a stranger before", vec![stranger(b"words"), last.clone()]),
            ("five links", (0..5).map(|_| last.clone()).collect()),
        ];
        for (case, links) in table {
            assert_eq!(former_ids(&bytes_of(&links), device), [], "{case}");
        }
        // What is signed for a device may be used by a chain of any length.
        assert_eq!(former_ids(&bytes_of(&[last]), device), [keys[1].device().unwrap()]);
        assert_eq!(former_ids(&[FORMAT, 0xff, 0xff, 0xff, 0xff, 0x0f], device), [], "a count without links");
    }
}
