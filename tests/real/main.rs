//! Real daemons on this host, seen from outside only: what users do to files on one machine, and
//! what the others then hold.
//!
//! One binary, so that all themes run side by side. One module a theme, one sentence a test.
//! Deliberately not here: knowledge of the crate's inside; that is tested beside the code.

#[path = "../common/mod.rs"]
mod common;

mod backup;
mod bad_input;
mod client;
mod clocks;
mod config;
mod conflicts;
mod content;
mod deciding;
mod deleting;
mod delta;
mod demo;
mod doctor;
mod echo;
mod events;
mod examples;
mod folders;
mod forgetting;
mod groups;
mod guards;
mod guide;
mod hostile_peer;
mod http;
mod identity;
mod ignores;
mod in_sync;
mod joining;
mod kill;
mod leaving;
mod lesser_disks;
mod logging;
mod looking;
mod mass;
mod moving;
mod names;
mod naming;
mod need;
mod orders;
mod peers;
mod reloading;
mod removing;
mod renaming;
mod restoring;
mod rhythms;
mod roles;
mod saving;
mod scrub;
mod several;
mod special;
mod transfers;
mod undoing;
mod uploads;
mod watching;
