//! What remote changes replaced or deleted: `.dirsync/history`.
