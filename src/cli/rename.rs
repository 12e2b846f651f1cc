//! `dirsync rename`: another name for this machine.
//!
//! Deliberately not here: what the daemon does for it.

use super::Failure;
use crate::client::{Client, ClientError, Folder};
use crate::views::status::{NameView, StatusView};
use serde_json::json;
use std::time::{Duration, Instant};

/// The daemon begins anew, which takes about a second.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until the daemon says the new name itself.
pub(super) async fn rename(mut client: Client, folder: &Folder, name: &str) -> Result<NameView, Failure> {
    match client.post::<NameView>("/v1/rename", &json!({ "name": name })).await {
        // It ended before it could answer.
        Ok(_) | Err(ClientError::Broken { .. }) => {}
        Err(why) => return Err(why.into()),
    }
    let began = Instant::now();
    loop {
        match status(folder).await {
            Ok(status) if status.name == name => return Ok(NameView { name: status.name }),
            Err(why) if began.elapsed() > PATIENCE => return Err(why.into()),
            _ if began.elapsed() > PATIENCE => {
                return Err(Failure::Partly("the daemon does not take the new name; its log says why".to_owned()));
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn status(folder: &Folder) -> Result<StatusView, ClientError> {
    folder.connect().await?.get("/v1/status", &[]).await
}
