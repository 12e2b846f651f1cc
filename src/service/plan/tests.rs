//! Tests of `service/plan.rs`: a scratch root with units in it.

use super::*;
use std::os::unix::fs::symlink;
use std::process::Command;
use tempfile::TempDir;

/// A machine with nothing installed, and a daemon.
struct UnitBench {
    root: TempDir,
    dirs: UnitDirs,
    binary: PathBuf,
}

impl UnitBench {
    fn new(scope: Scope) -> Self {
        let root = TempDir::new().unwrap();
        let dirs = UnitDirs::below(scope, root.path(), Some(&root.path().join("config")));
        let binary = root.path().canonicalize().unwrap().join("dirsyncd");
        fs::write(&binary, "").unwrap();
        Self { root, dirs, binary }
    }

    fn install<'a>(&'a self, change: impl FnOnce(&mut Wanted<'a>)) -> Result<Vec<String>, String> {
        let mut wanted = Wanted {
            folder: Path::new("/srv/my-files"),
            dirs: &self.dirs,
            binary: &self.binary,
            settings: &[],
            writable: &[],
            is_active: false,
            enable: true,
            force: false,
        };
        change(&mut wanted);
        self.done(install(&wanted))
    }

    fn uninstall(&self, is_active: bool) -> Result<Vec<String>, String> {
        self.done(uninstall(Path::new("/srv/my-files"), &self.dirs, is_active))
    }

    /// Carries out what changes files, and says all below the root.
    fn done(&self, steps: Result<Vec<UnitStep>, UnitError>) -> Result<Vec<String>, String> {
        let root = self.root.path().to_str().unwrap();
        let steps = steps.map_err(|why| why.to_string().replace(root, ""))?;
        let files = steps.iter().filter(|step| !matches!(step, UnitStep::Run(_)));
        files.for_each(|step| step.carry_out().unwrap());
        Ok(steps.iter().map(|step| step.shown().replace(root, "")).collect())
    }

    /// As `systemctl enable` does.
    fn enable(&self, unit: &str) {
        let target = if self.dirs.scope == Scope::System { "multi-user" } else { "default" };
        let wants = self.dirs.own().join(format!("{target}.target.wants"));
        fs::create_dir_all(&wants).unwrap();
        symlink("nowhere", wants.join(unit)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dirs.own().join(name)).unwrap()
    }
}

fn named(value: &str) -> [Setting; 1] {
    [Setting::new("DIRSYNCD_NAME", value.as_bytes()).unwrap()]
}

const UNIT: &str = r"dirsyncd@srv-my\x2dfiles.service";
const OPTIONS: &str = r"dirsyncd@srv-my\x2dfiles.service.d/options.conf";

#[test]
fn a_unit_is_written_enabled_and_started_and_then_taken_back() {
    let bench = UnitBench::new(Scope::System);
    let due = [
        "write /etc/systemd/system/dirsyncd@.service",
        "run systemctl daemon-reload",
        r"run systemctl enable --now 'dirsyncd@srv-my\x2dfiles.service'",
    ];
    assert_eq!(bench.install(|_| {}).unwrap(), due);
    assert!(bench.read(TEMPLATE).contains(&format!("\nExecStart=:{} -- %f\n", bench.binary.display())));
    assert_eq!(bench.install(|_| {}).unwrap(), due[1..], "what is there is not written again");
    bench.enable(UNIT);
    let due = [
        r"run systemctl disable --now 'dirsyncd@srv-my\x2dfiles.service'",
        "remove /etc/systemd/system/dirsyncd@.service",
        "run systemctl daemon-reload",
    ];
    assert_eq!(bench.uninstall(false).unwrap(), due);
    fs::remove_file(bench.dirs.own().join("multi-user.target.wants").join(UNIT)).unwrap();
    let why = bench.uninstall(false).unwrap_err();
    assert_eq!(why, "no unit of the machine is installed for '/srv/my-files'");
    assert_eq!(bench.uninstall(true).unwrap().len(), 2, "it runs though nobody enabled it");
}

