//! Owners, special bits, access lists and attributes: what stays, and what new things take from
//! their folder.

use super::*;

/// Whether this test may give files away; says so if not.
fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: needs root: {test}");
    }
    is_root
}

fn owner(path: PathBuf) -> (u32, u32) {
    std::fs::symlink_metadata(path).map(|m| (m.uid(), m.gid())).unwrap()
}

fn set_mode(path: PathBuf, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn raw_mode(path: PathBuf) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn where_others_may_create_a_new_file_is_the_daemons_and_no_other_users() {
    if !is_root("where_others_may_create_a_new_file_is_the_daemons_and_no_other_users") {
        return;
    }
    let folder = InstallFixture::new();
    for (name, mode) in [("group", 0o775), ("all", 0o1777)] {
        std::fs::create_dir(folder.at(name)).unwrap();
        std::os::unix::fs::chown(folder.at(name), Some(1234), Some(1235)).unwrap();
        set_mode(folder.at(name), mode);
        let (f, d) = (format!("{name}/f"), format!("{name}/d"));
        done(&folder.one(file(&f, "private")));
        done(&folder.one(new(&d, Kind::Directory, Source::Nothing)));
        assert_eq!([owner(folder.at(&f)), owner(folder.at(&d))], [(0, 0); 2], "{name}");
    }
    // Its mask lets a named group write.
    std::fs::create_dir(folder.at("listed")).unwrap();
    std::os::unix::fs::chown(folder.at("listed"), Some(1234), Some(1235)).unwrap();
    set_acl(&folder.at("listed"), "access", &[(1, 7, NONE), (4, 5, NONE), (8, 7, 1236), (16, 7, NONE), (32, 5, NONE)]);
    done(&folder.one(file("listed/f", "private")));
    assert_eq!(owner(folder.at("listed/f")), (0, 0));
}

#[test]
fn a_new_folder_takes_group_and_bit_of_a_setgid_folder() {
    if !is_root("a_new_folder_takes_group_and_bit_of_a_setgid_folder") {
        return;
    }
    let folder = InstallFixture::new();
    std::fs::create_dir(folder.at("team")).unwrap();
    std::os::unix::fs::chown(folder.at("team"), None, Some(1235)).unwrap();
    set_mode(folder.at("team"), 0o2775);
    // One whose mode is complete only in its place, too.
    let closed = new("team/closed", Kind::Directory, Source::Nothing);
    let closed = Job { entry: Entry { mode: Mode(0o555), ..closed.entry.clone() }, ..closed };
    done(&folder.one(closed));
    let made = [new("team/p", Kind::Directory, Source::Nothing), new("team/p/q", Kind::Directory, Source::Nothing)];
    for outcome in folder.install([made.to_vec(), vec![file("team/p/q/f", "x")]].concat()) {
        done(&outcome);
    }
    assert_eq!([raw_mode(folder.at("team/p")), raw_mode(folder.at("team/p/q"))], [0o2640; 2]);
    assert_eq!((raw_mode(folder.at("team/closed")), raw_mode(folder.at("team/p/q/f"))), (0o2555, 0o640));
    for name in ["team/closed", "team/p", "team/p/q", "team/p/q/f"] {
        assert_eq!(owner(folder.at(name)).1, 1235, "{name}");
    }
}

#[test]
fn other_permissions_leave_setuid_setgid_and_sticky_where_they_are() {
    let folder = InstallFixture::new();
    std::fs::create_dir(folder.at("team")).unwrap();
    std::fs::create_dir(folder.at("drop")).unwrap();
    folder.write("tool", "x");
    for (name, mode) in [("team", 0o2775), ("drop", 0o1777), ("tool", 0o4755)] {
        set_mode(folder.at(name), mode);
    }
    for name in ["team", "drop"] {
        done(&folder.one(folder.job(name, Kind::Directory, Source::Nothing)));
    }
    done(&folder.one(folder.job("tool", kind("x"), Source::InPlace)));
    let modes = ["team", "drop", "tool"].map(|name| raw_mode(folder.at(name)));
    assert_eq!(modes, [0o2640, 0o1640, 0o4640]);
    // Of two names of one file, one becomes a file of its own: it is what it was.
    std::fs::hard_link(folder.at("tool"), folder.at("twin")).unwrap();
    let job = folder.job("tool", kind("x"), Source::InPlace);
    done(&folder.one(Job { entry: Entry { mode: Mode(0o750), ..job.entry.clone() }, ..job }));
    assert_eq!((raw_mode(folder.at("tool")), raw_mode(folder.at("twin"))), (0o4750, 0o4640));
    // Nobody gave new contents what the old ones might do.
    done(&folder.one(folder.job("tool", kind("y"), bytes("y"))));
    assert_eq!(raw_mode(folder.at("tool")), 0o640);
}

const NONE: u32 = u32::MAX;

/// An access list as the kernel takes it: (tag, permissions, id) each.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let one = |&(tag, perm, id): &(u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes()[..], &id.to_le_bytes()[..]].concat()
    };
    [2_u32.to_le_bytes().to_vec(), entries.iter().flat_map(one).collect()].concat()
}

