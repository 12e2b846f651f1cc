//! The architecture, as a test: imports point down, the engine is pure, files say what they are for
//! and stay short.
//!
//! It reads the sources as text. See `docs/architecture.md` for why.

#[path = "common/quoted.rs"]
mod quoted;

use quoted::end_of_string;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer with what it may import of this crate, besides itself.
const LAYERS: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("humanize", &[]),
    ("wire", &["model"]),
    ("delta", &["model"]),
    ("engine", &["model", "wire"]),
    ("views", &["model", "wire", "humanize"]),
    ("io", &["model", "wire", "delta", "engine", "views", "humanize"]),
    ("options", &["model"]),
    ("logging", &["options"]),
    ("daemon", &["model", "wire", "engine", "delta", "io", "options", "humanize"]),
    ("service", &["model", "options", "io"]),
    ("client", &["model", "views", "humanize", "io", "options", "service"]),
    ("cli", &["model", "views", "humanize", "client", "options", "logging", "service"]),
    ("bin", &["options", "logging", "daemon", "cli"]),
];

/// Each room of `io/` with the rooms that it may use. What lies beside them serves all, and uses
/// none.
const ROOMS: [(&str, &[&str]); 7] = [
    ("store", &[]),
    ("feed", &["store"]),
    ("journal", &["feed", "store"]),
    ("fs", &["store"]),
    ("net", &["fs", "store"]),
    ("identity", &["net", "store"]),
    ("control", &["feed", "fs", "identity", "journal", "net", "store"]),
];

/// The rooms of the engine that own a part of its state.
const PARTS: [&str; 5] = ["observe", "reconcile", "peers", "transfer", "safety"];

/// What a function of state, event and time has no use for.
const IMPURE: [&str; 12] = [
    "tokio",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant",
    "HashMap",
    "HashSet",
    "rand",
];

const MAX_LINES: usize = 600;

/// Words that others have replaced (`docs/glossary.md`): as types and variants, and as functions,
/// fields and variables.
const RETIRED: [&str; 33] = [
    "Found",
    "Heard",
    "Keep",
    "Lists",
    "Look",
    "Looked",
    "Looking",
    "Looks",
    "Rechecks",
    "Rests",
    "Seen",
    "Strangers",
    "Uncovered",
    "Was",
    "covered",
    "covers",
    "cut_off",
    "hears",
    "is_nobodys",
    "is_told",
    "looked",
    "looking",
    "looks",
    "recheck",
    "rechecks",
    "rested",
    "rests",
    "strangers",
    "told",
    "uncover",
    "uncovered",
    "untold",
    "weave",
];
/// Commands and tasks are called so in their own right.
const STILL_SO: [(&str, &str); 6] = [
    ("Keep", "src/io/control/verified.rs"),
    ("Keep", "src/cli/mod.rs"),
    ("Keep", "src/cli/tests.rs"),
    ("Keep", "src/engine/api/event.rs"),
    ("Keep", "src/engine/safety"),
    ("Keep", "src/io/fs/merge_bases.rs"),
];

#[test]
fn imports_point_down() {
    for (path, text) in sources_but_tests() {
        let layer = layer_of(&path);
        // Tests may speak to both ends.
        if layer == "lib" || path.to_string_lossy().ends_with("tests.rs") {
            continue;
        }
        let (_, allowed) =
            LAYERS.iter().find(|(name, _)| *name == layer).unwrap_or_else(|| panic!("no layer: {path:?}"));
        for (number, line) in code_lines(&text) {
            for imported in imports(line) {
                let fine = imported == layer || allowed.contains(&imported) || !is_layer(imported);
                assert!(fine, "{}:{number}: '{layer}' may not import '{imported}': {line}", path.display());
            }
        }
    }
}

