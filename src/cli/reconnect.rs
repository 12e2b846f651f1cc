//! A connection to the folder's daemon that is made anew where it breaks, as when the daemon starts
//! anew.
//!
//! Deliberately not here: where to go on, which the caller knows.

use super::Failure;
use crate::client::{Client, ClientError, Folder};
use std::time::{Duration, Instant};

/// A daemon that is gone for longer is not waited for.
const BACK_WITHIN: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(100);

pub(super) struct LastingClient<'a> {
    folder: &'a Folder,
    pub(super) client: Client,
}

impl<'a> LastingClient<'a> {
    pub(super) fn new(folder: &'a Folder, client: Client) -> Self {
        Self { folder, client }
    }

    /// Another connection.
    pub(super) async fn renew(&mut self) -> Result<(), Failure> {
        self.client = Self::connect(self.folder).await?;
        Ok(())
    }

    /// A connection, once the daemon is back.
    pub(super) async fn connect(folder: &Folder) -> Result<Client, Failure> {
        let since = Instant::now();
        loop {
            match folder.connect().await {
                Ok(client) => return Ok(client),
                Err(why) if is_cut(&why) && since.elapsed() < BACK_WITHIN => tokio::time::sleep(EVERY).await,
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Another connection, where it was this one that broke.
    pub(super) async fn after(&mut self, why: ClientError) -> Result<(), Failure> {
        if is_cut(&why) { self.renew().await } else { Err(why.into()) }
    }
}

/// Whether the daemon did not answer, or is about to end, rather than refuse.
pub(super) fn is_cut(why: &ClientError) -> bool {
    matches!(why, ClientError::Broken { .. } | ClientError::NoDaemon(_) | ClientError::Refused { code: 503, .. })
}
