//! What can be synced: names of any bytes, every kind of file that travels, and what is left alone.

use crate::common::disk::{chmod, copy_program, give_to, run};
use crate::common::machine::{find_line, text_of, wait_linked};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, is_root, read, remove, rename, set_mtime, write};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

fn at_bytes(machine: &Machine, name: &[u8]) -> PathBuf {
    machine.dir.join(OsStr::from_bytes(name))
}

#[test]
fn names_of_any_bytes_arrive_and_go() {
    let (a, b) = Group::new().pair();
    let longest = [b'n'; 255];
    let every_byte: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
    let names: [&[u8]; 16] = [
        b"-rf",
        b"--help",
        b"new\nline",
        b"\r\t\x1b[31m red",
        b"not utf-8 \xff\xfe",
        b" ",
        b"...",
        b"trailing dot.",
        b"back\\slash",
        b"\"quotes\" and 'more'",
        b"star*?[x]",
        "東京 🗼".as_bytes(),
        "\u{202e}gnp.exe".as_bytes(),
        b".hidden",
        &longest,
        &every_byte,
    ];
    write(a.at("stays"), "stays");
    for name in names {
        write(at_bytes(&a, name), name);
        fs::create_dir(at_bytes(&b, &[b"dir-", &name[..name.len().min(200)]].concat())).expect("mkdir");
    }
    let tree = converge(&[&a, &b]);
    for name in names {
        assert!(tree.has(name), "{} is missing", name.escape_ascii());
        assert_eq!(read(at_bytes(&b, name)), name);
    }
    // Nothing of this may act on a terminal that shows the log (but the newline that ends a line).
    let log = fs::read(b.log_file()).expect("a log");
    let bad = log.iter().find(|&&byte| byte < 0x20 && byte != b'\n' || byte == 0x7f);
    assert_eq!(bad, None, "a control character in the log");
    for name in names {
        remove(at_bytes(&b, name));
    }
    assert_eq!(converge(&[&a, &b]).files(), 1);
}

#[test]
fn names_that_differ_in_case_only_stand_side_by_side() {
    let (a, b) = Group::new().pair();
    write(a.at("readme"), "lower");
    write(a.at("README"), "upper");
    converge(&[&a, &b]);
    assert_eq!((read(b.at("readme")), read(b.at("README"))), (b"lower".to_vec(), b"upper".to_vec()));
}

#[test]
fn a_rename_that_changes_the_case_only_arrives() {
    let (a, b) = Group::new().pair();
    write(a.at("photo.jpg"), "a photo");
    write(a.at("dir/photo.jpg"), "another");
    converge(&[&a, &b]);
    rename(a.at("photo.jpg"), a.at("Photo.JPG"));
    rename(a.at("dir"), a.at("Dir"));
    assert_eq!(converge(&[&a, &b]).paths(), ["Dir", "Dir/photo.jpg", "Photo.JPG"]);
}

#[test]
fn composed_and_decomposed_unicode_names_stand_side_by_side() {
    let (a, b) = Group::new().pair();
    write(a.at("Z\u{fc}rich"), "composed");
    write(a.at("Zu\u{308}rich"), "decomposed");
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 2);
    assert_eq!(read(b.at("Z\u{fc}rich")), b"composed");
    assert_eq!(read(b.at("Zu\u{308}rich")), b"decomposed");
}

#[test]
fn empty_files_links_permissions_and_nanosecond_mtimes_arrive() {
    let (a, b) = Group::new().pair();
    write(a.at("zero"), "");
    symlink("nowhere/at/all", a.at("dangling")).expect("a link");
    symlink("/etc/hostname", a.at("absolute")).expect("a link");
    symlink("zero", a.at("to-file")).expect("a link");
    symlink(".", a.at("to-itself")).expect("a link");
    symlink(OsStr::from_bytes(b"\xff\n"), a.at("odd-target")).expect("a link");
    for mode in [0o400, 0o444, 0o600, 0o640, 0o755, 0o777, 0o111] {
        write(a.at(&format!("mode-{mode:o}")), "x");
        chmod(a.at(&format!("mode-{mode:o}")), mode);
    }
    fs::create_dir(a.at("private")).expect("mkdir");
    write(a.at("private/f"), "x");
    chmod(a.at("private"), 0o700);
    for (name, secs, nanos) in [("ns", 1_700_000_000, 123_456_789), ("y1970", 0, 1), ("y1960", -315_619_200, 5)] {
        write(a.at(name), name);
        set_mtime(a.at(name), secs, nanos);
    }
    write(a.at("y2100"), "later");
    set_mtime(a.at("y2100"), 4_102_444_800, 999_999_999);
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 13);
    assert_eq!(fs::read_link(b.at("absolute")).expect("a link"), PathBuf::from("/etc/hostname"));
}