#[test]
fn rooms_of_io_use_those_below_them() {
    let is_room = |name: &str| ROOMS.iter().any(|(room, _)| *room == name);
    for (path, text) in sources_but_tests() {
        let module = module_of(&path);
        if module.first().is_none_or(|layer| layer != "io") {
            continue;
        }
        let here = module.get(1).map_or("", String::as_str);
        let allowed = ROOMS.iter().find(|(room, _)| *room == here).map_or(&[][..], |(_, allowed)| allowed);
        for used in references(&module, &text) {
            let [layer, room, ..] = &used[..] else { continue };
            let fine = layer != "io" || room == here || !is_room(room) || allowed.contains(&room.as_str());
            assert!(fine, "{}: '{here}' may not use '{}'", path.display(), used.join("::"));
        }
    }
}

/// The files beside the engine's rooms are the exception: `mod.rs` holds all rooms, and they reach
/// each other through it. They share what lies beside them, and `api`.
#[test]
fn no_room_of_the_engine_imports_another() {
    for (path, text) in sources_but_tests() {
        let module = module_of(&path);
        let [layer, here, ..] = &module[..] else { continue };
        if layer != "engine" || !PARTS.contains(&here.as_str()) && here != "api" {
            continue;
        }
        for used in references(&module, &text) {
            let [layer, room, ..] = &used[..] else { continue };
            let fine = layer != "engine" || room == here || !PARTS.contains(&room.as_str());
            assert!(fine, "{}: '{here}' may not import '{}'", path.display(), used.join("::"));
        }
    }
}

/// What follows from a write is in one place therefore.
#[test]
fn one_file_of_the_engine_writes_rows() {
    for (path, text) in sources_but_tests() {
        let is_other = path.starts_with("src/engine") && !path.starts_with("src/engine/api");
        if !is_other || path.ends_with("rows.rs") {
            continue;
        }
        for (n, line) in code_lines(&text) {
            let writes =
                ["index.put(", "index.remove(", "index.forget_deletions("].iter().any(|call| line.contains(call));
            assert!(!writes, "{}:{n} writes a row, which is for rows.rs", path.display());
        }
    }
}

/// The compiler refuses all others the fields then: no room works on the state of another.
#[test]
fn the_rooms_of_the_engine_keep_their_fields_to_themselves() {
    for room in PARTS {
        let text = fs::read_to_string(format!("src/engine/{room}.rs")).unwrap();
        let structs: Vec<_> = text.split("\npub(super) struct ").skip(1).collect();
        assert!(!structs.is_empty(), "{room} has a struct");
        for body in structs {
            let fields = body.split("\n}").next().unwrap();
            assert!(!fields.contains("    pub"), "a field of {room} is public: {fields}");
        }
    }
}

/// Numbers of the engine that are no limits: the shape of digests, permissions, a count of
/// variants.
const NO_LIMITS: [&str; 5] = ["BUCKETS", "GROUP", "NEW_FILE", "NEW_FOLDER", "FATES"];

#[test]
fn the_limits_of_the_engine_stand_in_one_file_each_with_a_reason() {
    let types = ["u8", "u16", "u32", "u64", "usize"];
    for (path, text) in sources_but_tests() {
        if !path.starts_with("src/engine") || path.starts_with("src/engine/tests") {
            continue;
        }
        if path.ends_with("limits.rs") {
            let says_why = |block: &str| block.starts_with("///") || block.starts_with("//");
            let blocks = text.split("\n\n").filter(|block| block.contains("const "));
            blocks.for_each(|block| assert!(says_why(block.trim()), "{block}: why?"));
            continue;
        }
        for (n, line) in code_lines(&text) {
            let is_of_file = line.starts_with("const ") || line.starts_with("pub");
            let Some((_, rest)) = line.split_once("const ").filter(|_| is_of_file) else { continue };
            let Some((name, ty)) = rest.split_once(": ") else { continue };
            let is_number = types.iter().any(|number| ty.starts_with(&format!("{number} =")));
            assert!(!is_number || NO_LIMITS.contains(&name), "{}:{n}: {name} is for limits.rs", path.display());
        }
    }
}

