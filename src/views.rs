//! What the local API says, in JSON: stable names, nanoseconds as strings, paths in their escaped
//! text form. And how a machine stands, in words.
//!
//! `docs/api.md` lists them, and `/api/openapi.json` describes them. The daemon makes them and the
//! client reads them, so they import no `io`. Deliberately not here: how they are made
//! (`io/control`), fetched or shown.

pub mod condition;
pub mod conflicts;
pub mod doctor;
pub mod events;
pub mod folders;
pub mod held;
pub mod history;
pub mod ignores;
pub mod invite;
pub mod leave;
pub mod membership;
pub mod need;
pub mod roles;
mod schema;
pub mod status;
pub mod traffic;
pub mod verify;
pub mod why;