#[test]
fn a_change_of_permissions_mtime_or_link_target_alone_arrives_without_the_contents() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), crate::common::noise(7, 2_000_000));
    fs::create_dir(a.at("d")).expect("mkdir");
    symlink("one", a.at("link")).expect("a link");
    converge(&[&a, &b]);
    let before = a.wire_bytes().0;
    chmod(a.at("f"), 0o750);
    converge(&[&a, &b]);
    set_mtime(a.at("f"), 1_234_567_890, 987_654_321);
    chmod(a.at("d"), 0o711);
    remove(a.at("link"));
    symlink("two", a.at("link")).expect("a link");
    converge(&[&a, &b]);
    let sent = a.wire_bytes().0 - before;
    assert!(sent < 200_000, "{sent} bytes sent for a chmod and a touch");
}

#[test]
fn setuid_setgid_and_sticky_bits_stay_at_home() {
    let (a, b) = Group::new().pair();
    write(a.at("tool"), "x");
    chmod(a.at("tool"), 0o6755);
    converge(&[&a, &b]);
    let mode = fs::metadata(b.at("tool")).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn a_link_to_a_folder_is_a_link_and_nothing_behind_it_is_touched() {
    let (a, b) = Group::new().pair();
    let outside = a.home.join("outside");
    write(outside.join("secret"), "not to be synced");
    symlink(&outside, a.at("link")).expect("a link");
    write(a.at("f"), "f");
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.paths(), ["f", "link"]);
    // The peer turns a real folder into a link to the outside while files for it are on their way
    // (P7). The target is relative: at a it leads nowhere, so that whatever lands in b's was put
    // there by b's daemon.
    let victim = b.home.join("victim");
    fs::create_dir(&victim).expect("mkdir");
    write(a.at("d/first"), "first");
    converge(&[&a, &b]);
    rename(b.at("d"), b.home.join("d-aside"));
    symlink("../victim", b.at("d")).expect("a link");
    for n in 0..50 {
        // Until the link has reached a, and d is no folder there either.
        let _ = fs::write(a.at(&format!("d/{n}")), "inside");
    }
    converge(&[&a, &b]);
    let escaped: Vec<_> = fs::read_dir(&victim).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert!(escaped.is_empty(), "files were written through a link: {escaped:?}");
}

#[test]
fn a_device_is_left_alone() {
    if !is_root("a_device_is_left_alone") {
        return;
    }
    let (a, b) = Group::new().pair();
    run("mknod", &[a.at("a-device").to_str().expect("text"), "c", "1", "3"]);
    write(a.at("f"), "f");
    assert_eq!(converge(&[&a, &b]).paths(), ["f"]);
    a.wait_log(&["a-device"]);
    assert!(!b.at("a-device").exists());
}

#[test]
fn fifos_and_sockets_are_left_alone_and_named_once() {
    let (a, b) = Group::new().pair();
    run("mkfifo", &[a.at("a-fifo").to_str().expect("text")]);
    let _listener = UnixListener::bind(a.at("a-socket")).expect("binds");
    write(a.at("f"), "f");
    converge(&[&a, &b]);
    a.wait_log(&["a-fifo"]);
    a.wait_log(&["a-socket"]);
    // More looks at them: a touch, and a file beside them.
    set_mtime(a.at("a-fifo"), 1_000_000_000, 0);
    write(a.at("g"), "g");
    converge(&[&a, &b]);
    assert_eq!(a.log().matches("a-fifo").count(), 1, "{}", a.log());
    assert!(!b.at("a-fifo").exists() && !b.at("a-socket").exists());
    // A fifo where the peer puts a file: a problem here, and everything else goes on.
    write(b.at("a-fifo"), "a file of the same name");
    write(b.at("h"), "h");
    eventually("h is at a", PATIENCE, || a.at("h").exists().then_some(()).ok_or("not yet".to_owned()));
    let kind = fs::symlink_metadata(a.at("a-fifo")).expect("still there").file_type();
    assert!(!kind.is_file(), "the fifo was replaced");
}