#[test]
fn no_module_imports_one_that_imports_it() {
    let sources: Vec<_> = sources_but_tests().map(|(path, text)| (module_of(&path), text)).collect();
    let modules: BTreeSet<_> = sources.iter().map(|(module, _)| module.clone()).collect();
    let folders = modules.iter().filter_map(|module| module.split_last()).map(|(_, folder)| folder.to_vec());
    for folder in folders.collect::<BTreeSet<_>>() {
        if folder == ["engine"] {
            continue;
        }
        let mut edges = BTreeMap::<String, BTreeSet<String>>::new();
        for (module, text) in &sources {
            let Some(from) = child_of(&folder, module) else { continue };
            let used = references(module, text);
            let to = used.iter().filter_map(|used| child_of(&folder, used)).filter(|to| *to != from);
            let to = to.filter(|to| modules.contains(&[&folder[..], &[(*to).clone()]].concat()));
            edges.entry(from.clone()).or_default().extend(to.cloned());
        }
        let is_on_cycle = |name: &String| reaches(&edges, name, name);
        let cycle: Vec<_> = edges.iter().filter(|(name, _)| is_on_cycle(name)).collect();
        assert!(cycle.is_empty(), "import cycles in '{}': {cycle:?}", folder.join("::"));
    }
}

#[test]
fn what_a_file_uses_is_found() {
    let module = ["io", "fs", "stage"].map(str::to_owned);
    let found = |text: &str| references(&module, text).iter().map(|used| used.join("::")).collect::<Vec<_>>();
    assert_eq!(found("use crate::io::fs::{root::Root, beneath::{self, Facts}};").len(), 3);
    assert_eq!(found("use super::root::Root;"), ["io::fs::root::Root"]);
    assert_eq!(found("use crate::model;\nlet x = super::super::clock::now();"), ["model", "io::clock::now"]);
    assert_eq!(found("// crate::io::net\nuse std::fs;\n#[cfg(test)]\nuse super::a;"), [] as [&str; 0]);
    assert_eq!(found("#[cfg(test)]\nuse super::a;\nuse super::b;"), ["io::fs::b"]);
    assert_eq!(found("#[cfg(test)]\nmod tests {\nuse super::a;\n}"), [] as [&str; 0]);
    let edges = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")];
    let edges: BTreeMap<_, _> = edges.map(|(a, b)| (a.to_owned(), BTreeSet::from([b.to_owned()]))).into();
    assert!(reaches(&edges, "a", "a") && !reaches(&edges, "d", "d"));
}

#[test]
fn the_engine_and_the_values_are_pure() {
    for (path, text) in sources_but_tests() {
        if !["model", "engine", "wire"].contains(&layer_of(&path).as_str()) {
            continue;
        }
        // The bytes of the protocol may be read and written with `std::io`'s traits.
        let impure = IMPURE.iter().filter(|word| !(layer_of(&path) == "wire" && **word == "std::io"));
        for word in impure {
            for (number, line) in code_lines(&text) {
                assert!(!has_word(line, word), "{}:{number}: '{word}' has no place here: {line}", path.display());
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_stays_short() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} does not begin with what it is for (//!)", path.display());
        let lines = text.lines().count();
        assert!(
            lines <= MAX_LINES,
            "{} has {lines} lines, more than {MAX_LINES}: give one of its ideas a file",
            path.display()
        );
    }
}

#[test]
fn the_words_that_this_test_looks_for_are_found() {
    assert_eq!(imports("use crate::engine::{Action, Event};").collect::<Vec<_>>(), ["engine"]);
    assert_eq!(imports("    crate::io::x(crate::wire::y)").collect::<Vec<_>>(), ["io", "wire"]);
    assert_eq!(imports("use dirsyncd::cli::run;").collect::<Vec<_>>(), ["cli"]);
    assert_eq!(imports("use crate::{io, model};").collect::<Vec<_>>(), ["io", "model"]);
    assert!(has_word("let now = Instant::now();", "Instant") && !has_word("Instantly", "Instant"));
    assert!(!has_word("let operand = 1;", "rand"));
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect(Path::new("src"), &mut found);
    assert!(found.len() > 20, "the sources are where this test looks");
    found
}

/// Tests may reach up: one of the socket needs the client, one of the engine a clock.
fn sources_but_tests() -> impl Iterator<Item = (PathBuf, String)> {
    let is_tests = |path: &Path| path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
    sources().into_iter().filter(move |(path, _)| !is_tests(path))
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
    for child in fs::read_dir(dir).expect("tests run in the crate's folder") {
        let path = child.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            found.push((path, text));
        }
    }
}

/// The path of a file's module below the crate.
fn module_of(path: &Path) -> Vec<String> {
    let below = path.strip_prefix("src").expect("below src").with_extension("");
    let mut module: Vec<_> = below.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|name| name == "mod" || name == "lib") {
        module.pop();
    }
    module
}

