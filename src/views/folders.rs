//! All folders of a user on a machine. Made by the client, from what the daemons say.
//!
//! Deliberately not here: how they are found (`client/survey.rs`).

use serde::{Deserialize, Serialize};

/// `dirsync folders --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FoldersView {
    pub folders: Vec<FolderView>,
    /// Daemons on this machine that this user cannot ask.
    pub unasked: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FolderView {
    /// Null where a daemon does not answer and its folder cannot be seen.
    pub directory: Option<String>,
    /// `in_sync`, `alone`, `syncing`, `scanning`, `attention`, `paused`, `stopped`, `waiting`,
    /// `starting`, `no_answer`, `not_running` or `gone`.
    pub state: String,
    /// The same for people, with the reason.
    pub text: String,
    /// What the folder holds, whom its daemon is linked to, and where it listens: null where no
    /// daemon answers.
    pub files: Option<u64>,
    pub bytes: Option<u64>,
    pub peers: Option<Vec<String>>,
    pub listen_port: Option<u16>,
    /// The daemon's, where it runs and can be seen.
    pub pid: Option<i32>,
    pub uid: Option<u32>,
    /// The name of that user, or his number.
    pub user: Option<String>,
    pub state_dir: Option<String>,
    /// The command that starts its daemon, where none runs.
    pub start: Option<String>,
}
