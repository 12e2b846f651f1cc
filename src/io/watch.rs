//! The watcher: one non-recursive inotify watch a folder, by `notify`.
