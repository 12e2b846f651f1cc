//! When the kernel does not tell: a watch limit that is too low costs time, never a change.

use crate::common::machine::wait_linked;
use crate::common::{Group, converge, eventually, wait_equal, write};
use std::time::Duration;

/// Longer than the 60 s between walks of what is not watched.
const A_WALK: Duration = Duration::from_secs(100);

#[test]
fn a_watch_limit_is_one_line_that_names_the_setting_and_what_is_not_watched_is_walked() {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    // The limit of a user namespace of its own: nobody else's is touched.
    let limited = "echo 20 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
    a.through = ["unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh"].map(str::to_owned).to_vec();
    for n in 0..60 {
        write(a.at(&format!("d{n}/f")), format!("{n}"));
    }
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    a.wait_log(&["max_user_watches"]);
    converge(&[&a, &b]);
    for n in 0..60 {
        write(a.at(&format!("d{n}/f")), format!("changed {n}"));
    }
    let tree = wait_equal(&[&a, &b], A_WALK);
    assert_eq!(tree.files(), 60);
    let lines = a.log().lines().filter(|line| line.contains("max_user_watches")).count();
    assert_eq!(lines, 1, "{}", a.log());
    // The way back never depended on watches.
    write(b.at("d59/f"), "by b");
    eventually("b's edit is at a", A_WALK, || {
        let there = crate::common::disk::peek(a.at("d59/f"));
        (there.as_deref() == Some(b"by b")).then_some(()).ok_or(format!("{there:?}"))
    });
}

/// Other daemons may have taken the rest.
#[test]
fn a_user_who_has_one_inotify_instance_left_has_every_folder_watched() {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    let limited = "echo 1 > /proc/sys/user/max_inotify_instances && exec \"$@\"";
    a.through = ["unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh"].map(str::to_owned).to_vec();
    // More than one instance takes while it may have another beside it.
    for n in 0..1200 {
        write(a.at(&format!("d{n}/f")), format!("{n}"));
    }
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    for n in 0..24 {
        write(a.at(&format!("d{}/f", n * 50)), format!("changed {n}"));
    }
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 1200);
    assert!(!a.log().contains("fs.inotify"), "{}", a.log());
}

#[test]
fn ten_thousand_files_made_and_removed_at_once_leave_nothing_behind_and_nothing_out() {
    let (a, b) = Group::new().pair();
    write(a.at("stays"), "stays");
    for n in 0..10_000 {
        let path = a.at(&format!("burst/{}/{n}", n % 50));
        write(&path, "short-lived");
        if n % 10 != 0 {
            crate::common::remove(&path);
        }
    }
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 1001);
}

/// A script writes patterns, and at once what they cover: once announced to others, it could not be
/// taken back.
#[test]
fn what_appears_right_after_the_patterns_that_cover_it_is_told_to_nobody() {
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    let mut patterns = String::new();
    for n in 0..12 {
        patterns += format!("target{n}/\n*.secret{n}\n").as_str();
        write(a.at(".dirsyncignore"), &patterns);
        std::fs::create_dir(a.at(&format!("target{n}"))).unwrap();
        write(a.at(&format!("target{n}/object")), "covered");
        write(a.at(&format!("key.secret{n}")), "covered");
        write(a.at(&format!("open{n}")), "not covered");
        eventually("what is not covered is at b", crate::common::PATIENCE, || {
            let there = crate::common::disk::peek(b.at(&format!("open{n}")));
            there.map(|_| ()).ok_or("not yet".to_owned())
        });
    }
    let names = std::fs::read_dir(b.at("")).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
    let covered: Vec<_> = names.filter(|name| name.contains("target") || name.contains("secret")).collect();
    assert_eq!(covered, Vec::<String>::new());
}
