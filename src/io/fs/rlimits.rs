//! How many descriptors and watches this process may have. May import nothing of ours. Deliberately
//! not here: who uses how many.

use rustix::process::{Resource, Rlimit};

/// Raises the soft limit (usually 1,024, for programs that use `select`) to the hard one. A refusal
/// changes nothing: there are fewer then.
pub fn raise_descriptors() {
    let now = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: now.maximum, ..now });
}

/// The soft limit. `None`: there is none.
pub fn descriptors() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).current
}

/// Folders that this user may watch, over all programs (`man 7 inotify`).
pub fn most_watches() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?.trim().parse().ok()
}

/// Of the machine.
pub fn memory_bytes() -> u64 {
    let memory = rustix::system::sysinfo();
    (memory.totalram as u64).saturating_mul(u64::from(memory.mem_unit.max(1)))
}
