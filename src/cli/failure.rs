//! Why a command did not do what was asked: one line for a person.
//!
//! Deliberately not here: the exit codes (`mod.rs`).

use crate::client::ClientError;
use crate::client::identity::IdentityError;
use std::io;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Behind(String),
    #[error("needs attention: {0}")]
    Attention(String),
    #[error("{0}")]
    Suspect(String),
    #[error("{0}")]
    Partly(String),
    #[error("{0}")]
    Nothing(String),
    #[error("{0}")]
    Service(String),
    #[error("{0}")]
    Output(#[from] io::Error),
}
