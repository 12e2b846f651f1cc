// Answers in place of a daemon, to look at what few folders are like: 30 machines, 10,000 problems,
// names that are long or meant to deceive.
(() => {
  const NOW = 1_795_000_000;
  const LONG = "a name without any blank ".replaceAll(" ", "-").repeat(9);
  const HOSTILE = ["<img src=x onerror=document.title='run'>", "a\\xe2\\x80\\xaegnp.exe", `${LONG}.txt`,
    "\u05d0\u05d1\u05d2 \u0639\u0631\u0628\u064a.txt", "\\n\\x1b[31m", "\u{1F600}".repeat(40), "a b  c   d"];
  const hex = (n) => String(n).padStart(2, "0").repeat(32);
  const ns = (seconds) => `${seconds}000000000`;
  const kind = window.extreme;
  const isHostile = kind === "hostile";
  const many = kind === "machines" ? 30 : 3;
  const name = (n) => (isHostile ? `machine-${"x".repeat(54)}` : `machine-${n}`);
  const machine = (n) => ({
    device: hex(n), name: n === 0 ? "here" : name(n), in_sync: n % 3 !== 0, linked: n % 4 !== 3,
    state: n === 0 ? "this machine" : n % 4 === 3 ? "not linked" : n % 3 === 0 ? "1,204 paths to come" : "in sync",
    role: "both", condition: null, pending: n % 3 === 0 ? 1204 : 0, capability: n % 5 === 4 ? "read-only" : "write",
    address: n % 4 === 3 ? "" : n % 2 === 0 ? `[2001:db8:1234:5678:9abc:def0:1234:${1000 + n}]:6000` : `192.0.2.${n}:6000`,
    sent_bytes: 10 ** (n % 12), received_bytes: 7 * 10 ** ((n + 5) % 12), clock_ahead_ns: n === 7 ? "4200000000" : null,
    invalid: null, software: n % 4 === 3 ? "" : "dirsyncd 0.1.0", round_trip_ms: 0.4, seen_ns: null,
    away_s: n % 4 === 3 ? 86_400 * n : null, equal_ns: null,
    listed: { capability: "write", added_by: "here", invited: true, added_ns: ns(NOW) },
  });
  const machines = Array.from({ length: many }, (_, n) => machine(n));
  const path = (n) => (isHostile ? `${LONG}/${HOSTILE[n % HOSTILE.length]}` : `projects/2026/site-${n % 40}/page-${n}.html`);
  const problem = (n) => ({ path: path(n), text: n % 2 === 0 ? "'x.html' and 'X.html' are one name on this file system; rename one of them"
    : "permission denied: this user may not read it; change its permissions" });
  const wrong = kind === "problems" ? 10_000 : isHostile ? 7 : 0;
  const transfer = (n) => ({ path: path(n), from: [machines[1].name], bytes: 3_000_000 * (n + 1), size: 90_000_000,
    bytes_a_second: 11_000_000, seconds_left: 7 });
  const status = {
    version: "0.1.0", directory: isHostile ? `/srv/${LONG}` : "/srv/shared", state_dir: "/var/lib/dirsyncd/1", device: hex(0),
    name: "here", listen_port: 6000, broadcast_port: 5000, http: null, http_trouble: null, idle: wrong === 0, scanning: false,
    paused: false, halted: null, condition: { problems: wrong }, role: "both", local: [], not_installed: [],
    held_deletions: kind === "problems" ? 10_000 : 0, held_reverts: 0, held_unignored: 0, files: 1_000_000, directories: 81_234,
    symlinks: 12, deleted: 40, bytes: 812_345_678_901, pending: isHostile ? 12 : 0, transfers: isHostile ? [0, 1, 2].map(transfer) : [],
    uploads: isHostile ? [{ path: path(2), to: machines[2].name, bytes: 4096, size: 99_999_999 }] : [], queued_files: 0, queued_bytes: 0,
    peers: machines.filter((one, n) => n > 0 && one.linked),
    peers_not_reached: isHostile ? [{ address: `${LONG}.example:6000`, reason: "no route", text: "no route to it" }] : [],
    lacks: [], problems: Array.from({ length: Math.min(1000, wrong) }, (_, n) => problem(n)), history_bytes: 9_876_543_210, history_limit_bytes: 10_000_000_000, watches: { folders: 1234, most: 65_536, partial: false },
    disk_stalled_s: null, under_way: [], open_conflicts: isHostile ? 3 : kind === "problems" ? 1000 : 0, kept_folders: 0, left_alone: 0, ignored: 1204,
    devices: [], removed: [], this_machine: machines[0],
  };
  const side = (n, held) => ({ version: `${n}-${held}`, kind: "file", size: 1000 + held, stamp_ns: ns(NOW + held), author: hex(1),
    machine: machines[1 + (held % 2)].name, content: hex(2) });
  const conflict = (n) => ({ id: n, path: path(n), time_ns: ns(NOW), winner: side(n, 1), loser: side(n, 2), ours: null, kept: "k",
    beside: n % 3 === 2 ? `${path(n)}.conflict` : null, settled: null });
  const line = (n) => ({ id: n + 1, time_ns: ns(NOW - 40_000 * (60 - n)), kind: n % 9 === 4 ? "conflict" : "received", path: path(n),
    peer: machines[1].name, size: 1, paths: null, text: `received '${path(n)}' from ${machines[1].name} (1.2 MiB in 0.3 s)` });
  const entry = (n) => ({ path: isHostile ? HOSTILE[n % HOSTILE.length] : `file-${n}.txt`, kind: n === 1 ? "directory" : "file",
    size: 10 ** (n % 10), mode: "0644", mtime_ns: ns(NOW - n * 1_000_000), stamp_ns: ns(NOW), author: hex(n % 3), content: hex(3),
    target: null, here: n % 6 !== 5, local: n % 6 === 4, not_installed: false });
  const rows = (many_, make) => Array.from({ length: many_ }, (_, n) => make(n));
  const answers = {
    "/status": () => status,
    "/peers": () => machines,
    "/held": () => ({ held: rows(10_000, (n) => ({ path: path(n), reason: "deleted", by: "machine-1" })), deletions: 10_000, reverts: 0,
      unignored: 0, dated_ahead: 0, elsewhere: [], silent: [] }),
    "/conflicts": () => ({ conflicts: rows(Math.min(1000, status.open_conflicts), conflict) }),
    "/log": (asked) => ({ lines: asked.searchParams.get("after") === "0" ? rows(60, line) : [] }),
    "/ls": () => ({ entries: rows(isHostile ? HOSTILE.length : 40, entry), more: !isHostile }),
    "/ignores": () => ({ file: ".dirsyncignore", exists: true, text: "*.tmp\nbuild/\n", machine: machines[1].name, bad: [] }),
    "/problems": () => ({ problems: status.problems.slice(0, 1000), more: true }),
  };
  const real = window.fetch;
  window.fetch = (address, options) => {
    const asked = new URL(address, location.href);
    const found = answers[asked.pathname.replace("/api/v1", "")];
    const headers = { ETag: "\"x\"" };
    return found ? Promise.resolve(new Response(JSON.stringify(found(asked)), { headers })) : real(address, options);
  };
})();
