//! `--preview`: whether a run only says what joining would do, and how.

use super::OptionError;
use clap::Args;

#[derive(Args, Debug, Clone)]
pub struct PreviewArgs {
    /// Only say what would come, go, conflict and be kept if DIRECTORY met the group's folder, and
    /// change nothing anywhere; with --join, the code stays good for this machine
    #[arg(long, env = "DIRSYNCD_PREVIEW", value_parser = super::switch)]
    pub preview: bool,

    /// Say it in JSON
    #[arg(long, env = "DIRSYNCD_JSON", value_parser = super::switch)]
    pub json: bool,
}

/// How it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewForm {
    Text,
    Json,
}

impl PreviewArgs {
    pub(super) fn form(&self) -> Result<Option<PreviewForm>, OptionError> {
        if self.json && !self.preview {
            return Err(OptionError::JsonAlone);
        }
        Ok(self.preview.then_some(if self.json { PreviewForm::Json } else { PreviewForm::Text }))
    }
}
