//! The routes of the ignore patterns: the text, writing it, and what it would change.
//!
//! It is written as any content that a program sends, and has the tag of its text. May import
//! `engine` and `model`. Deliberately not here: what patterns mean (`engine/api/ignore.rs`), and
//! when they are in force (`engine/safety/unignored.rs`).

use super::Request;
use super::answer::{Answer, ApiState, Ordered, Refusal, blocking};
use super::content::conditions::{self, Conditions, Expected, Precondition, Tags};
use super::content::upload::install_bytes;
use crate::engine::api::ignore::Ignore;
use crate::engine::api::index::Row;
use crate::engine::limits::IGNORE_FILE_BYTES;
use crate::engine::{META_BELIEVED, StatKind, Why};
use crate::model::path::IGNORE_FILE;
use crate::model::{ContentId, Kind, SyncPath, text};
use crate::views::ignores::{BadPatternView, IgnoresPreviewView, IgnoresView, PreviewedPathsView};
use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// Rows of the index in one question to the loop.
const PAGE_ROWS: usize = 1000;
/// A preview ends after this time, whatever is left to look at.
const PREVIEW_WITHIN: Duration = Duration::from_secs(10);
/// Paths that a preview names, each way.
const EXAMPLES: usize = 20;

/// Patterns, in the syntax of `.gitignore`.
#[derive(Deserialize, ToSchema)]
pub(super) struct PatternsQuery {
    text: String,
}

pub(super) async fn show(State(shared): State<ApiState>, headers: HeaderMap) -> Result<Response, Refusal> {
    let view = view(&shared).await?;
    let tag = tag(&view.text);
    match Conditions::of(&headers, true).check(&tag) {
        Precondition::Met => Ok(([(ETAG, tag)], Json(view)).into_response()),
        Precondition::NotModified => Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response()),
        Precondition::Failed => Err(changed()),
    }
}

pub(super) async fn write(
    State(shared): State<ApiState>,
    headers: HeaderMap,
    wanted: Ordered<PatternsQuery>,
) -> Result<Response, Refusal> {
    let Json(PatternsQuery { text }) = wanted?;
    if text.len() as u64 > IGNORE_FILE_BYTES {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("{IGNORE_FILE} may have 1 MiB; make it shorter"),
        ));
    }
    let bad = bad_lines(&text, &Ignore::parse(text.as_bytes()).1);
    if !bad.is_empty() {
        let lines: Vec<_> = bad.iter().map(|bad| format!("line {} ('{}'): {}", bad.line, bad.text, bad.why)).collect();
        return Err(Refusal::malformed(format!("these are no patterns: {}", lines.join("; "))));
    }
    let expected = expected(&shared, &headers).await?;
    let done = install_bytes(shared.clone(), path(), text.clone().into_bytes(), expected).await;
    done.map_err(|why| if why.status() == StatusCode::PRECONDITION_FAILED { changed() } else { why })?;
    let answer = IgnoresView {
        file: IGNORE_FILE.to_owned(),
        exists: true,
        text,
        machine: Some(shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?.name),
        bad,
    };
    Ok(([(ETAG, tag(&answer.text))], Json(answer)).into_response())
}

/// What is to be there. A file that is not there has the tag of an empty text.
async fn expected(shared: &ApiState, headers: &HeaderMap) -> Result<Expected, Refusal> {
    if !headers.contains_key(IF_MATCH) {
        return Ok(conditions::expected(headers));
    }
    let there = read(shared).await?;
    match conditions::expected(headers) {
        Expected::Tags(tags @ Tags::These(_)) if !tags.allow(&tag(there.as_deref().unwrap_or_default())) => {
            Err(changed())
        }
        Expected::Tags(Tags::These(_)) if there.is_none() => Ok(Expected::Nothing),
        expected => Ok(expected),
    }
}

