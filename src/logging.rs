//! How log lines look: one a thing, on standard error, for people, for journald, or as JSON.
//!
//! Imports `options` for the format. Deliberately not here: what is said. Whatever is foreign in a
//! line was escaped by whoever said it.

use crate::options::LogFormat;
use std::env;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::Handle;

/// What is said where neither `--log-level` nor `$RUST_LOG` says otherwise.
const DEFAULT: &str = "info";

#[derive(Debug, thiserror::Error)]
#[error(
    "--log-level '{0}' is not understood; use error, warn, info, debug or trace, or a filter such \
     as 'info,dirsyncd::io=debug'"
)]
pub struct BadLevel(String);

/// Puts another filter in force, once logging is set up.
static SET_FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Sets up logging for the whole process.
pub fn init(format: LogFormat, level: Option<&str>) -> Result<(), BadLevel> {
    let filter = wanted(level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_target(false).with_current_span(false);
            let builder = builder.with_filter_reloading();
            keep(builder.reload_handle());
            builder.init();
        }
        LogFormat::Text => {
            let builder = builder.event_format(Lines::for_standard_error()).with_filter_reloading();
            keep(builder.reload_handle());
            builder.init();
        }
    }
    Ok(())
}

/// Another level from now on; as `init` takes it.
pub fn set_level(level: Option<&str>) -> Result<(), BadLevel> {
    let filter = wanted(level)?;
    if let Some(set) = SET_FILTER.get() {
        set(filter);
    }
    Ok(())
}

fn keep<S: 'static>(handle: Handle<EnvFilter, S>) {
    // It fails only where logging has ended.
    let set = move |filter| drop(handle.reload(filter));
    let _ = SET_FILTER.set(Box::new(set));
}

fn wanted(level: Option<&str>) -> Result<EnvFilter, BadLevel> {
    let from_environment = || env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = level.map(ToOwned::to_owned).or_else(from_environment).unwrap_or_else(|| DEFAULT.to_owned());
    parse(&filter)
}

/// Whether `--log-level` takes this.
pub fn check(level: &str) -> Result<(), BadLevel> {
    parse(level).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, BadLevel> {
    // A single word is a level: anything else would silently be a module's name, and silence
    // everything.
    let is_level = !filter.is_empty() && filter.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let bad = || BadLevel(filter.escape_debug().to_string());
    if !is_level && !filter.contains('=') {
        return Err(bad());
    }
    if is_level {
        // A plain level speaks of us: `notify` warns whenever a watched folder goes, which is no
        // news to a person.
        return EnvFilter::try_new(format!("off,dirsyncd={filter}")).map_err(|_| bad());
    }
    EnvFilter::try_new(filter).map_err(|_| bad())
}

/// `2026-03-01T14:30:00.123+01:00 INFO  message`; in the journal, which knows the time,
/// `<6>message`.
struct Lines {
    journal: bool,
    colour: bool,
}

impl Lines {
    fn for_standard_error() -> Self {
        let file = rustix::fs::fstat(io::stderr()).ok().map(|stat| (stat.st_dev, stat.st_ino));
        Self {
            journal: file.is_some_and(|file| is_journal(env::var("JOURNAL_STREAM").ok().as_deref(), file)),
            colour: io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none(),
        }
    }
}

/// systemd names the stream that it made by device and inode; after a redirection it is still
/// named, and standard error is another file.
fn is_journal(named: Option<&str>, (device, inode): (u64, u64)) -> bool {
    named == Some(&format!("{device}:{inode}"))
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (name, priority, colour) = match *event.metadata().level() {
            Level::ERROR => ("ERROR", 3, "31"),
            Level::WARN => ("WARN ", 4, "33"),
            Level::INFO => ("INFO ", 6, "32"),
            Level::DEBUG => ("DEBUG", 7, "34"),
            Level::TRACE => ("TRACE", 7, "35"),
        };
        if self.journal {
            write!(out, "<{priority}>")?;
        } else {
            let now = jiff::Zoned::now();
            write!(out, "{} ", now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"))?;
            if self.colour {
                write!(out, "\x1b[{colour}m{name}\x1b[0m ")?;
            } else {
                write!(out, "{name} ")?;
            }
        }
        let mut message = LogMessage::default();
        event.record(&mut message);
        writeln!(out, "{}{}", message.text, message.fields)
    }
}

/// The message first, then what other crates add. Our own fields are for programs: the message says
/// them.
#[derive(Default)]
struct LogMessage {
    text: String,
    fields: String,
}

impl Visit for LogMessage {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.text = one_line(&format!("{value:?}")),
            "kind" | "path" | "peer" | "size" | "paths" => {}
            name if name.starts_with("log.") => {}
            name => self.fields.push_str(&one_line(&format!(" {name}={value:?}"))),
        }
    }
}

/// The last defence: a line that someone forgot to escape stays one line, and commands no terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(lines: Lines) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).event_format(lines).finish();
        tracing::subscriber::with_default(subscriber, || {
            let (size, paths) = (Some(7_u64), None::<u64>);
            tracing::info!(kind = "received", path = "a", peer = "b", size, paths, "received 'a' from b");
            tracing::warn!(why = "x", "a\nb\u{1b}[31m");
        });
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_has_its_time_level_and_message() {
        let text = said(Lines { journal: false, colour: false });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with(" INFO  received 'a' from b"), "{text}");
        lines[0].split(' ').next().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(lines[1].ends_with(" WARN  a\u{fffd}b\u{fffd}[31m why=\"x\""), "{text}");
    }

    #[test]
    fn a_line_for_programs_carries_its_path_peer_size_and_kind() {
        let sink = Sink::default();
        let writer = sink.clone();
        let builder = tracing_subscriber::fmt().json().flatten_event(true).with_target(false);
        let subscriber = builder.with_current_span(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let (path, peer, size) = (Some("a".to_owned()), None::<String>, Some(7_u64));
            tracing::info!(kind = "received", path, peer, size, "received 'a'");
        });
        let bytes = sink.0.lock().unwrap().clone();
        let line: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((&line["kind"], &line["path"], &line["size"]), (&"received".into(), &"a".into(), &7.into()));
        assert!(line.get("peer").is_none(), "{line}");
    }

    #[test]
    fn the_journal_gets_priorities_instead_of_times() {
        assert!(said(Lines { journal: true, colour: false }).starts_with("<6>received 'a' from b\n<4>a"));
    }

    #[test]
    fn a_file_that_takes_the_place_of_the_journal_s_stream_is_not_the_journal() {
        assert!(is_journal(Some("9:1234"), (9, 1234)));
        for other in [Some("9:1235"), Some("8:1234"), Some("9"), Some(""), None] {
            assert!(!is_journal(other, (9, 1234)), "{other:?}");
        }
    }

    #[test]
    fn a_plain_level_lets_only_us_speak_and_a_filter_whom_it_names() {
        for (filter, expected) in [("info", "ours\n"), ("info,dirsyncd=warn", "theirs\n")] {
            let sink = Sink::default();
            let writer = sink.clone();
            let lines = Lines { journal: true, colour: false };
            let builder = tracing_subscriber::fmt().with_env_filter(parse(filter).unwrap());
            let subscriber = builder.with_writer(move || writer.clone()).event_format(lines).finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "notify::inotify", "theirs");
                tracing::info!(target: "dirsyncd::io::fs::watch", "ours");
            });
            let said = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
            assert_eq!(said.split_once('>').unwrap().1, expected, "{filter}");
        }
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        for good in ["info", "WARN", "off", "info,dirsyncd::io=debug"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["loud", "", "a=b=c"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