fn set_acl(path: &std::path::Path, which: &str, entries: &[(u16, u16, u32)]) {
    let name = format!("system.posix_acl_{which}");
    rustix::fs::setxattr(path, name.as_str(), &acl(entries), rustix::fs::XattrFlags::empty()).unwrap();
}

fn get_acl(path: PathBuf, which: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1000];
    let name = format!("system.posix_acl_{which}");
    let len = rustix::fs::getxattr(path, name.as_str(), &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

#[test]
fn the_default_access_list_of_its_own_folder_applies_to_what_is_new() {
    let folder = InstallFixture::new();
    let default = [(1, 7, NONE), (2, 7, 1234), (4, 5, NONE), (16, 7, NONE), (32, 0, NONE)];
    std::fs::create_dir(folder.at("d")).unwrap();
    set_acl(&folder.at("d"), "default", &default);
    let many: Vec<_> = (0..100).map(|n| file(&format!("d/{n}"), "x")).collect();
    let jobs = [vec![new("d/e", Kind::Directory, Source::Nothing), file("d/e/f", "x")], many].concat();
    for outcome in folder.install(jobs) {
        done(&outcome);
    }
    // The mode is the group's: the mask is what it gives to the group.
    let access = |group| acl(&[(1, 6, NONE), (2, 7, 1234), (4, 5, NONE), (16, group, NONE), (32, 0, NONE)]);
    for name in ["d/e", "d/e/f", "d/0", "d/99"] {
        assert_eq!(get_acl(folder.at(name), "access"), Some(access(4)), "{name}");
        assert_eq!(folder.stat(name).unwrap().mode, Mode(0o640), "{name}");
    }
    assert_eq!(get_acl(folder.at("d/e"), "default"), Some(acl(&default)));
    // Not the root's.
    set_acl(folder.temp.path(), "default", &[(1, 7, NONE), (2, 7, 99), (4, 5, NONE), (16, 7, NONE), (32, 0, NONE)]);
    std::fs::create_dir(folder.at("plain")).unwrap();
    rustix::fs::removexattr(folder.at("plain"), "system.posix_acl_default").unwrap();
    done(&folder.one(file("plain/f", "x")));
    assert_eq!(get_acl(folder.at("plain/f"), "access"), None);
    assert_eq!(get_acl(folder.at(".dirsync"), "default"), None);
}

#[test]
fn the_private_folder_takes_no_access_list_from_the_one_that_it_is_in() {
    let temp = tempfile::tempdir().unwrap();
    set_acl(temp.path(), "default", &[(1, 7, NONE), (2, 7, 1234), (4, 5, NONE), (16, 7, NONE), (32, 0, NONE)]);
    drop(Root::open(temp.path()).unwrap());
    for name in [".dirsync", ".dirsync/staging", ".dirsync/history"] {
        let path = temp.path().join(name);
        assert_eq!((get_acl(path.clone(), "default"), get_acl(path, "access")), (None, None), "{name}");
    }
}

#[test]
fn capabilities_are_not_passed_on_to_new_contents() {
    if !is_root("capabilities_are_not_passed_on_to_new_contents") {
        return;
    }
    let folder = InstallFixture::new();
    folder.write("tool", "old");
    // cap_net_raw+ep, of version 2.
    let capability = [&0x0200_0001_u32.to_le_bytes()[..], &(1_u32 << 13).to_le_bytes()[..], &[0; 12]].concat();
    let no_flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(folder.at("tool"), "security.capability", &capability, no_flags).unwrap();
    rustix::fs::setxattr(folder.at("tool"), "trusted.mark", b"1", no_flags).unwrap();
    rustix::fs::setxattr(folder.at("tool"), "user.color", b"red", no_flags).unwrap();
    done(&folder.one(folder.job("tool", kind("new"), bytes("new"))));
    let mut names = vec![0; 1000];
    let len = rustix::fs::listxattr(folder.at("tool"), &mut names[..]).unwrap();
    assert_eq!(&names[..len], b"user.color\0", "{}", names[..len].escape_ascii());
}

#[test]
fn a_folder_that_is_open_for_an_install_looks_closed_and_a_crash_leaves_it_so() {
    let folder = InstallFixture::new();
    std::fs::create_dir(folder.at("d")).unwrap();
    set_mode(folder.at("d"), 0o2555);
    let seen = || folder.stat("d").unwrap().mode;
    let opening = closed::open(&folder.site.root, &path("d")).unwrap().unwrap();
    assert_eq!((raw_mode(folder.at("d")), seen()), (0o2755, Mode(0o555)));
    opening.close(&folder.site.root).unwrap();
    assert_eq!((raw_mode(folder.at("d")), seen()), (0o2555, Mode(0o555)));
    opening.forget(&folder.site.root).unwrap();
    // Its user's own change of it meanwhile stays.
    let opening = closed::open(&folder.site.root, &path("d")).unwrap().unwrap();
    set_mode(folder.at("d"), 0o700);
    assert_eq!(seen(), Mode(0o700));
    opening.close(&folder.site.root).unwrap();
    opening.forget(&folder.site.root).unwrap();
    assert_eq!(raw_mode(folder.at("d")), 0o700);
    assert!(closed::open(&folder.site.root, &path("d")).unwrap().is_none(), "nothing to open");
    // Cut off while it is open.
    set_mode(folder.at("d"), 0o555);
    closed::open(&folder.site.root, &path("d")).unwrap().unwrap();
    let Site { root, .. } = &folder.site;
    root.while_opened(|all| {
        all.clear();
        Ok(())
    })
    .unwrap();
    assert_eq!(seen(), Mode(0o755));
    closed::close_left(root).unwrap();
    assert_eq!(seen(), Mode(0o555));
    assert_eq!(std::fs::read_dir(folder.at(".dirsync/opened")).unwrap().count(), 0);
}

#[test]
fn what_is_restored_is_its_users() {
    if !is_root("what_is_restored_is_its_users") {
        return;
    }
    let folder = InstallFixture::new();
    folder.write("f", "old");
    std::os::unix::fs::chown(folder.at("f"), Some(1234), Some(1235)).unwrap();
    let (_, kept) = done(&folder.one(folder.job("f", deletion(), Source::Nothing)));
    folder.site.history.restore(&kept.unwrap(), &path("f")).unwrap();
    assert_eq!((folder.read("f").as_str(), owner(folder.at("f"))), ("old", (1234, 1235)));
}
