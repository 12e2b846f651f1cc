//! Quoted strings in text that is read as code or as debug output.

/// Where a quoted string that stands first ends (bytes), both quotes counted.
pub fn end_of_string(text: &str) -> usize {
    let mut is_escaped = true;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