/// What would change, as far as the index knows. It asks the loop for a page at a time; one preview
/// at a time does so.
pub(super) async fn preview(
    State(shared): State<ApiState>,
    wanted: Ordered<PatternsQuery>,
) -> Answer<IgnoresPreviewView> {
    let Json(PatternsQuery { text }) = wanted?;
    let _turn = shared.previewing.lock().await;
    let believed = shared.handle.ask(|answer| Request::Meta { keys: &[META_BELIEVED], answer }).await;
    let believed = believed.ok_or_else(Refusal::busy)?.into_iter().next().flatten().unwrap_or_default();
    // What a peer took away covers on until someone confirms it.
    let now = [believed, read(&shared).await?.unwrap_or_default().into_bytes()].map(|text| Ignore::parse(&text).0);
    let (then, bad) = Ignore::parse(text.as_bytes());
    let mut preview = PatternsPreview::new(now, then);
    let until = Instant::now() + PREVIEW_WITHIN;
    let mut after = None;
    let mut cut = false;
    loop {
        let page = |answer| Request::Rows { dir: None, children: false, after, limit: PAGE_ROWS, answer };
        let rows = shared.handle.ask(page).await.ok_or_else(Refusal::busy)?;
        let is_last = rows.len() < PAGE_ROWS;
        after = rows.last().map(|(path, _)| path.clone());
        preview = blocking(move || {
            for (path, row) in &rows {
                preview.look_at(path, row);
            }
            Ok(preview)
        })
        .await?;
        if is_last {
            break;
        }
        if Instant::now() >= until {
            cut = true;
            break;
        }
    }
    let PatternsPreview { newly_ignored, newly_synced, seen, .. } = preview;
    let bad = bad_lines(&text, &bad);
    let [newly_ignored, newly_synced] = [newly_ignored, newly_synced].map(PreviewedPaths::view);
    Ok(Json(IgnoresPreviewView { newly_ignored, newly_synced, bad, seen, cut }))
}

struct PatternsPreview {
    /// Each of them covers what it names.
    now: [Ignore; 2],
    then: Ignore,
    newly_ignored: PreviewedPaths,
    newly_synced: PreviewedPaths,
    seen: u64,
}

#[derive(Default)]
struct PreviewedPaths {
    paths: u64,
    bytes: u64,
    named: BTreeSet<SyncPath>,
}

impl PatternsPreview {
    fn new(now: [Ignore; 2], then: Ignore) -> Self {
        Self { now, then, newly_ignored: PreviewedPaths::default(), newly_synced: PreviewedPaths::default(), seen: 0 }
    }

    fn look_at(&mut self, path: &SyncPath, row: &Row) {
        self.seen += 1;
        let size = match row.head.kind {
            Kind::Deleted { .. } => return,
            Kind::File { size, .. } => size,
            Kind::Directory | Kind::Symlink { .. } => 0,
        };
        let is_dir = row.head.is_directory();
        let now = self.now.iter().any(|ignore| ignore.ignores(path, is_dir));
        match (now, self.then.ignores(path, is_dir)) {
            (false, true) => self.newly_ignored.add(path, size),
            (true, false) => self.newly_synced.add(path, size),
            _ => {}
        }
    }
}

impl PreviewedPaths {
    fn add(&mut self, path: &SyncPath, size: u64) {
        self.paths += 1;
        self.bytes += size;
        if self.named.len() < EXAMPLES && !path.ancestors().any(|folder| self.named.contains(&folder)) {
            self.named.insert(path.clone());
        }
    }

    fn view(self) -> PreviewedPathsView {
        let examples = self.named.iter().map(SyncPath::to_text).collect();
        PreviewedPathsView { paths: self.paths, bytes: self.bytes, examples }
    }
}

async fn view(shared: &ApiState) -> Result<IgnoresView, Refusal> {
    let there = read(shared).await?;
    let why = shared.handle.ask(|answer| Request::Why { path: path(), is_dir: false, answer }).await;
    let machine = author(why.ok_or_else(Refusal::busy)?).filter(|name| !name.is_empty());
    let exists = there.is_some();
    let text = there.unwrap_or_default();
    let bad = bad_lines(&text, &Ignore::parse(text.as_bytes()).1);
    let machine = machine.map(|name| text::escape(name.as_bytes()));
    Ok(IgnoresView { file: IGNORE_FILE.to_owned(), exists, text, machine, bad })
}

fn author(why: Why) -> Option<String> {
    match why {
        Why::Synced { author, .. }
        | Why::Pending { author, .. }
        | Why::Local { author, .. }
        | Why::NotInstalled { author, .. } => Some(author),
        _ => None,
    }
}

