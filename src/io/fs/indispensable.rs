//! A guard for threads that the daemon cannot do without.
//!
//! Imports nothing of this crate. Deliberately not here: starting threads.

/// Held by each thread: one that panics takes the daemon along. Without it files would be inspected
/// or installed no more, and the rest seem to be well; a new start has it all (P5).
pub struct Indispensable;

impl Drop for Indispensable {
    fn drop(&mut self) {
        let thread = std::thread::current();
        if std::thread::panicking() {
            let name = thread.name().unwrap_or_default();
            tracing::error!(
                "the thread '{name}' died of a fault in dirsyncd, which therefore ends at once: \
                 a service starts it again"
            );
            std::process::abort();
        }
    }
}
