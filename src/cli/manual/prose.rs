//! What manual pages say that no definition has: exit codes, the environment, files, examples.
//!
//! A test parses each example. Deliberately not here: how a page is written (`page.rs`).

/// What is named, and what it means.
pub(super) type ProseLines = &'static [(&'static str, &'static str)];

pub(super) const DAEMON_EXIT: ProseLines = &[
    ("0", "It stopped as it was asked to: by SIGTERM, by SIGINT, or by 'dirsync leave'."),
    ("1", "It could not start, or failed while running. The last line of its log says why."),
    ("2", "Wrong usage. One line says what to do instead. A unit does not try again then."),
];

pub(super) const DAEMON_SIGNALS: ProseLines = &[
    ("SIGTERM, SIGINT", "It stops cleanly."),
    (
        "SIGHUP",
        "It reads the options again: --log-level, --limit and --peer hold at once, the others from the next start on. \
         Where it was started on a terminal that is gone, it stops.",
    ),
];

pub(super) const DAEMON_ENVIRONMENT: ProseLines = &[
    ("STATE_DIRECTORY", "Where the state is, if --state-dir does not say so. systemd sets it."),
    ("XDG_STATE_HOME, HOME", "The state is in dirsyncd/ in the first, or in .local/state/dirsyncd/ in the second."),
    ("RUNTIME_DIRECTORY", "Where the socket of --socket-group is. systemd sets it."),
    ("CREDENTIALS_DIRECTORY", "Files in it may hold the secret, whoever they belong to. systemd sets it."),
    ("RUST_LOG", "What is logged, if --log-level does not say so."),
    ("NO_COLOR", "No colours in the log, also on a terminal."),
];

pub(super) const DAEMON_FILES: ProseLines = &[
    ("DIRECTORY/.dirsyncignore", "What is not synced, in the syntax of .gitignore. The file itself is synced."),
    ("DIRECTORY/.dirsync", "What the daemon keeps beside the files. It is never synced."),
    ("DIRECTORY/.dirsync/history", "What remote changes replaced or deleted. Use 'dirsync history' and 'restore'."),
    ("DIRECTORY/.dirsync/control", "The socket of the API, which dirsync(1) asks."),
    ("/var/lib/dirsyncd/INSTANCE", "The state of a unit of the machine: index, key and secret. Keep it private."),
    ("~/.local/state/dirsyncd", "The states of your own daemons, one folder each."),
    ("/etc/systemd/system/dirsyncd@.service", "The unit that 'dirsync install' writes."),
];

pub(super) const TOOL_EXIT: ProseLines = &[
    ("0", "Done."),
    ("1", "Not done, or something needs attention. One line on standard error says what."),
    ("2", "Wrong usage."),
];

pub(super) const TOOL_ENVIRONMENT: ProseLines = &[
    ("HOME, XDG_STATE_HOME, XDG_CONFIG_HOME", "Where your own daemons and units have their states."),
    ("XDG_RUNTIME_DIR", "Where your own service manager listens."),
    ("DISPLAY, WAYLAND_DISPLAY", "Whether 'dirsync web' opens a browser."),
];

pub(super) const TOOL_FILES: ProseLines = &[
    ("FOLDER/.dirsync/control", "The socket of the folder's daemon."),
    ("FOLDER/.dirsync/control-at", "Where that socket is instead, if the folder's file system keeps none."),
];

/// Of a page, by its name.
pub(super) fn examples(page: &str) -> ProseLines {
    EXAMPLES.iter().find(|(name, _)| *name == page).map_or(&[], |(_, lines)| lines)
}

