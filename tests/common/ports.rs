//! Ports that nobody has bound: of each kind, one that no other test of this process got.
//!
//! They are below the ephemeral range, so that no socket that asks for any port gets one between
//! the look and its use.

#![allow(dead_code, reason = "some test binaries use one of them")]

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

pub fn free_tcp_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    free_port(&NEXT, |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map(drop))
}

pub fn free_udp_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    free_port(&NEXT, |port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).map(drop))
}

fn free_port(next: &AtomicU16, bind: impl Fn(u16) -> io::Result<()>) -> u16 {
    loop {
        let count = u32::from(next.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (std::process::id().wrapping_mul(131).wrapping_add(count)) % 20_000;
        let port = u16::try_from(port).expect("30,000 at most");
        if bind(port).is_ok() {
            return port;
        }
    }
}
