//! Pictures of the page, for docs/page.md and for whoever changes it: made only where they are
//! asked for.
//!
//! ```sh
//! DIRSYNC_PICTURES=docs/images cargo test --test browser pictures
//! DIRSYNC_EXTREMES=/tmp/page cargo test --test browser pictures
//! ```

use crate::common::machine::wait_linked;
use crate::common::ports::free_tcp_port;
use crate::common::{Group, converge, noise, start_all, write};
use crate::visit::{Visit, address, page_is_tried};
use std::path::{Path, PathBuf};

const WIDTHS: [u32; 3] = [360, 800, 1440];
const SCHEMES: [&str; 2] = ["light", "dark"];
/// Answers in place of a daemon.
const STUB: &str = include_str!("stub.js");

/// The folder that a variable names, below this repository.
fn asked(variable: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(std::env::var_os(variable)?);
    std::fs::create_dir_all(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    Some(folder)
}

/// How high a picture is.
const PAGE_HEIGHT: u32 = 1000;
const HEIGHT: u32 = 1500;
/// Of an extreme, from above to below.
const MOST_PICTURES: u32 = 5;

#[test]
fn pictures_of_a_folder_on_three_machines_are_made_where_they_are_asked_for() {
    let Some(folder) = asked("DIRSYNC_PICTURES") else { return };
    assert!(page_is_tried("pictures"), "they are taken with Chromium");
    let group = Group::new();
    let [mut desk, laptop, nas] = ["desk", "laptop", "nas"].map(|name| group.machine(name));
    desk.options = vec!["--http".to_owned(), free_tcp_port().to_string()];
    start_all(&[&desk, &laptop, &nas]);
    wait_linked(&[&desk, &laptop, &nas]);
    let all = [&desk, &laptop, &nas];
    for n in 0..18 {
        write(laptop.at(&format!("photos/2026-08 lake/IMG_{}.jpg", 4120 + n)), noise(n, 90_000 + 4000 * n as usize));
    }
    converge(&all);
    write(nas.at("backup/accounts-2026-11.tar.zst"), noise(40, 2_400_000));
    write(desk.at("accounts/2026.ods"), noise(41, 48_000));
    write(desk.at("notes/ideas.md"), "one\n");
    write(desk.at("budget.ods"), noise(42, 31_000));
    write(desk.at(".dirsyncignore"), "*.tmp\n.cache/\n");
    converge(&all);
    write(laptop.at("notes/ideas.md"), "one\ntwo\n");
    write(laptop.at("letter to the bank.odt"), noise(43, 22_000));
    write(nas.at("readme.txt"), "What is in this folder is on all three machines.\n");
    converge(&all);
    // The folder of a test has a name that says nothing.
    let renamed = format!(
        "const real = window.fetch; window.fetch = async (...asked) => {{ const answer = await real(...asked); \
         if (!String(asked[0]).endsWith('/status') || answer.status !== 200) return answer; \
         const text = (await answer.text()).replaceAll('{}', '/srv/shared').replaceAll('{}', '/var/lib/dirsyncd'); \
         return new Response(text, {{ headers: answer.headers }}); }};",
        desk.dir.display(),
        desk.state.display(),
    );
    let visit = Visit::with(&address(&desk), &renamed);
    visit.until("verdict", "In sync with 2 machines");
    visit.until("file-list", "readme.txt");
    visit.until("log", "letter to the bank");
    for width in WIDTHS {
        for scheme in SCHEMES {
            visit.prefer(scheme);
            visit.resize(width, PAGE_HEIGHT);
            visit.picture(&folder.join(format!("page-{width}-{scheme}.png")));
        }
    }
    visit.leave();
}

#[test]
fn pictures_of_extremes_are_made_where_they_are_asked_for() {
    let Some(folder) = asked("DIRSYNC_EXTREMES") else { return };
    assert!(page_is_tried("pictures"), "they are taken with Chromium");
    let mut a = Group::new().machine("a");
    a.options = vec!["--http".to_owned(), free_tcp_port().to_string()];
    a.start();
    for extreme in ["machines", "problems", "hostile"] {
        let visit = Visit::with(&address(&a), &format!("window.extreme = '{extreme}';\n{STUB}"));
        visit.until("log", "received");
        visit.look_at("files");
        visit.until("file-list", "txt");
        for (width, scheme) in WIDTHS.into_iter().zip(["light", "dark", "light"]) {
            visit.prefer(scheme);
            let height = visit.resize(width, HEIGHT);
            for n in 0..height.div_ceil(HEIGHT).min(MOST_PICTURES) {
                visit.text_of(&format!("window.scrollTo({{ top: {}, behavior: 'instant' }}); return ''", n * HEIGHT));
                visit.picture(&folder.join(format!("{extreme}-{width}-{n}.png")));
            }
        }
        // The dialog of an invitation asks the daemon.
        visit.click("#machines button", "Add a machine");
        visit.click("#dialog-actions button", "Make a code");
        visit.until("invite-command", " --join ");
        for width in WIDTHS {
            visit.resize(width, PAGE_HEIGHT);
            visit.picture(&folder.join(format!("{extreme}-{width}-invitation.png")));
        }
        let drawn = visit.text_of("return `${document.getElementsByTagName('*').length} elements`");
        let loaded = visit.text_of(
            "const one = performance.getEntriesByName('first-contentful-paint')[0]; \
             return `first paint ${Math.round(one.startTime)} ms`",
        );
        println!("{extreme}: {drawn}, {loaded}");
        assert_eq!(visit.text_of("return document.title"), "here: dirsync");
        visit.leave();
    }
}