#[test]
fn what_the_ignore_file_names_stays_at_home() {
    let (a, b) = Group::new().pair();
    write(a.at(".dirsyncignore"), "*.tmp\n/build/\n!keep.tmp\n# a comment\n");
    converge(&[&a, &b]);
    write(a.at("x.tmp"), "ignored");
    write(a.at("keep.tmp"), "not ignored");
    write(a.at("build/out"), "ignored");
    write(a.at("sub/build/out"), "not ignored");
    write(b.at("y.tmp"), "ignored at b too");
    eventually("what is not ignored is at b", PATIENCE, || {
        let there = b.at("keep.tmp").exists() && b.at("sub/build/out").exists();
        there.then_some(()).ok_or("not yet".to_owned())
    });
    a.wait_idle();
    assert!(!b.at("x.tmp").exists() && !b.at("build").exists() && !a.at("y.tmp").exists());
    assert!(b.at(".dirsyncignore").exists(), "the ignore file itself is synced");
    // Uncovered by its own user, it travels.
    write(a.at(".dirsyncignore"), "/build/\n");
    eventually("x.tmp is at b", PATIENCE, || b.at("x.tmp").exists().then_some(()).ok_or("not yet".to_owned()));
}

#[test]
fn ignored_files_keep_a_deleted_folder_and_stay_in_it() {
    let (a, b) = Group::new().pair();
    write(a.at(".dirsyncignore"), "*.tmp\n");
    write(a.at("d/f"), "f");
    converge(&[&a, &b]);
    write(b.at("d/local.tmp"), "only here");
    remove(a.at("d"));
    eventually("d/f is gone at b", PATIENCE, || (!b.at("d/f").exists()).then_some(()).ok_or("still there".to_owned()));
    a.wait_idle();
    assert_eq!(read(b.at("d/local.tmp")), b"only here");
    assert!(!a.at("d").exists(), "the folder came back");
}

#[test]
fn a_name_that_looks_like_the_private_folder_is_not_synced_and_stops_nothing() {
    let (a, b) = Group::new().pair();
    write(a.at("sub/.dirsync/x"), "x");
    write(a.at("sub/.DirSync/x"), "x");
    write(a.at("sub/f"), "f");
    eventually("sub/f is at b", PATIENCE, || b.at("sub/f").exists().then_some(()).ok_or("not yet".to_owned()));
    a.wait_idle();
    assert!(!b.at("sub/.dirsync").exists() && !b.at("sub/.DirSync").exists());
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_in_status_and_not_a_stop() {
    const NOBODY: u32 = 65_534;
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    if is_root("a_file_that_cannot_be_read_is_a_problem_in_status_and_not_a_stop") {
        // The build folder need not be open to others: the unprivileged user runs a copy.
        let copy = a.home.join("dirsyncd");
        copy_program(&a.binary, &copy);
        chmod(&copy, 0o755);
        a.binary = copy;
        a.through = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned).to_vec();
        give_to(&a.home, NOBODY, NOBODY);
    }
    write(a.at("locked"), "not for you");
    chmod(a.at("locked"), 0);
    write(a.at("closed/f"), "behind a closed door");
    chmod(a.at("closed"), 0);
    write(a.at("open"), "for all");
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    eventually("open is at b", PATIENCE, || b.at("open").exists().then_some(()).ok_or("not yet".to_owned()));
    eventually("both problems are in status", PATIENCE, || {
        let status = text_of(&a.cli(&["status"]));
        let both = find_line(&status, &["locked"]).is_some() && find_line(&status, &["closed"]).is_some();
        both.then_some(()).ok_or(status)
    });
    write(b.at("back"), "and the way back works");
    eventually("back is at a", PATIENCE, || a.at("back").exists().then_some(()).ok_or("not yet".to_owned()));
    chmod(a.at("locked"), 0o644);
    chmod(a.at("closed"), 0o755);
    eventually("what became readable is at b", PATIENCE, || {
        (b.at("locked").exists() && b.at("closed/f").exists()).then_some(()).ok_or("not yet".to_owned())
    });
    eventually("the problems are gone from status", PATIENCE, || {
        let problems = a.json(&["status"])?["problems"].clone();
        problems.as_array().is_some_and(Vec::is_empty).then_some(()).ok_or(problems.to_string())
    });
}
