//! The command line of `dirsyncd`: raw arguments, then validated configuration.
