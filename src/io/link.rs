//! One TCP link to one peer: proof, greeting, frames, pings.