pub(super) const EXAMPLES: &[(&str, ProseLines)] = &[
    (
        "dirsyncd",
        &[
            ("dirsyncd ~/shared", "Keep a folder until it is stopped. The first start makes a secret."),
            ("dirsyncd ~/shared --join K9MM-54BM-282X-2FYD", "Join the group whose member showed this code."),
            ("dirsyncd ~/shared --join - --preview", "Read the code, and only say what joining would do."),
            ("dirsyncd ~/shared --peer nas.example.org:6000", "Also link to a machine that broadcast does not reach."),
            (
                "dirsyncd ~/shared --http 8080 --limit 20M",
                "Answer a browser on this machine, and send 20 MiB/s at most.",
            ),
        ],
    ),
    (
        "dirsync",
        &[
            ("dirsync status", "How the folder is that you are in."),
            ("dirsync -C ~/shared log -f", "What happens in another one, as it happens."),
            ("dirsync invite", "Let another machine join."),
            ("dirsync restore report.odt@2h", "Bring a file back as it was two hours ago."),
        ],
    ),
    (
        "dirsync-status",
        &[
            ("dirsync status --watch", "Go on showing it."),
            ("dirsync status --check --json", "For monitoring: exit with 1 when anything needs attention."),
        ],
    ),
    ("dirsync-folders", &[("dirsync folders", "All folders of yours on this machine.")]),
    ("dirsync-peers", &[("dirsync peers", "The machines of the group, and whether they hold the same.")]),
    ("dirsync-ls", &[("dirsync ls -r photos", "All that is in a folder, at any depth.")]),
    ("dirsync-why", &[("dirsync why notes.txt", "Whether it is synced, waits, or is ignored, and by which line.")]),
    (
        "dirsync-log",
        &[
            ("dirsync log --since 2h photos", "What happened in a folder in the last two hours."),
            ("dirsync log -f --json", "What happens, one JSON object a line."),
        ],
    ),
    (
        "dirsync-conflicts",
        &[
            ("dirsync conflicts", "What was changed in two places at once."),
            ("dirsync conflicts keep report.odt loser", "Bring back what lost."),
        ],
    ),
    ("dirsync-conflicts-diff", &[("dirsync conflicts diff notes.txt", "What lost, compared with what is there.")]),
    (
        "dirsync-conflicts-keep",
        &[
            ("dirsync conflicts keep notes.txt nas", "The version that the machine nas made."),
            ("dirsync conflicts keep --all winner", "All are fine as they are."),
        ],
    ),
    (
        "dirsync-history",
        &[
            ("dirsync history report.odt", "The versions that are kept of a file, and where."),
            ("dirsync history --at 2026-03-01 photos", "What was there then and is not there now."),
        ],
    ),
    (
        "dirsync-restore",
        &[
            ("dirsync restore report.odt", "What was replaced or deleted last."),
            ("dirsync restore photos@3d --dry-run", "What would come back of a folder as of three days ago."),
        ],
    ),
    (
        "dirsync-verify",
        &[
            ("dirsync verify --rate 50M", "Hash everything again, at 50 MiB a second."),
            ("dirsync verify --heal song.flac", "Fetch a file that rotted from a machine that has it."),
        ],
    ),
    ("dirsync-wait", &[("dirsync wait --all --timeout 2m", "Until every known machine agrees, or two minutes.")]),
    ("dirsync-held", &[("dirsync held", "What waits for 'dirsync confirm' or 'dirsync undo'.")]),
    ("dirsync-confirm", &[("dirsync confirm", "The deletions were meant.")]),
    ("dirsync-undo", &[("dirsync undo --dry-run", "What would come back if they were not.")]),
    (
        "dirsync-invite",
        &[
            ("dirsync invite --read-only --uses 5", "Five machines that may read, and change nothing."),
            ("dirsync invite --quiet | ssh nas dirsyncd /srv/shared --join -", "Add a machine that ssh reaches."),
        ],
    ),
    ("dirsync-role", &[("dirsync role receive-only", "A mirror: what is changed here is announced to nobody.")]),
    ("dirsync-local", &[("dirsync local", "What differs here from the group by this machine's role.")]),
    ("dirsync-promote", &[("dirsync promote notes.txt", "Announce a local change after all.")]),
    ("dirsync-revert", &[("dirsync revert --all", "Take the group's state back everywhere.")]),
    ("dirsync-override", &[("dirsync override", "What it would do; --yes does it.")]),
    ("dirsync-remove", &[("dirsync remove old-laptop", "Shut out a machine that was lost. It asks first.")]),
    ("dirsync-rotate", &[("dirsync rotate --dry-run", "Who would be handed a new secret.")]),
    ("dirsync-rename", &[("dirsync rename nas", "Another name for this machine, on all machines.")]),
    ("dirsync-leave", &[("dirsync leave", "What would happen, and what is on no other machine yet.")]),
    ("dirsync-show", &[("dirsync show report.odt", "Its version, who holds it, and what is kept of it.")]),
    ("dirsync-diff", &[("dirsync diff nas", "What this machine and nas still have to do to hold the same.")]),
    ("dirsync-need", &[("dirsync need --peer nas", "What is still to come to the disk of nas.")]),
    ("dirsync-transfers", &[("dirsync transfers", "Large contents on their way.")]),
    ("dirsync-problems", &[("dirsync problems --json", "Every path that needs attention, for programs.")]),
    (
        "dirsync-events",
        &[("dirsync events --prefix photos --json", "What happens in a folder, one JSON object a line.")],
    ),
    ("dirsync-du", &[("dirsync du --depth 2 photos", "How much is in a folder, and in those two levels below it.")]),
    ("dirsync-analyze", &[("dirsync analyze photos", "Duplicates, copies and the largest files of a folder.")]),
    (
        "dirsync-put",
        &[
            ("dirsync put report.odt --to inbox/", "Send a file into a folder of the folder."),
            ("dirsync put --recursive photos --wait-copies 2", "Wait until two other machines hold all of it."),
        ],
    ),
    (
        "dirsync-get",
        &[("dirsync get --recursive photos --out /mnt/stick", "Fetch a folder, whoever holds what of it.")],
    ),
    ("dirsync-cat", &[("dirsync cat notes.txt", "Print it, also before it is on this disk.")]),
    ("dirsync-rm", &[("dirsync rm --recursive old", "Delete a folder on every machine.")]),
    ("dirsync-mv", &[("dirsync mv draft.odt archive/", "Move a file into a folder.")]),
    ("dirsync-doctor", &[("dirsync doctor", "What syncing lacks here, and what to do.")]),
    ("dirsync-web", &[("dirsync web --read-only", "An address at which a browser may look and change nothing.")]),
    ("dirsync-pause", &[("dirsync pause", "Send and receive nothing.")]),
    ("dirsync-resume", &[("dirsync resume", "Go on.")]),
    ("dirsync-scan", &[("dirsync scan photos", "Look at a folder now.")]),
    (
        "dirsync-limit",
        &[("dirsync limit 20M", "Send 20 MiB a second at most."), ("dirsync limit off", "As much as goes.")],
    ),
    (
        "dirsync-install",
        &[
            ("dirsync install /srv/shared --name nas", "As root: keep it from each boot on."),
            ("dirsync install --user ~/shared --dry-run", "What would be written and run for a folder of yours."),
        ],
    ),
    ("dirsync-uninstall", &[("dirsync uninstall --user ~/shared", "Take the unit back. The folder stays.")]),
    (
        "dirsync-identity",
        &[("dirsync identity export nas.age", "A backup of the membership, encrypted by a passphrase.")],
    ),
    ("dirsync-identity-export", &[("dirsync identity export nas.age", "It asks for a passphrase.")]),
    ("dirsync-identity-import", &[("dirsync identity import nas.age /srv/shared", "Go on from it on new hardware.")]),
    (
        "dirsync-completions",
        &[
            ("dirsync completions bash >~/.local/share/bash-completion/completions/dirsync", "For bash."),
            ("dirsync completions zsh dirsyncd", "Of dirsyncd, for zsh."),
        ],
    ),
    (
        "dirsync-man",
        &[
            ("dirsync man conflicts keep", "The page of a command."),
            ("dirsync man --dir ~/.local/share/man", "All pages, where man finds them."),
        ],
    ),
];
