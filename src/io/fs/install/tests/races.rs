//! Users who read and write while files are installed.

use super::*;

#[test]
fn a_polling_reader_sees_one_whole_version_after_another() {
    let folder = InstallFixture::new();
    let versions = ["a".repeat(3000), "b".repeat(5000)];
    done(&folder.one(file("f", &versions[0])));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let seen = std::fs::read_to_string(folder.at("f")).expect("it is never missing");
                assert!(versions.contains(&seen), "{} bytes, mixed or torn", seen.len());
            }
        });
        for round in 0..1000 {
            let content = &versions[(round + 1) % 2];
            done(&folder.one(folder.job("f", kind(content), bytes(content))));
        }
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(folder.kept().len(), 1000);
}

/// Users write unique values by rename, as editors do, while the same path is replaced and deleted:
/// each value is in the folder, in history, or was knowingly overwritten by the next write of its
/// user (P2).
#[test]
fn nothing_a_user_writes_while_we_install_is_lost() {
    let folder = InstallFixture::new();
    folder.write("f", "user 0");
    let over = AtomicBool::new(false);
    let (overwritten, written) = std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            let (mut overwritten, mut written) = (Vec::new(), vec!["user 0".to_owned()]);
            for i in 1.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let value = format!("user {i}");
                folder.write("mine", &value);
                let exchanged = rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    folder.at("mine"),
                    rustix::fs::CWD,
                    folder.at("f"),
                    rustix::fs::RenameFlags::EXCHANGE,
                );
                if exchanged.is_ok() {
                    overwritten.push(folder.read("mine"));
                    written.push(value);
                }
            }
            (overwritten, written)
        });
        let mut ended = [0, 0];
        for i in 0..2000 {
            let job = if i % 5 == 4 {
                folder.job("f", deletion(), Source::Nothing)
            } else {
                let content = format!("remote {i}");
                folder.job("f", kind(&content), bytes(&content))
            };
            match folder.one(job) {
                Outcome::Done { .. } => ended[0] += 1,
                Outcome::Stale => ended[1] += 1,
                other => panic!("{other:?}"),
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(ended[0] > 0 && ended[1] > 0, "done and stale: {ended:?}");
        user.join().unwrap()
    });
    let mut found: BTreeSet<String> = overwritten.into_iter().collect();
    found.extend(folder.kept().into_iter().map(|(_, content)| content));
    found.extend(std::fs::read_to_string(folder.at("f")));
    let lost: Vec<_> = written.iter().filter(|value| !found.contains(*value)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    folder.assert_nothing_staged();
}

#[rstest]
#[case::named(false)]
#[case::nameless(true)]
fn what_was_written_between_check_and_exchange_goes_back(#[case] is_nameless: bool) {
    let folder = InstallFixture::new();
    folder.write("f", "old");
    let job = folder.job("f", kind("new"), bytes("new"));
    let made =
        prepare(&folder.site, &mut InstallBatch::new(is_nameless), &job).unwrap_or_else(|_| panic!("it is staged"));
    assert_eq!(matches!(made, Prepared::Nameless(..)), is_nameless);
    // As if the user had written right after the check: what the exchange expects is no longer
    // there.
    let before = folder.stat("f").unwrap();
    folder.write("f", "user");
    let change = PathChange {
        path: &job.path,
        expect: job.expect.as_ref(),
        keep: RetainReason::Replaced,
        since_ns: None,
        mode: job.entry.mode,
        mtime: job.entry.mtime,
        content: None,
        made: &made,
    };
    let outcome = place::replace_unchecked(&folder.site, &change, &before);
    assert!(matches!(outcome, Err(Outcome::Stale)), "{outcome:?}");
    assert_eq!((folder.read("f").as_str(), folder.kept().len()), ("user", 0));
    folder.site.take_back(&job, &made);
    folder.assert_nothing_staged();
}