/// The name of the folder's child that a module is, or is in.
fn child_of<'a>(folder: &[String], module: &'a [String]) -> Option<&'a String> {
    module.strip_prefix(folder)?.first()
}

/// Whether edges lead from one to the other, over one edge at least.
fn reaches(edges: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(at) = left.pop() {
        for next in edges.get(at).into_iter().flatten() {
            if next == to {
                return true;
            }
            if seen.insert(next) {
                left.push(next);
            }
        }
    }
    false
}

/// The absolute paths below this crate that a file names, in `use` or elsewhere.
fn references(module: &[String], text: &str) -> Vec<Vec<String>> {
    let code = code_lines(text).map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    let mut rest = &code[..];
    while let Some(at) = rest.find("crate::").into_iter().chain(rest.find("super::")).min() {
        let is_whole = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let mut tree = &rest[at..];
        if is_whole {
            expand(&[], &mut tree, &mut found);
        } else {
            tree = &tree["crate::".len()..];
        }
        rest = tree;
    }
    found.into_iter().filter_map(|path| absolute(module, &path)).collect()
}

/// Reads a path, or a tree of them as in `use`, off the text.
fn expand(before: &[String], text: &mut &str, found: &mut Vec<Vec<String>>) {
    let mut path = before.to_vec();
    loop {
        let name = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').next().unwrap_or("");
        *text = &text[name.len()..];
        if !name.is_empty() && name != "self" {
            path.push(name.to_owned());
        }
        if let Some(rest) = text.strip_prefix("::{") {
            *text = rest;
            loop {
                *text = text.trim_start_matches([',', ' ', '\n']);
                if let Some(rest) = text.strip_prefix('}') {
                    *text = rest;
                    return;
                }
                let left = text.len();
                expand(&path, text, found);
                // What follows a name: `as other`.
                let end = text.find([',', '}']).unwrap_or(0);
                *text = &text[end..];
                if text.is_empty() || text.len() == left {
                    return;
                }
            }
        }
        match text.strip_prefix("::") {
            Some(rest) if !name.is_empty() => *text = rest,
            _ => return found.push(path),
        }
    }
}

fn absolute(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let up = path.iter().take_while(|name| *name == "super").count();
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        _ => Some([module.get(..module.len().checked_sub(up)?)?, &path[up..]].concat()),
    }
}

/// The first component below `src`, without its ending.
fn layer_of(path: &Path) -> String {
    let name = path.components().nth(1).expect("below src").as_os_str().to_string_lossy().into_owned();
    name.trim_end_matches(".rs").to_owned()
}

fn is_layer(name: &str) -> bool {
    LAYERS.iter().any(|(layer, _)| *layer == name)
}

