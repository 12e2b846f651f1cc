//! The network facade between real sockets on this host: who is let in, what arrives, and what is
//! refused.

mod chunks;
mod hostile;
mod joining;
mod links;
mod machine;
#[path = "../common/ports.rs"]
mod ports;
mod presence;
mod transfers;
