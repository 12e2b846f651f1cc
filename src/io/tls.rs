//! Device certificates and TLS 1.3.
