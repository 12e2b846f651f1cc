//! Contents on their way in: `.dirsync/staging`.
