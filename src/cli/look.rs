//! The way to the commands that only look.
//!
//! Deliberately not here: what they take (`look_args.rs`).

use super::look_args::{FactsFormat, LookCommand};
use super::place::CliPlace;
use super::{Failure, analyze, events, facts, standing, usage};
use crate::client::Client;

pub(super) async fn run(mut client: Client, place: &CliPlace, json: bool, command: LookCommand) -> Result<(), Failure> {
    match command {
        LookCommand::Show { path, format } => {
            let json = json || format == FactsFormat::Json;
            facts::show(&mut client, json, place.file(&path)?).await
        }
        LookCommand::Diff { peer } => standing::diff(&mut client, json, peer).await,
        LookCommand::Need { peer } => standing::need(&mut client, json, peer).await,
        LookCommand::Transfers => standing::transfers(&mut client, json).await,
        LookCommand::Problems => standing::problems(&mut client, json).await,
        LookCommand::Events { types, prefix } => {
            let prefix = prefix.map(|path| place.path(Some(&path))).transpose()?.flatten();
            events::follow(client, &place.folder, json, types, prefix).await
        }
        LookCommand::Du { path, depth } => {
            let path = place.path(path.as_deref())?;
            usage::usage(&mut client, json, path, depth).await
        }
        LookCommand::Analyze { path } => {
            let path = path.map(|path| place.path(Some(&path))).transpose()?.flatten();
            analyze::analyze(&mut client, json, path).await
        }
    }
}