/// What the file says; `None` where nothing is.
async fn read(shared: &ApiState) -> Result<Option<String>, Refusal> {
    let world = shared.world.clone();
    let found = blocking(move || {
        let path = path();
        let kind = world.kind_at(&path);
        let bytes = if kind == Some(StatKind::File) { world.bytes_at(&path, IGNORE_FILE_BYTES + 1)? } else { None };
        Ok((kind, bytes))
    });
    let by_hand = |why: &str| Refusal::not_now(format!("{IGNORE_FILE} {why}"));
    match found.await? {
        (None, _) | (Some(StatKind::File), None) => Ok(None),
        (Some(StatKind::File), Some(bytes)) if bytes.len() as u64 > IGNORE_FILE_BYTES => {
            Err(by_hand("is larger than 1 MiB: make it shorter in the folder"))
        }
        (Some(StatKind::File), Some(bytes)) => {
            String::from_utf8(bytes).map(Some).map_err(|_| by_hand("is no UTF-8 text: edit it in the folder"))
        }
        (Some(_), _) => Err(by_hand("is no regular file: put a file of patterns there, or remove it")),
    }
}

fn path() -> SyncPath {
    SyncPath::new(IGNORE_FILE).expect("a plain name is a path")
}

/// As the content of that text has it.
fn tag(text: &str) -> String {
    conditions::tag(&ContentId::of(text.as_bytes()))
}

fn changed() -> Refusal {
    Refusal::precondition(format!("{IGNORE_FILE} was changed meanwhile; read it again"))
}

fn bad_lines(text: &str, bad: &[(usize, String)]) -> Vec<BadPatternView> {
    let view = |(line, why): &(usize, String)| {
        let text = line.checked_sub(1).and_then(|line| text.lines().nth(line)).unwrap_or_default();
        BadPatternView { line: *line as u64, text: text::escape(text.as_bytes()), why: text::escape(why.as_bytes()) }
    };
    bad.iter().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceId, Entry, FileTime, Mode, Version, VersionVector};

    fn row(kind: Kind) -> Row {
        let version = Version { stamp: 1, author: DeviceId([1; 32]), seen: VersionVector::default() };
        let head = Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version };
        Row { head, disk: None, installing: None, since: 0 }
    }

    fn preview(now: [&str; 2], then: &str, paths: &[(&str, Kind)]) -> PatternsPreview {
        let parse = |text: &str| Ignore::parse(text.as_bytes()).0;
        let mut preview = PatternsPreview::new(now.map(parse), parse(then));
        for (path, kind) in paths {
            preview.look_at(&SyncPath::new(path).unwrap(), &row(kind.clone()));
        }
        preview
    }

    fn file(size: u64) -> Kind {
        Kind::File { size, content: ContentId::of(b"") }
    }

    #[test]
    fn a_preview_counts_what_changes_and_names_a_folder_instead_of_what_is_in_it() {
        let paths = [
            ("a.log", file(10)),
            ("b.tmp", file(100)),
            ("build", Kind::Directory),
            ("build-2", file(7)),
            ("build/x", file(1000)),
            ("build/y", Kind::Deleted { at: 1 }),
            ("c", file(5)),
            ("d.held", file(3)),
        ];
        let found = preview(["*.held\n", "*.log\n*.tmp\n"], "*.tmp\nbuild/\n", &paths);
        let (ignored, synced) = (found.newly_ignored.view(), found.newly_synced.view());
        assert_eq!(
            ignored,
            PreviewedPathsView { paths: 2, bytes: 1000, examples: vec!["build".to_owned()] },
            "of a deleted file nothing is left"
        );
        let examples = vec!["a.log".to_owned(), "d.held".to_owned()];
        assert_eq!(synced, PreviewedPathsView { paths: 2, bytes: 13, examples });
        assert_eq!(found.seen, 8);
    }

    #[test]
    fn a_preview_names_so_many_and_counts_all() {
        let names: Vec<_> = (0..50).map(|n| format!("f{n:02}")).collect();
        let paths: Vec<_> = names.iter().map(|name| (&**name, file(2))).collect();
        let found = preview(["", ""], "f*", &paths).newly_ignored.view();
        assert_eq!((found.paths, found.bytes, found.examples.len()), (50, 100, EXAMPLES));
    }

    #[test]
    fn a_line_that_is_no_pattern_is_named_with_its_text() {
        let text = "ok\n[z-a]\n";
        let bad = bad_lines(text, &Ignore::parse(text.as_bytes()).1);
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert_eq!((bad[0].line, &*bad[0].text), (2, "[z-a]"));
        assert!(bad[0].why.contains("range"), "{bad:?}");
    }
}
