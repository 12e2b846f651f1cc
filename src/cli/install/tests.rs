//! Tests of `cli/install.rs`.

use super::*;
use clap::Parser;
use tempfile::TempDir;

#[derive(Parser, Debug)]
struct InstallLine {
    #[command(flatten)]
    args: InstallArgs,
}

fn parsed(words: &[&str]) -> DaemonOptions {
    InstallLine::try_parse_from(["dirsync"].iter().chain(words)).unwrap().args.options
}

fn home() -> (TempDir, PathBuf) {
    let home = TempDir::new().unwrap();
    let real = home.path().canonicalize().unwrap();
    fs::create_dir(real.join("data")).unwrap();
    (home, real)
}

#[test]
fn every_option_of_the_daemon_is_one_of_install_but_what_is_for_one_start() {
    let ids: Vec<_> = daemon_arguments().iter().map(|arg| arg.get_id().to_string()).collect();
    for id in ["broadcast_port", "listen_port", "state_dir", "secret_file", "open", "name", "peers", "log_level"] {
        assert!(ids.iter().any(|known| known == id), "{id}");
    }
    assert!(!ids.iter().any(|id| *id == OF_THE_UNIT || options::FOR_ONE_START.contains(&id.as_str())));
    let options = parsed(&["/srv/x", "-l", "6001", "--open", "--peer", "a:1,b:2", "--peer", "c:3", "--name=nas"]);
    let words: Vec<_> = options.words().into_iter().map(|word| word.into_string().unwrap()).collect();
    assert_eq!(words, ["--listen-port=6001", "--open", "--name=nas", "--peer=a:1,b:2,c:3"].map(String::from).to_vec());
    assert!(InstallLine::try_parse_from(["dirsync", "--limit", "1"]).is_err(), "each is checked as it is read");
    assert!(InstallLine::try_parse_from(["dirsync", "--moved-from", "/x"]).is_err());
}

#[test]
fn options_are_checked_as_the_daemon_checks_them() {
    let (_keep, home) = home();
    let check = |words: &[&str]| {
        let state = home.join("state");
        parsed(words).check(&home.join("data"), &state).map_err(|why| why.to_string())
    };
    assert_eq!(check(&["--name", "nas", "--limit", "20M", "--log-level", "warn"]), Ok(()));
    let inside = home.join("data/state");
    for (words, says) in [
        (&["--name", "a/b"][..], "1 to 63"),
        (&["--peer", "nas"], "no HOST:PORT"),
        (&["--log-level", "loud"], "'loud' is not understood"),
        (&["--open", "--secret-file", "/x"], "one of the two"),
        (&["--state-dir", inside.to_str().unwrap()], "lies inside the synced folder"),
    ] {
        let why = check(words).unwrap_err();
        assert!(why.contains(says) && !why.contains('\n'), "{why}");
    }
}

#[test]
fn options_become_settings_and_what_the_daemon_writes_outside_is_writable_for_a_unit_of_the_machine() {
    let (_keep, home) = home();
    let dir = home.to_str().unwrap().to_owned();
    let mut options = parsed(&["--open", "--name", "nas", "--signature-dir", "data"]);
    options.make_absolute(&home);
    let made = |scope, state: &UnitState| {
        let (settings, writable) = settings(&options, state, scope).unwrap();
        let set = settings.into_iter().map(|set| format!("{}={}", set.name, set.value).replace(&dir, ""));
        let writable = writable.into_iter().map(|set| set.value.replace(&dir, ""));
        (set.collect::<Vec<_>>(), writable.collect::<Vec<_>>())
    };
    let own = ["DIRSYNCD_NAME=nas", "DIRSYNCD_OPEN=1", "DIRSYNCD_SIGNATURE_DIR=/data"].map(String::from).to_vec();
    let (set, writable) = made(Scope::System, &UnitState::Own("/nowhere".into()));
    let sorted = |mut set: Vec<String>| {
        set.sort();
        set
    };
    assert_eq!((sorted(set), writable), (own.clone(), vec!["/data".to_owned()]));
    assert_eq!(made(Scope::User, &UnitState::Own("/nowhere".into())).1, Vec::<String>::new());
    let (set, writable) = made(Scope::System, &UnitState::TakenOver(home.clone()));
    assert_eq!(writable, ["", "/data"], "a unit of the machine writes nowhere else");
    let taken = [own, vec![format!("DIRSYNCD_STATE_DIR=")]].concat();
    assert_eq!(sorted(set), sorted(taken));
    let none = settings(&options, &UnitState::Named("/nowhere/state".into()), Scope::System);
    assert!(none.unwrap_err().to_string().contains("install -d -m 700 '/nowhere/state'"));
}