/// Lines of code that is not in a test module or a comment, with their numbers. Tests stand at the
/// end of a file, or in files of their own.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_module = |line: &str| line.trim_start().starts_with("mod ") && line.ends_with('{');
    let is_test = |line: &str| line.trim() == "#[cfg(test)]";
    let next = text.lines().skip(1).chain([""]);
    let before = [""].into_iter().chain(text.lines());
    let lines = text.lines().zip(next).zip(before).enumerate();
    let code = lines.take_while(move |(_, ((line, next), _))| !(is_test(line) && is_module(next)));
    let code = code.filter(move |(_, ((line, _), before))| !(is_test(before) && line.trim_start().starts_with("use ")));
    code.map(|(n, ((line, _), _))| (n + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The modules of this crate that a line names.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    let after = line.match_indices("crate::").map(|(at, word)| &line[at + word.len()..]);
    let after = after.chain(line.trim_start().strip_prefix("use dirsyncd::"));
    after
        .flat_map(|rest| {
            let group = rest.strip_prefix('{').map(|rest| rest.split('}').next().unwrap_or(rest));
            group.unwrap_or(rest).split(", ").take(if group.is_some() { usize::MAX } else { 1 })
        })
        .map(|name| name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| !is_part(line[..at].chars().next_back()) && !is_part(line[at + word.len()..].chars().next()))
}

#[test]
fn no_identifier_is_a_retired_word() {
    for (path, text) in sources() {
        for word in identifiers(&bare_code(&text)) {
            let is_so = STILL_SO.iter().any(|(so, file)| *so == word && path.starts_with(file));
            assert!(is_so || !RETIRED.contains(&word), "{}: '{word}' is retired", path.display());
        }
    }
}

#[test]
fn no_two_files_define_a_type_of_the_same_name() {
    let mut defined = BTreeMap::<String, PathBuf>::new();
    for (path, text) in sources() {
        for name in text.lines().filter_map(defined_type) {
            let other = defined.insert(name.to_owned(), path.clone()).filter(|other| *other != path);
            assert!(other.is_none(), "'{name}' stands in {} and in {}", path.display(), other.unwrap().display());
        }
    }
    assert!(defined.len() > 400, "{} types", defined.len());
}

/// The name of the type that a line at the top of a module defines.
fn defined_type(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("pub(").and_then(|rest| rest.split_once(") ")).map_or(line, |(_, rest)| rest);
    let rest = ["struct ", "enum ", "trait ", "type "].iter().find_map(|keyword| line.strip_prefix(keyword))?;
    identifiers(rest).next()
}

fn identifiers(code: &str) -> impl Iterator<Item = &str> {
    let words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with(|first: char| first.is_alphabetic() || first == '_'))
}

/// Code without its comments and strings.
fn bare_code(text: &str) -> String {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(letter) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if letter == '"' {
            end_of_string(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            // A quotation mark as a character begins no string.
            rest[1..].find('\'').map_or(rest.len(), |end| end + 2)
        } else {
            kept.push(letter);
            letter.len_utf8()
        };
        rest = &rest[skipped..];
    }
    kept
}

#[test]
fn retired_words_are_found_in_code_and_not_in_strings_or_comments() {
    let found = |code: &str| identifiers(&bare_code(code)).map(str::to_owned).collect::<Vec<_>>();
    let code = "let told = \"was \\\" told // no\"; x('\"', Was) // covers\nr#\"Seen\"#; looks";
    assert_eq!(found(code), ["let", "told", "x", "Was", "looks"]);
    assert_eq!(defined_type("pub(in crate::io) struct Seen<T>(T);"), Some("Seen"));
    assert_eq!(defined_type("    enum Inner {"), None);
}

/// As prose does in `docs/`; code has the width of rustfmt. A line without a space has no place to
/// break.
#[test]
fn comments_end_at_100_columns() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let comments = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
        for (number, line) in comments.filter(|(_, line)| line.chars().count() > 100) {
            let words = line.trim_start().trim_start_matches(['/', '!']).trim();
            if words.contains(' ') {
                long.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}
