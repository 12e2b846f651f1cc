//! Names of machines and short texts, as they may travel.

const MAX_NAME_BYTES: usize = 63;
const MAX_TEXT_BYTES: usize = 255;

/// A machine's name as it may travel: at most 63 of `[A-Za-z0-9._-]`, and never empty.
pub fn clean_name(name: &str) -> String {
    let mut clean: String = name.chars().map(|c| if is_name_char(c) { c } else { '-' }).take(MAX_NAME_BYTES).collect();
    if clean.is_empty() {
        clean.push_str("unnamed");
    }
    clean
}

/// Whether `name` is what [`clean_name`] makes.
pub fn is_clean_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.chars().all(is_name_char)
}

/// A short foreign text, still to be escaped before it is shown.
pub(super) fn is_short_text(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}
