//! Bytes on the wire by device since the start, also those of links that have ended.
//!
//! A sum never shrinks: a link counts from its meter while it runs, and leaves what that said.
//! Deliberately not here: one link's own count (`metered.rs`).

use crate::engine::LinkId;
use crate::io::net::metered::Meter;
use crate::model::DeviceId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many devices are remembered after their last link, as many as the list of machines may hold
/// (P9).
const ENDED: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

impl Traffic {
    fn add(&mut self, meter: &Meter) {
        self.sent_bytes += meter.sent();
        self.received_bytes += meter.received();
    }
}

#[derive(Default)]
pub struct TrafficSums {
    /// Also links that gave way and still end.
    running: BTreeMap<LinkId, (DeviceId, Arc<Meter>)>,
    ended: BTreeMap<DeviceId, Traffic>,
}

impl TrafficSums {
    pub fn begin(&mut self, link: LinkId, device: DeviceId, meter: &Arc<Meter>) {
        self.running.insert(link, (device, Arc::clone(meter)));
    }

    pub fn end(&mut self, link: LinkId) {
        let Some((device, meter)) = self.running.remove(&link) else { return };
        if self.ended.len() < ENDED || self.ended.contains_key(&device) {
            self.ended.entry(device).or_default().add(&meter);
        }
    }

    pub fn by_device(&self) -> BTreeMap<DeviceId, Traffic> {
        let mut sums = self.ended.clone();
        for (device, meter) in self.running.values() {
            sums.entry(*device).or_default().add(meter);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::net::metered::Metered;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    /// A meter that has counted so many bytes sent.
    async fn sent(bytes: usize) -> Arc<Meter> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, meter) = Metered::new(tcp, 0);
        stream.write_all(&vec![0; bytes]).await.unwrap();
        meter
    }

    #[tokio::test]
    async fn what_a_device_sent_is_summed_over_its_links_and_never_shrinks() {
        let [a, b] = [DeviceId([1; 32]), DeviceId([2; 32])];
        let mut sums = TrafficSums::default();
        sums.begin(LinkId(1), a, &sent(100).await);
        sums.begin(LinkId(2), b, &sent(7).await);
        // Of two links with one device, the older one gives way, and ends later.
        sums.begin(LinkId(3), a, &sent(10).await);
        let of = |sums: &TrafficSums, device| sums.by_device().get(&device).map_or(0, |sum| sum.sent_bytes);
        assert_eq!((of(&sums, a), of(&sums, b)), (110, 7));
        sums.end(LinkId(1));
        sums.end(LinkId(1));
        sums.end(LinkId(2));
        assert_eq!((of(&sums, a), of(&sums, b)), (110, 7));
        assert_eq!(sums.running.len(), 1);
    }

    #[tokio::test]
    async fn devices_that_are_made_up_fill_no_memory() {
        let mut sums = TrafficSums::default();
        let meter = sent(1).await;
        for n in 0..2 * ENDED as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            sums.begin(LinkId(n), DeviceId(id), &meter);
            sums.end(LinkId(n));
        }
        assert_eq!((sums.ended.len(), sums.running.len()), (ENDED, 0));
    }
}
