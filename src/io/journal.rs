//! Reports as log lines, and kept for `dirsync log`.
