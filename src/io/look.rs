//! Looking at paths: stat, make durable, hash, stat again.
