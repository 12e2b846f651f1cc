//! Invitation codes: 80 bits that let one machine into a group, as a person reads them aloud.
//!
//! Written in Crockford's base 32 (<https://www.crockford.com/base32.html>), in groups of four. The
//! alphabet has no I, L, O and U: what looks alike is read as what was meant. Deliberately not
//! here: where codes come from, and which are open (`io/net/invitations.rs`).

use std::fmt;
use std::str::FromStr;

pub const CODE_BYTES: usize = 10;
/// Five bits each.
const DIGITS: usize = CODE_BYTES * 8 / 5;
const GROUP: usize = 4;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What an invitation is proved with. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct InvitationCode([u8; CODE_BYTES]);

/// Why a text is no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    #[error("an invitation code has {DIGITS} letters and digits, and this has {0}")]
    Length(usize),
    #[error("'{0}' is in no invitation code")]
    Character(char),
}

impl InvitationCode {
    /// All bits count, so they must be random.
    pub fn from_random(bytes: [u8; CODE_BYTES]) -> Self {
        Self(bytes)
    }

    /// What both ends prove, instead of the code itself.
    pub fn proof_key(&self) -> [u8; 32] {
        blake3::derive_key("dirsyncd 2026 invitation proof v1", &self.0)
    }

    /// By which a machine knows the code that it joined with again. It says nothing of the code
    /// that could be used while that is open but to check a guess of 80 bits.
    pub fn fingerprint(&self) -> [u8; 16] {
        let long = blake3::derive_key("dirsyncd 2026 invitation used v1", &self.0);
        std::array::from_fn(|at| long[at])
    }
}

impl fmt::Debug for InvitationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvitationCode(hidden)")
    }
}

impl fmt::Display for InvitationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        for digit in 0..DIGITS {
            if digit > 0 && digit % GROUP == 0 {
                f.write_str("-")?;
            }
            let value = bits >> (5 * (DIGITS - 1 - digit)) & 31;
            write!(f, "{}", char::from(ALPHABET[value as usize]))?;
        }
        Ok(())
    }
}

impl FromStr for InvitationCode {
    type Err = CodeError;

    /// Case, white space and dashes do not matter; I and L are 1, O is 0.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let (mut bits, mut digits) = (0_u128, 0);
        for read in text.chars().filter(|read| !read.is_whitespace() && *read != '-') {
            let meant = match read.to_ascii_uppercase() {
                'I' | 'L' => '1',
                'O' => '0',
                other => other,
            };
            let value = ALPHABET.iter().position(|letter| char::from(*letter) == meant);
            bits = bits << 5 | value.ok_or(CodeError::Character(read))? as u128;
            digits += 1;
            if digits > DIGITS {
                let all = text.chars().filter(|read| !read.is_whitespace() && *read != '-').count();
                return Err(CodeError::Length(all));
            }
        }
        if digits < DIGITS {
            return Err(CodeError::Length(digits));
        }
        let bytes = bits.to_be_bytes();
        Ok(Self(std::array::from_fn(|at| bytes[bytes.len() - CODE_BYTES + at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[test]
    fn a_code_is_written_in_four_groups_of_four() {
        let code = InvitationCode::from_random([0x00, 0x44, 0x32, 0x14, 0xc7, 0x42, 0x54, 0xb6, 0x35, 0xcf]);
        assert_eq!(code.to_string(), "0123-4567-89AB-CDEF");
        assert_eq!(InvitationCode::from_random([0xff; 10]).to_string(), "ZZZZ-ZZZZ-ZZZZ-ZZZZ");
        assert_eq!(format!("{code:?}"), "InvitationCode(hidden)");
    }

    #[rstest]
    #[case::as_written("0123-4567-89AB-CDEF")]
    #[case::small_and_joined("0123456789abcdef")]
    #[case::spaces_and_a_line_end(" 0123 4567\t89ab cdef\n")]
    #[case::letters_that_look_like_digits("oI23-4567-89AB-CDEF")]
    #[case::a_small_l("Ol23-4567-89ab-cdef")]
    fn a_code_is_read_as_people_write_it(#[case] text: &str) {
        assert_eq!(text.parse::<InvitationCode>().unwrap().to_string(), "0123-4567-89AB-CDEF");
    }

    #[rstest]
    #[case::empty("", CodeError::Length(0))]
    #[case::short("0123-4567-89AB-CDE", CodeError::Length(15))]
    #[case::long("0123-4567-89AB-CDEF-0", CodeError::Length(17))]
    #[case::a_u("U123-4567-89AB-CDEF", CodeError::Character('U'))]
    #[case::another_script("\u{e9}123-4567-89AB-CDEF", CodeError::Character('\u{e9}'))]
    fn what_is_no_code_is_refused_with_the_reason(#[case] text: &str, #[case] why: CodeError) {
        assert_eq!(text.parse::<InvitationCode>(), Err(why));
    }

    proptest! {
        #[test]
        fn every_code_is_read_back(bytes: [u8; CODE_BYTES]) {
            let code = InvitationCode::from_random(bytes);
            prop_assert_eq!(code.to_string().parse::<InvitationCode>().unwrap(), code);
        }
    }
}
