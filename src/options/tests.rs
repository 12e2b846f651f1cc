//! Tests of `options.rs`.

use super::*;
use clap::CommandFactory;
use rstest::rstest;
use tempfile::TempDir;

#[rstest]
#[case("20M", Some(20 << 20))]
#[case("512k", Some(512 << 10))]
#[case("1G", Some(1 << 30))]
#[case("1000000", Some(1_000_000))]
#[case("63K", None)]
#[case("0", None)]
#[case("20MB", None)]
#[case("1.5M", None)]
#[case("-5M", None)]
#[case("M", None)]
#[case("", None)]
#[case("18446744073709551615G", None)]
fn a_rate_is_bytes_a_second(#[case] text: &str, #[case] due: Option<u64>) {
    assert_eq!(rate(text).ok(), due);
}

fn home() -> (TempDir, PathBuf) {
    let home = TempDir::new().unwrap();
    let real = fs::canonicalize(home.path()).unwrap();
    fs::create_dir(real.join("data")).unwrap();
    (home, real)
}

fn options(home: &Path, words: &[&str]) -> Result<Options, OptionError> {
    let data = home.join("data");
    let words = ["dirsyncd"].iter().chain(words).map(OsString::from).chain([data.into()]);
    let environment = |name: &str| (name == "HOME").then(|| home.join("user").into());
    Options::with_environment(Args::try_parse_from(words).unwrap(), environment, "host.example")
}

#[test]
fn the_definitions_are_sound() {
    Args::command().debug_assert();
}

#[test]
fn every_option_can_be_given_in_the_environment() {
    let command = Args::command();
    for argument in command.get_arguments().filter(|a| !matches!(a.get_id().as_str(), "help" | "version")) {
        let long = argument.get_long().unwrap_or("directory");
        let name = format!("DIRSYNCD_{}", long.replace('-', "_").to_uppercase());
        assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(&*name), "--{long}");
        assert!(argument.get_help().is_some(), "--{long} says what it is");
    }
}

#[test]
fn without_options_the_design_s_defaults_hold() {
    let (_keep, home) = home();
    let options = options(&home, &[]).unwrap();
    assert_eq!((options.broadcast_port, options.listen_port), (5000, ListenPort::Preferred(6000)));
    assert_eq!((options.name.as_str(), options.peers.len()), ("host.example", 0));
    assert_eq!(options.directory, home.join("data"));
    let state = options.state_dir.strip_prefix(home.join("user/.local/state/dirsyncd")).unwrap().to_str().unwrap();
    let (name, hash) = state.split_once('-').unwrap();
    assert!(name == "data" && hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{state}");
    assert_eq!(options.signature_dir, options.state_dir.join("signatures"));
    assert_eq!(options.secret, SecretSource::Own(options.state_dir.join("secret")));
}

#[test]
fn systemd_s_state_directory_is_taken() {
    let environment = |name: &str| match name {
        "STATE_DIRECTORY" => Some("/var/lib/dirsyncd/srv-shared:/var/lib/other".into()),
        _ => Some("/elsewhere".into()),
    };
    let state = default_state_dir(Path::new("/srv/shared"), None, environment).unwrap();
    assert_eq!(state, Path::new("/var/lib/dirsyncd/srv-shared"));
    assert!(matches!(default_state_dir(Path::new("/x"), None, |_| None), Err(OptionError::NoStateHome)));
}

#[rstest]
#[case::state_inside(&["--state-dir", "{data}/state"], "--state-dir a place outside")]
#[case::state_is_the_folder(&["--state-dir", "{data}"], "--state-dir a place outside")]
#[case::state_inside_through_a_link(&["--state-dir", "{home}/link/state"], "--state-dir a place outside")]
#[case::signatures_inside(&["-s", "{data}/signatures"], "--signature-dir a place outside")]
#[case::signatures_are_a_file(&["-s", "{home}/file"], "is not a directory")]
#[case::secret_inside(&["--secret-file", "{data}/secret"], "--secret-file a place outside")]
#[case::open_beside_a_secret(&["--open", "--state-dir", "{home}"], "leave --open out")]
#[case::a_code_that_is_none(&["--join", "0123-4567"], "shows one, such as")]
#[case::open_with_a_secret(&["--open", "--secret-file", "{home}/file"], "one of the two")]
#[case::empty_name(&["--name", ""], "1 to 63")]
#[case::long_name(&["--name", "0123456789012345678901234567890123456789012345678901234567890123"], "1 to 63")]
#[case::control_in_name(&["--name", "a\u{1b}b"], "a\\x1bb")]
#[case::peer_without_port(&["--peer", "nas"], "no HOST:PORT")]
#[case::peer_with_port_0(&["--peer", "nas:0"], "no HOST:PORT")]
#[case::peer_with_large_port(&["--peer", "nas:65536"], "no HOST:PORT")]
#[case::peer_without_host(&["--peer", ":6000"], "no HOST:PORT")]
#[case::peer_bare_ipv6(&["--peer", "fe80::1:6000"], "no HOST:PORT")]
#[case::second_peer(&["--peer", "nas:6000", "--peer", "a b:1"], "'a b:1'")]
fn wrong_usage_is_refused_with_what_to_do(#[case] words: &[&str], #[case] says: &str) {
    let (_keep, home) = home();
    fs::write(home.join("file"), "").unwrap();
    fs::write(home.join("secret"), "").unwrap();
    std::os::unix::fs::symlink(home.join("data"), home.join("link")).unwrap();
    let (data, base) = (home.join("data"), home.to_str().unwrap());
    let words: Vec<_> =
        words.iter().map(|w| w.replace("{data}", data.to_str().unwrap()).replace("{home}", base)).collect();
    let why = options(&home, &words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_err().to_string();
    assert!(why.contains(says) && !why.contains('\n'), "{why}");
}

#[rstest]
#[case("nas:6000", "nas")]
#[case("192.0.2.7:6000", "192.0.2.7")]
#[case("[2001:db8::7]:6000", "2001:db8::7")]
fn good_peers_are_taken(#[case] text: &str, #[case] host: &str) {
    assert_eq!(peer_address(text).unwrap(), PeerAddress { host: host.to_owned(), port: 6000 });
}

#[test]
fn a_folder_that_is_missing_or_a_file_is_refused() {
    let (_keep, home) = home();
    fs::write(home.join("file"), "").unwrap();
    for (name, says) in [("none", "mkdir -p"), ("file", "not a directory"), ("file/x", "not a directory")] {
        let why = synced_directory(&home.join(name)).unwrap_err().to_string();
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn host_names_become_names() {
    assert_eq!(name_of_host("my host\u{e9}"), "my-host--");
    assert_eq!(name_of_host(""), "unnamed");
    assert_eq!(name_of_host(&"x".repeat(80)).len(), 63);
}
