//! What a program deletes and moves.

use super::*;
use crate::io::fs::install::{PutContent, RestoreError};
use std::os::unix::fs::PermissionsExt;

#[test]
fn what_is_deleted_goes_to_history_if_it_is_what_was_expected() {
    let folder = InstallFixture::new();
    folder.write("f", "content");
    let stat = folder.stat("f").unwrap();
    folder.write("f", "of a user");
    let history = &folder.site.history;
    assert!(matches!(history.delete(&path("f"), &stat), Err(RestoreError::Busy(_))));
    assert_eq!((folder.read("f").as_str(), folder.kept().len()), ("of a user", 0));
    history.delete(&path("f"), &folder.stat("f").unwrap()).unwrap();
    assert_eq!(folder.stat("f"), None);
    assert_eq!(folder.kept(), [("f".to_owned(), "of a user".to_owned())]);
    assert!(matches!(history.delete(&path("f"), &stat), Err(RestoreError::Busy(_))), "it is gone");
}

#[test]
fn a_folder_that_holds_something_is_not_deleted() {
    let folder = InstallFixture::new();
    std::fs::create_dir(folder.at("d")).unwrap();
    folder.write("d/f", "content");
    let stat = folder.stat("d").unwrap();
    assert!(matches!(folder.site.history.delete(&path("d"), &stat), Err(RestoreError::NotEmpty(_))));
    assert_eq!(folder.read("d/f"), "content");
    std::fs::remove_file(folder.at("d/f")).unwrap();
    folder.site.history.delete(&path("d"), &stat).unwrap();
    assert_eq!(folder.stat("d"), None);
}

#[test]
fn what_is_moved_is_what_was_expected_and_replaces_nothing() {
    let folder = InstallFixture::new();
    let history = &folder.site.history;
    std::fs::create_dir(folder.at("d")).unwrap();
    folder.write("d/f", "content");
    let (dir, file) = (folder.stat("d").unwrap(), folder.stat("d/f").unwrap());
    folder.write("there", "stays");
    let moved = |from: &str, to: &str, stat| history.move_path(&path(from), &path(to), stat);
    assert!(matches!(moved("d/f", "there", &file), Err(RestoreError::Taken(_))));
    assert!(matches!(moved("d", "there", &dir), Err(RestoreError::Taken(_))));
    assert!(matches!(moved("d", "d/e/d", &dir), Err(RestoreError::IntoItself(_))));
    assert!(matches!(moved("d/f", "there/f", &file), Err(RestoreError::NoParent(_))));
    assert!(matches!(moved("d/g", "g", &file), Err(RestoreError::Busy(_))));
    assert_eq!((folder.read("there").as_str(), folder.read("d/f").as_str()), ("stays", "content"));
    moved("d/f", "new/folder/f", &file).unwrap();
    assert_eq!(folder.read("new/folder/f"), "content");
    folder.write("new/folder/f", "of a user");
    assert!(matches!(moved("new/folder/f", "f", &file), Err(RestoreError::Busy(_))));
    assert_eq!((folder.read("new/folder/f").as_str(), folder.stat("f")), ("of a user", None));
    let new = folder.stat("new").unwrap();
    moved("new", "d/new", &new).unwrap();
    assert_eq!(folder.read("d/new/folder/f"), "of a user");
    assert_eq!(folder.kept(), []);
}

#[test]
fn what_a_program_sends_replaces_what_was_expected_and_is_still_staged_if_it_does_not() {
    let folder = InstallFixture::new();
    let history = &folder.site.history;
    let staged = |content: &str| {
        let mut writer = folder.site.stage.create(content.len() as u64).unwrap();
        writer.write(content.as_bytes()).unwrap();
        writer.finish(&ContentId::of(content.as_bytes())).unwrap()
    };
    let put = |name: &str, content: &str, expect| PutContent {
        path: path(name),
        content: ContentId::of(content.as_bytes()),
        size: content.len() as u64,
        expect,
    };
    history.put(staged("first"), &put("new/f", "first", None)).unwrap();
    assert_eq!(folder.read("new/f"), "first");
    let stat = folder.stat("new/f").unwrap();
    std::fs::set_permissions(folder.at("new/f"), std::fs::Permissions::from_mode(0o640)).unwrap();
    folder.write("new/f", "of a user");
    let second = staged("second");
    for expect in [None, Some(stat)] {
        let refused = history.put(second, &put("new/f", "second", expect));
        assert!(matches!(refused, Err(RestoreError::Busy(_))), "{refused:?}");
        assert_eq!(folder.read("new/f"), "of a user");
    }
    let now = folder.stat("new/f");
    history.put(second, &put("new/f", "second", now)).unwrap();
    assert_eq!(folder.read("new/f"), "second");
    assert_eq!(folder.stat("new/f").unwrap().mode, Mode(0o640), "as what it replaced");
    assert_eq!(folder.kept(), [("new/f".to_owned(), "of a user".to_owned())]);
    folder.assert_nothing_staged();
}
