//! Bytes as hexadecimal digits in the head of a frame.

use crate::model::text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes as hexadecimal digits in a head.
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&text::hex(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(d)?;
        text::from_hex(&digits)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("not hexadecimal digits of that length"))
    }
}