#[test]
fn options_lie_beside_the_template_and_others_replace_them_only_by_force() {
    let bench = UnitBench::new(Scope::User);
    let (nas, box_, none) = (named("nas"), named("box"), []);
    let due = [
        "write /config/systemd/user/dirsyncd@.service",
        r"write /config/systemd/user/dirsyncd@srv-my\\x2dfiles.service.d/options.conf",
        "run systemctl --user daemon-reload",
    ];
    let only_written = |wanted: &mut Wanted| wanted.enable = false;
    let write = |settings, force| {
        bench.install(|wanted| {
            only_written(wanted);
            (wanted.settings, wanted.force) = (settings, force);
        })
    };
    assert_eq!(write(&nas, false).unwrap(), due);
    assert_eq!(write(&nas, false).unwrap(), due[2..]);
    for other in [&box_[..], &none] {
        let why = write(other, false).unwrap_err();
        assert!(why.contains("options.conf' is there already") && why.contains("--force"), "{why}");
    }
    assert!(bench.read(OPTIONS).contains(r#"Environment="DIRSYNCD_NAME=nas""#));
    assert_eq!(write(&box_, true).unwrap(), due[1..]);
    assert!(bench.read(OPTIONS).contains("=box"));
    let restarted = bench.install(|wanted| (wanted.settings, wanted.is_active) = (&box_, true)).unwrap();
    assert!(restarted[1].contains("user enable 'dirsyncd@") && restarted[2].contains("user restart"), "{restarted:?}");
    write(&none, true).unwrap();
    assert!(!bench.dirs.own().join(OPTIONS).parent().unwrap().exists());
}

#[test]
fn a_template_of_other_contents_is_replaced_only_by_force_and_one_that_serves_is_used() {
    let bench = UnitBench::new(Scope::System);
    let packaged = bench.root.path().join("usr/lib/systemd/system").join(TEMPLATE);
    fs::create_dir_all(packaged.parent().unwrap()).unwrap();
    fs::write(&packaged, text::template(Scope::System, Path::new("/bin/sh")).unwrap()).unwrap();
    assert_eq!(bench.install(|_| {}).unwrap().len(), 2, "a package brought it, for its own daemon");
    fs::write(&packaged, text::template(Scope::System, Path::new("/nowhere/dirsyncd")).unwrap()).unwrap();
    assert!(bench.install(|_| {}).is_err(), "there is no such daemon");
    fs::write(&packaged, "[Service]\nExecStart=/bin/sh\n").unwrap();
    let why = bench.install(|_| {}).unwrap_err();
    assert!(why.starts_with("'/usr/lib/systemd/system/dirsyncd@.service' is there already"), "{why}");
    bench.install(|wanted| wanted.force = true).unwrap();
    assert_eq!(bench.install(|_| {}).unwrap().len(), 2, "what an administrator has goes first");
    // A masked unit.
    let own = bench.dirs.own().join(TEMPLATE);
    fs::remove_file(&own).unwrap();
    symlink("/dev/null", &own).unwrap();
    assert!(bench.install(|_| {}).unwrap_err().contains("/etc/systemd/system/dirsyncd@.service' is there already"));
}

#[test]
fn a_template_stays_while_another_folder_uses_it_or_an_administrator_changed_it() {
    let bench = UnitBench::new(Scope::System);
    bench.install(|_| {}).unwrap();
    bench.enable(UNIT);
    bench.enable("dirsyncd@srv-other.service");
    assert!(!bench.uninstall(false).unwrap().iter().any(|step| step.starts_with("remove")));
    let bench = UnitBench::new(Scope::System);
    bench.install(|_| {}).unwrap();
    bench.enable(UNIT);
    fs::write(bench.dirs.own().join(TEMPLATE), bench.read(TEMPLATE).replace("2G", "4G")).unwrap();
    assert!(!bench.uninstall(false).unwrap().iter().any(|step| step.starts_with("remove")));
}

#[test]
fn a_path_that_systemd_has_no_name_for_is_refused() {
    let bench = UnitBench::new(Scope::System);
    let folder = |letters: usize| PathBuf::from(format!("/{}", "x".repeat(letters)));
    let longest = UNIT_BYTES - "dirsyncd@.service".len();
    let path = folder(longest);
    assert!(bench.install(|wanted| wanted.folder = &path).is_ok());
    let path = folder(longest + 1);
    let why = bench.install(|wanted| wanted.folder = &path).unwrap_err();
    assert!(why.contains("254 bytes"), "{why}");
}

/// `.ci/run` installs it; elsewhere the other tests of this file must do.
#[test]
fn systemd_finds_nothing_wrong_with_what_is_written() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    for (scope, manager) in [(Scope::System, "--system"), (Scope::User, "--user")] {
        let bench = UnitBench::new(scope);
        let settings = [
            Setting::new("DIRSYNCD_LOG_LEVEL", br#"a "b" %h \x2d c=$d"#).unwrap(),
            Setting::new("DIRSYNCD_NAME", b"nas").unwrap(),
        ];
        let writable = if scope == Scope::System { vec![Setting::new("", b"/var/a b%h").unwrap()] } else { Vec::new() };
        let binary = Path::new("/bin/true");
        bench
            .install(|wanted| (wanted.settings, wanted.writable, wanted.binary) = (&settings, &writable, binary))
            .unwrap();
        let verify = || {
            let mut command = Command::new("systemd-analyze");
            let found = format!("{}:", bench.dirs.own().display());
            let out = command.args([manager, "--man=no", "verify", UNIT]).env("SYSTEMD_UNIT_PATH", found);
            let out = out.env("XDG_RUNTIME_DIR", bench.root.path()).output().unwrap();
            let said = String::from_utf8(out.stderr).unwrap();
            let ours: Vec<_> = said.lines().filter(|line| line.contains("dirsyncd@")).map(str::to_owned).collect();
            (out.status.success(), ours, said)
        };
        let (is_fine, ours, said) = verify();
        assert!(is_fine && ours.is_empty(), "{scope:?}: {said}");
        fs::write(bench.dirs.own().join(OPTIONS), "[Service]\nReadWritePaths=relative\nRestart=sometimes\n").unwrap();
        assert!(!verify().1.is_empty(), "it looks");
    }
}

#[test]
fn a_folder_below_tmp_is_seen_by_its_unit() {
    let tmp = [Setting::new("ReadWritePaths", b"/var/tmp/state").unwrap()];
    for (scope, folder, writable, due) in [
        (Scope::System, "/tmp/x", &[][..], true),
        (Scope::System, "/var/tmp/x/y", &[], true),
        (Scope::System, "/srv/x", &tmp, true),
        (Scope::System, "/tmpx", &[], false),
        (Scope::User, "/tmp/x", &[], false),
    ] {
        let bench = UnitBench::new(scope);
        bench.install(|wanted| (wanted.folder, wanted.writable) = (Path::new(folder), writable)).unwrap();
        let file = bench.dirs.options_file(&name::unit(Path::new(folder)));
        let says = fs::read_to_string(file).is_ok_and(|text| text.contains("\nPrivateTmp=no\n"));
        assert_eq!(says, due, "{scope:?} {folder}");
    }
}

/// `.ci/run` installs it. 25 is what it shows as 2.5.
#[test]
fn systemd_finds_little_that_the_unit_of_the_machine_leaves_open() {
    let home = TempDir::new().unwrap();
    let exposed_at_most = |text: &str, tenths: u32| {
        let unit = home.path().join("dirsyncd@srv-x.service");
        fs::write(&unit, text).unwrap();
        let threshold = format!("--threshold={tenths}");
        let words = ["security", "--offline=true", "--no-pager", &threshold];
        Command::new("systemd-analyze").args(words).arg(unit).output().map(|out| out.status.success())
    };
    let text = text::template(Scope::System, Path::new("/bin/true")).unwrap();
    let Ok(is_fine) = exposed_at_most(&text, 25) else { return };
    assert!(is_fine);
    assert!(!exposed_at_most(&text.replace("PrivateTmp=yes", "PrivateTmp=no"), 25).unwrap(), "it looks");
}
