//! Configuration files: what wins, what is printed, and what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

struct Bench {
    home: TempDir,
}

impl Bench {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        for dir in ["data", "file", "environment", "word"] {
            fs::create_dir(home.path().join(dir)).unwrap();
        }
        Self { home }
    }

    fn path(&self, name: &str) -> String {
        fs::canonicalize(self.home.path()).unwrap().join(name).to_str().unwrap().to_owned()
    }

    /// Exit code, and what was said on either stream.
    fn run(&self, file: &str, environment: &[(&str, &str)], words: &[&str]) -> (i32, String) {
        fs::write(self.path("dirsyncd.toml"), file).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirsyncd"));
        command.env_clear().env("HOME", self.path("")).envs(environment.iter().copied());
        let out = command.args(["--config", &self.path("dirsyncd.toml")]).args(words).output().unwrap();
        (out.status.code().unwrap(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
    }

    /// What `--print-config` says of each option: value and origin.
    fn printed(&self, file: &str, environment: &[(&str, &str)], words: &[&str]) -> Vec<(String, String, String)> {
        let (code, said) = self.run(file, environment, &[&["--print-config"], words].concat());
        assert_eq!(code, 0, "{said}");
        let rows = said.lines().skip(1).map(|line| {
            let (set, from) = line.rsplit_once(" # ").unwrap();
            let (name, value) = set.trim().trim_start_matches("# ").split_once(" =").unwrap();
            (name.to_owned(), value.trim().to_owned(), from.to_owned())
        });
        rows.collect()
    }
}

/// Name, and the value that the file, the environment and the command line give it.
type Row = (&'static str, &'static str, &'static str, &'static str);

const SWITCHES: [&str; 4] = ["http-tls", "allow-mass-delete", "no-scrub", "open"];
const PATHS: [&str; 4] = ["directory", "state-dir", "signature-dir", "secret-file"];
const VALUES: [Row; 11] = [
    ("broadcast-port", "5001", "5002", "5003"),
    ("listen-port", "6001", "6002", "6003"),
    ("name", "\"file\"", "environment", "word"),
    ("peer", "[\"file:1\", \"file:2\"]", "environment:1,environment:2", "word:1"),
    ("limit", "\"1M\"", "2M", "3M"),
    ("http", "\"8001\"", "8002", "8003"),
    ("socket-group", "\"file\"", "environment", "word"),
    ("on-conflict", "\"merge\"", "keep-both", "newest"),
    ("role", "\"send-only\"", "receive-only", "both"),
    ("log-format", "\"json\"", "text", "json"),
    ("log-level", "\"debug\"", "warn", "info,dirsyncd=error"),
];

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let bench = Bench::new();
    let variable = |name: &str| format!("DIRSYNCD_{}", name.replace('-', "_").to_uppercase());
    let check = |name: &str, file: &str, environment: &str, word: Option<&str>, due: [&str; 3]| {
        let (http, http_file) = if name == "http-tls" { ("http = 8080\n", 2) } else { ("", 1) };
        let file = format!("{http}{name} = {file}\n");
        let variable = variable(name);
        let set = [(variable.as_str(), environment)];
        let words: Vec<String> = match (name, word) {
            ("directory", Some(word)) => vec![word.to_owned()],
            (_, Some(word)) => vec![format!("--{name}={word}")],
            (_, None) => vec![format!("--{name}")],
        };
        let folder = bench.path("data");
        let mut base: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut others: Vec<&str> = Vec::new();
        if name != "directory" {
            base.push(&folder);
            others.push(&folder);
        }
        let origin_file = format!("{}, line {http_file}", bench.path("dirsyncd.toml"));
        let cases = [(&[][..], &others, &*origin_file), (&set[..], &others, &*variable), (&set, &base, "command line")];
        for ((environment, words, origin), due) in cases.into_iter().zip(due) {
            let printed = bench.printed(&file, environment, words);
            let (_, value, from) = printed.iter().find(|row| row.0 == name).unwrap();
            assert_eq!((value.as_str(), from.as_str()), (due, origin), "{name}: {printed:?}");
        }
    };
    let mut met = BTreeSet::new();
    for name in SWITCHES {
        check(name, "true", "0", None, ["true", "false", "true"]);
        met.insert(name);
    }
    for name in PATHS {
        let [file, environment, word] = ["file", "environment", "word"].map(|from| bench.path(from));
        let quoted = [&file, &environment, &word].map(|path| format!("\"{path}\""));
        check(name, "\"file\"", &environment, Some(&word), quoted.each_ref().map(String::as_str));
        met.insert(name);
    }
    for (name, file, environment, word) in VALUES {
        let is_number = name.ends_with("-port");
        let shown = |value: &str| match name {
            "peer" => {
                format!("[{}]", value.split(',').map(|peer| format!("\"{peer}\"")).collect::<Vec<_>>().join(", "))
            }
            _ if is_number => value.to_owned(),
            _ => format!("\"{value}\""),
        };
        check(name, file, environment, Some(word), [file, &shown(environment), &shown(word)]);
        met.insert(name);
    }
    let all = bench.printed("", &[], &[&bench.path("data")]);
    assert_eq!(all.iter().map(|row| row.0.as_str()).collect::<BTreeSet<_>>(), met, "every option is tried");
}

