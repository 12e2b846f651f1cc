//! Numbers and lists as people read them, for log lines and for `dirsync`.
//!
//! Imports nothing of this crate. Deliberately not here: anything that is parsed again.

/// `1834` as `1,834`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 file`, `2,000 files`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Bytes with a binary unit: `812 B`, `7.2 MiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to 1024 takes the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Nanoseconds as `12 ms`, `1.2 s`, `3 min 5 s`.
pub fn duration(ns: u64) -> String {
    match ns {
        0..=999_999 => "under 1 ms".to_owned(),
        1_000_000..=999_499_999 => format!("{} ms", (ns + 500_000) / 1_000_000),
        999_500_000..=59_949_999_999 => format!("{:.1} s", ns as f64 / 1e9),
        _ => {
            let seconds = (ns + 500_000_000) / 1_000_000_000;
            match seconds / 60 {
                minutes @ 0..=59 => format!("{minutes} min {} s", seconds % 60),
                minutes @ 60..=2879 => format!("{} h {} min", minutes / 60, minutes % 60),
                minutes => format!("{} days", count(minutes / 1440)),
            }
        }
    }
}

/// `a`, `a and b`, `a, b and c`.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(counted(0, "file", "files"), "0 files");
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (7_549_747, "7.2 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (ns, text) in [
            (0, "under 1 ms"),
            (12_400_000, "12 ms"),
            (999_600_000, "1.0 s"),
            (59_949_999_999, "59.9 s"),
            (60_000_000_000, "1 min 0 s"),
            (185_000_000_000, "3 min 5 s"),
        ] {
            assert_eq!(duration(ns), text, "{ns}");
        }
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(listed::<&str>(&[]), "");
    }
}
