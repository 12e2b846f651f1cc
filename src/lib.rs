//! dirsyncd keeps one folder the same on every machine of a LAN.
//!
//! The layers, each importing only those before it: `model` (values), `wire` (the protocol's
//! bytes), `engine` (decisions), `views` (what the local API says), `io` (the world), `options`,
//! `daemon` (the loop), and `service`, `client`, `cli` for the tool beside it. See
//! `docs/architecture.md`.

pub mod cli;
pub mod client;
pub mod daemon;
pub mod delta;
pub mod engine;
pub mod humanize;
pub mod io;
pub mod logging;
pub mod model;
pub mod options;
pub mod service;
pub mod views;
pub mod wire;