#[test]
fn what_is_printed_can_be_read_back_and_means_the_same() {
    let bench = Bench::new();
    let words = ["--peer", "a:1", "--peer", "b:2", "--limit", "20M", "--name", "nas", "--no-scrub", "--role", "both"];
    let data = bench.path("data");
    let given = [&words[..], &["--listen-port", "6001", "--state-dir", "/nowhere/it's", &data]].concat();
    let (code, first) = bench.run("", &[], &[&["--print-config"], &given[..]].concat());
    assert_eq!(code, 0, "{first}");
    let (code, second) = bench.run(&first, &[], &["--print-config"]);
    assert_eq!(code, 0, "{second}");
    let values = |text: &str| -> Vec<String> {
        text.lines().skip(1).map(|line| line.rsplit_once(" # ").unwrap().0.trim().to_owned()).collect()
    };
    assert_eq!(values(&first), values(&second), "{second}");
    assert!(second.contains("state-dir = \"/nowhere/it's\""), "{second}");
    // A default stays one: a port that nobody named may be another if it is taken.
    assert!(values(&second).contains(&"# broadcast-port = 5000".to_owned()), "{second}");
    assert!(second.contains("dirsyncd.toml, line "), "{second}");
    assert!(!std::path::Path::new("/nowhere").exists(), "nothing is made");
}

#[test]
fn a_wrong_file_ends_the_start_with_its_line() {
    let bench = Bench::new();
    let data = bench.path("data");
    for (file, says) in [
        ("name = \"a\"\nlisten-prt = 1\n", "line 2: there is no option 'listen-prt'; 'listen-port' is near"),
        ("listen-port = 99999", "line 1: invalid value '99999'"),
        ("join = \"x\"", "line 1: 'join' is for one start alone"),
        ("name = ", "line 1: "),
    ] {
        let (code, said) = bench.run(file, &[], &[&data]);
        assert!(code == 2 && said.contains(says) && said.lines().count() == 1, "{code}: {said}");
    }
    let (code, said) = bench.run("state-dir = \"data/state\"", &[], &[&data]);
    assert!(code == 2 && said.contains("--state-dir a place outside"), "{said}");
    let missing = Command::new(env!("CARGO_BIN_EXE_dirsyncd"))
        .env_clear()
        .env("DIRSYNCD_CONFIG", bench.path("none.toml"))
        .arg(&data)
        .output()
        .unwrap();
    let said = String::from_utf8(missing.stderr).unwrap();
    assert!(missing.status.code() == Some(2) && said.contains("none.toml': No such file"), "{said}");
}
