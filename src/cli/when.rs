//! Times as people write them.
//!
//! Imports nothing of this crate. Deliberately not here: the clock; the caller says what time it
//! is.

use jiff::civil::{DateTime, Time};
use jiff::{SignedDuration, Timestamp, Zoned};

/// Nanoseconds since 1970 of `2026-03-01T14:30:00Z`, `2026-03-01 14:30`, `2026-03-01`, `14:30` (the
/// last one), or an age such as `90m`, `2h`, `3d`, `1w`. Without an offset, in the time zone of
/// `now`.
pub(super) fn parse(text: &str, now: &Zoned) -> Result<u64, String> {
    let wrong = || {
        format!(
            "'{}' is no time; write 2026-03-01, '2026-03-01 14:30', 14:30, or an age such as 2h",
            text.escape_debug()
        )
    };
    let timestamp = parse_timestamp(text.trim(), now).ok_or_else(wrong)?;
    u64::try_from(timestamp.as_nanosecond()).map_err(|_| wrong())
}

fn parse_timestamp(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    if let Some(age) = parse_age(text) {
        return now.timestamp().checked_sub(age).ok();
    }
    let local = |time: DateTime| Some(time.to_zoned(now.time_zone().clone()).ok()?.timestamp());
    // A bare date is a DateTime at midnight.
    if let Ok(time) = text.parse::<DateTime>() {
        return local(time);
    }
    let today = local(now.date().to_datetime(text.parse::<Time>().ok()?))?;
    if today <= now.timestamp() {
        Some(today)
    } else {
        local(now.date().yesterday().ok()?.to_datetime(text.parse().ok()?))
    }
}

fn parse_age(text: &str) -> Option<SignedDuration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let number: u32 = text[..text.len() - 1].parse().ok()?;
    Some(SignedDuration::from_secs(i64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let now: Zoned = "2026-03-02T12:00:00+01:00[Europe/Zurich]".parse().unwrap();
        for (text, same) in [
            ("2026-03-01T14:30:00Z", "2026-03-01T14:30:00Z"),
            ("2026-03-01 14:30", "2026-03-01T13:30:00Z"),
            ("2026-03-01T14:30:05.25", "2026-03-01T13:30:05.25Z"),
            ("2026-03-01", "2026-02-28T23:00:00Z"),
            ("11:30", "2026-03-02T10:30:00Z"),
            ("12:30", "2026-03-01T11:30:00Z"),
            ("2h", "2026-03-02T09:00:00Z"),
            ("3d", "2026-02-27T11:00:00Z"),
        ] {
            let same: Timestamp = same.parse().unwrap();
            assert_eq!(parse(text, &now).map(i128::from), Ok(same.as_nanosecond()), "{text}");
        }
        for bad in ["", "noon", "2026-13-01", "-2h", "2y", "é", "1900-01-01"] {
            assert!(parse(bad, &now).unwrap_err().contains("is no time"), "{bad}");
        }
    }
}
