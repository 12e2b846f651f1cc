//! The folder, by descriptor: every access below it goes through here (P7).
