//! Foreign bytes as text that is safe to print: file names, host names, messages of peers.
//!
//! One escaped form for logs, terminals, JSON and pages: what is printable UTF-8 stays as it is,
//! a backslash is doubled, every other byte becomes `\xNN`. It carries no control characters
//! and no bidirectional marks, and it round-trips.

/// Escapes bytes so that they can be shown anywhere, and be read back by [`unescape`].
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if is_unprintable(c) => {
                    for b in c.encode_utf8(&mut [0; 4]).bytes() {
                        push_hex(&mut out, b);
                    }
                }
                c => out.push(c),
            }
        }
        for &b in chunk.invalid() {
            push_hex(&mut out, b);
        }
    }
    out
}

/// The bytes that [`escape`] was given; `None` for text that it cannot have made.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match rest {
            [b'\\', tail @ ..] => {
                out.push(b'\\');
                rest = tail;
            }
            [b'x', high, low, tail @ ..] => {
                out.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
                rest = tail;
            }
            _ => return None,
        }
    }
    Some(out)
}

/// One word of a command that a person may paste into a shell. What cannot be typed is written as
/// bash and zsh read it.
pub fn shell_word(bytes: &[u8]) -> String {
    let shown = escape(bytes);
    if shown.as_bytes() == bytes {
        format!("'{}'", shown.replace('\'', r"'\''"))
    } else {
        format!("$'{}'", shown.replace('\'', r"\'"))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, b| {
        out.push(char::from_digit(u32::from(b >> 4), 16).unwrap_or('0'));
        out.push(char::from_digit(u32::from(b & 15), 16).unwrap_or('0'));
        out
    })
}

/// Exactly `N` bytes from `2 * N` hexadecimal digits.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(out)
}

/// As many bytes as there are pairs of hexadecimal digits, and nothing else.
pub fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(hex_digit(*pair.first()?)? << 4 | hex_digit(*pair.get(1)?)?)).collect()
}

fn push_hex(out: &mut String, b: u8) {
    out.push_str("\\x");
    out.push_str(&hex(&[b]));
}

fn hex_digit(c: u8) -> Option<u8> {
    char::from(c).to_digit(16).map(|d| d as u8)
}

/// C0, DEL, C1, the bidirectional marks, the line and paragraph separators, the byte-order mark.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Bytes in a URI: what is not plain there is `%nn`.
pub fn percent(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut uri, &byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push('%');
            uri.push_str(&hex(&[byte]));
        }
        uri
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn escaped_bytes_come_back_and_carry_no_controls(bytes: Vec<u8>) {
            let text = escape(&bytes);
            prop_assert!(!text.chars().any(is_unprintable));
            prop_assert_eq!(unescape(&text), Some(bytes));
        }
    }

    #[test]
    fn printable_names_stay_readable() {
        assert_eq!(escape("Zürich 東京.txt".as_bytes()), "Zürich 東京.txt");
        assert_eq!(escape(b"a\nb\x1b[31m\\\xff"), "a\\x0ab\\x1b[31m\\\\\\xff");
        assert_eq!(escape("a\u{202e}b".as_bytes()), "a\\xe2\\x80\\xaeb");
    }

    #[test]
    fn bytes_come_back_from_their_digits_and_from_nothing_else() {
        assert_eq!(bytes_of_hex(&hex(&[0, 7, 255])), Some(vec![0, 7, 255]));
        assert_eq!(bytes_of_hex(""), Some(Vec::new()));
        for bad in ["0", "0g", "012", " 01", "é0"] {
            assert_eq!(bytes_of_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn text_that_was_never_escaped_is_refused() {
        for bad in ["\\", "\\x", "\\x0", "\\xzz", "\\n"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_shell_reads_a_word_as_the_bytes_that_it_is_of() {
        for bytes in [&b"/srv/shared"[..], b"/srv/Bob's files", b"a\\b", b"x'; evil; '", b"\x1b[2J\xff", b"$(evil)"] {
            let line = format!("printf %s {}", shell_word(bytes));
            let out = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
            assert_eq!(out.stdout, bytes, "{line}");
        }
    }
}
