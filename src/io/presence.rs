//! Finding peers: UDP broadcasts.
