//! The local API: HTTP over `.dirsync/control`.
