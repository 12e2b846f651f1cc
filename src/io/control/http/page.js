// The page of a machine: how it stands, what it needs of a person, and what happens.

import { conflicts, held } from "./deciding.js";
import { filesChanged, openFolder, startFiles } from "./files.js";
import { ignoresChanged, startIgnores } from "./ignores.js";
import { machines } from "./machines.js";
import { drawPlot, sample, startPlot } from "./plot.js";
import { follow, get, post, setToken, takeToken } from "./requests.js";
import { at, button, bytes, count, dialog, duration, el, list, named, notice, number, say, time } from "./view.js";

/** Something may be on the way without an event: it is asked for again after so long. */
const BUSY_MS = 1000;
const IDLE_MS = 30_000;
/** Events that come close together are answered by one look. */
const TOGETHER_MS = 250;
const LOG_LINES = 100;
/** Before someone asks for more. */
const LOG_SHOWN = 12;
const REASONS = 6;
const PROBLEMS = 25;

let lastLine = 0;
let lines = [];
let isLogWhole = false;
let timer = null;
let due = Infinity;

/** Looks again after so long, or sooner if that was asked for already. */
function lookIn(ms) {
  const when = performance.now() + ms;
  if (when < due) {
    due = when;
    clearTimeout(timer);
    timer = setTimeout(look, ms);
  }
}

async function look() {
  due = Infinity;
  let next = IDLE_MS;
  try {
    const status = await get("/status");
    await draw(status);
    next = isBusy(status) ? BUSY_MS : IDLE_MS;
  } catch (why) {
    if (why.status === 401) {
      denied();
      return;
    }
    say("verdict", "Not reachable");
    say("verdict-more", why.message);
    at("verdict-card").dataset.tone = "bad";
    next = 3000;
  }
  if (!document.hidden) {
    lookIn(next);
  }
}

const isBusy = (status) => status.scanning || status.pending > 0 || status.queued_files > 0
  || status.transfers.length > 0 || status.uploads.length > 0;

async function draw(status) {
  at("content").hidden = false;
  at("token-needed").hidden = true;
  document.title = `${status.name}: dirsync`;
  say("machine-name", status.name);
  say("folder", status.directory);
  sample(status);
  const { tone, text, more } = verdict(status);
  at("verdict-card").dataset.tone = tone;
  say("verdict", text);
  say("verdict-more", more);
  progress(status);
  list(at("reasons"), reasons(status), (reason) => reason.text, reasonRow);
  list(at("sums"), sums(status), ([name]) => name, ([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  problems(status);
  transfers(status);
  facts(status);
  drawPlot(at("plot"));
  const parts = [machines(status), held(status), conflicts(status), log()];
  for (const part of await Promise.allSettled(parts)) {
    if (part.status === "rejected") {
      notice(part.reason.message, "bad");
    }
  }
}

const heldPaths = (status) => status.held_deletions + status.held_reverts + status.held_unignored;

/** The status names the first of them alone. */
const troubled = (status) => Math.max(status.condition.problems ?? 0, status.problems.length);

/** One sentence, and its tone: it is good only where nothing at all is left to do. */
function verdict(status) {
  const others = status.peers.filter((peer) => !peer.in_sync);
  if (status.halted) {
    return { tone: "bad", text: "Stopped", more: status.halted };
  }
  if (status.disk_stalled_s) {
    return { tone: "bad", text: "The disk does not answer", more: `for ${duration(status.disk_stalled_s)} by now` };
  }
  if (heldPaths(status) > 0) {
    const paths = count(heldPaths(status), "change is", "changes are");
    return { tone: "warn", text: `${paths} held back`, more: "Say below whether they are meant." };
  }
  if (status.problems.length > 0) {
    const paths = count(troubled(status), "path needs", "paths need");
    return { tone: "warn", text: `${paths} attention`, more: "The rest goes on." };
  }
  if (status.open_conflicts > 0) {
    const paths = count(status.open_conflicts, "conflict", "conflicts");
    return { tone: "warn", text: `${paths} to decide`, more: "Nothing is lost: both contents are kept." };
  }
  if (status.paused) {
    return { tone: "warn", text: "Paused", more: "Nothing is sent or received." };
  }
  if (status.scanning) {
    return { tone: "wait", text: "Looking through the folder", more: "What changed meanwhile is found." };
  }
  if (isBusy(status)) {
    return { tone: "wait", text: "Syncing", more: `${count(status.pending, "path is", "paths are")} to come` };
  }
  if (status.peers.length === 0) {
    return { tone: "warn", text: "No other machine is linked", more: "Changes reach the others when they are back." };
  }
  if (others.length > 0) {
    return { tone: "wait", text: "Not all machines have everything", more: some(others.map(peerState)).join("; ") };
  }
  if (!status.idle) {
    return { tone: "wait", text: "Syncing", more: "" };
  }
  const local = status.condition.local ?? 0;
  const more = local > 0 ? `${count(local, "change stays", "changes stay")} on this machine alone` : "";
  return { tone: "good", text: `In sync with ${count(status.peers.length, "machine", "machines")}`, more };
}

/** The first of them, and how many more. */
const some = (all, most = 3, more = (left) => `and ${number(left)} more`) =>
  (all.length <= most ? all : [...all.slice(0, most - 1), more(all.length - most + 1)]);

const peerState = (peer) => `${peer.name}: ${peer.state}`;

/** What keeps it from being in sync, a line each, with what to do about it. */
function reasons(status) {
  const found = [];
  if (status.paused) {
    found.push({ text: "Syncing is paused here.", label: "Resume", act: "resume" });
  }
  if (heldPaths(status) > 0) {
    found.push({ text: `${count(heldPaths(status), "change waits", "changes wait")} for your word.`, label: "Show", to: "held" });
  }
  if (status.open_conflicts > 0) {
    found.push({ text: `${count(status.open_conflicts, "conflict is", "conflicts are")} not decided.`, label: "Show", to: "conflicts" });
  }
  if (status.problems.length > 0) {
    found.push({ text: `${count(troubled(status), "path needs", "paths need")} attention.`, label: "Show", to: "problems" });
  }
  const behind = status.peers.filter((one) => !one.in_sync).map((peer) => `${peer.name}: ${peer.state}.`);
  found.push(...some(behind, REASONS, (left) => `${number(left)} more machines are not in sync.`).map((text) => ({ text })));
  for (const address of status.peers_not_reached) {
    found.push({ text: `${address.address} is not reached: ${address.text}.` });
  }
  if (status.peers.length === 0) {
    found.push({ text: "No other machine is linked.", label: "Add a machine …", act: "invite" });
  }
  for (const lack of status.lacks) {
    found.push({ text: `This folder's file system keeps ${lack}.` });
  }
  return found;
}

const ACTS = {
  resume: () => post("/resume"),
  invite: async () => at("invite").click(),
};

function reasonRow({ text, label, act, to }) {
  const go = async () => {
    if (to) {
      at(to).scrollIntoView();
      at(to).querySelector("button")?.focus({ preventScroll: true });
    } else {
      await ACTS[act]();
      lookIn(0);
    }
  };
  return el("li", { "data-key": text }, named(text), label ? button(label, go) : null);
}

function progress(status) {
  const coming = status.transfers.reduce((sum, one) => sum + one.size - one.bytes, 0) + status.queued_bytes;
  at("progress").hidden = coming === 0;
  if (coming > 0) {
    at("progress-bar").max = Math.max(status.bytes, coming);
    at("progress-bar").value = Math.max(0, status.bytes - coming);
    const rate = status.transfers.reduce((sum, one) => sum + one.bytes_a_second, 0);
    const left = rate > 0 ? `, about ${duration(coming / rate)} left` : "";
    say("progress-text", `${bytes(coming)} in ${count(status.queued_files + status.transfers.length, "file", "files")} to come${left}`);
  }
}

function sums(status) {
  return [
    ["Files", number(status.files)],
    ["Folders", number(status.directories)],
    ["Size", bytes(status.bytes)],
    ["To come", status.pending === 0 ? "nothing" : count(status.pending, "path", "paths")],
    ["Ignored", number(status.ignored)],
    ["History", bytes(status.history_bytes)],
  ];
}

function problems(status) {
  at("problems").hidden = status.problems.length === 0;
  list(at("problem-list"), status.problems.slice(0, PROBLEMS), (problem) => problem.path ?? "", ({ path, text }) =>
    el("tr", { "data-key": path ?? "" }, el("td", {}, path ? folderLink(path) : "the folder"), el("td", {}, named(text))));
  const more = troubled(status) - Math.min(PROBLEMS, status.problems.length);
  say("problems-more", more > 0 ? `and ${number(more)} more; 'dirsync status' names all of them` : "");
}

const folderLink = (path) => button(named(path), () => openFolder(path.split("/").slice(0, -1).join("/")), "link");

function transfers(status) {
  const coming = status.transfers.map((one) => ({ ...one, way: "from", with: one.from.join(", ") }));
  const going = status.uploads.map((one) => ({ ...one, way: "to", with: one.to }));
  const all = [...coming, ...going];
  at("transfers").hidden = all.length === 0;
  list(at("transfer-list"), all, (one) => `${one.way} ${one.with} ${one.path}`, (one) => el("tr", {},
    el("td", {}, named(one.path)),
    el("td", {}, `${one.way} `, named(one.with)),
    el("td", {},
      el("progress", { max: one.size, value: one.bytes, "aria-label": `Progress of ${one.path}` }),
      el("span", { className: "sub" }, `${bytes(one.bytes)} of ${bytes(one.size)}`)),
    el("td", { className: "number wide" }, one.bytes_a_second === undefined ? "" : `${bytes(one.bytes_a_second)}/s`)));
}

async function log() {
  const more = await get(`/log?n=${LOG_LINES}&after=${lastLine}`);
  if (more.lines.length > 0) {
    lastLine = Math.max(...more.lines.map((line) => line.id));
    lines = [...lines, ...more.lines].slice(-LOG_LINES);
  }
  drawLog();
}

function drawLog() {
  const shown = lines.toReversed().slice(0, isLogWhole ? LOG_LINES : LOG_SHOWN);
  at("log-more").hidden = shown.length === lines.length;
  list(at("log"), shown, (line) => line.id, (line) => el("tr", {},
    el("td", {}, time(line.time_ns)), el("td", { className: tone(line.kind) }, named(line.text))));
}

const LOUD = new Set(["conflict", "problem", "halted", "held", "many_deleted", "suspect", "bad_source", "silent", "clock",
  "read_wrongly", "invalid_entries"]);
const tone = (kind) => (LOUD.has(kind) ? "warn" : "");

function watches({ folders, most, partial }) {
  const of = most === null ? "" : ` of at most ${number(most)}`;
  return `${count(folders, "folder", "folders")}${of}${partial ? "; the others are walked every 60 s" : ""}`;
}

function facts(status) {
  const limit = status.history_limit_bytes === null ? "" : ` of at most ${bytes(status.history_limit_bytes)}`;
  const all = [
    ["Folder", status.directory],
    ["State", status.state_dir],
    ["Device", status.device],
    ["Version", status.version],
    ["Ports", `TCP ${status.listen_port}, UDP ${status.broadcast_port}`],
    ["Role", status.role],
    ["History", bytes(status.history_bytes) + limit],
    ["Watches", watches(status.watches)],
    ["Rate limit", status.limit_bytes_a_second ? `${bytes(status.limit_bytes_a_second)}/s` : "none"],
    ["Left alone", `${number(status.left_alone)} sockets, fifos and devices`],
  ];
  list(at("facts"), all.flatMap(([name, value]) => [{ name }, { name, value }]), ({ name, value }) =>
    `${name} ${value === undefined}`, ({ name, value }) =>
    (value === undefined ? el("dt", {}, name) : el("dd", {}, named(value))));
  const pausing = status.paused ? ["Resume", "/resume"] : ["Pause", "/pause"];
  const actions = [
    { label: pausing[0], path: pausing[1] },
    { label: "Scan", path: "/scan", body: {}, says: "The whole folder is looked at." },
    { label: "Verify all files", path: "/verify", body: {}, says: "All files are hashed again; the changes say what is found." },
    { label: "Role …", ask: chooseRole, now: status.role },
    { label: "Rate limit …", ask: chooseLimit, now: status.limit_bytes_a_second ?? null },
  ];
  list(at("machine-actions"), actions, (action) => action.label, (action) => button(action.label, async () => {
    if (action.ask) {
      action.ask(action.now);
      return;
    }
    await post(action.path, action.body);
    notice(action.says ?? "Done.");
    lookIn(0);
  }));
}

function chooseRole(role) {
  const choice = el("select", { id: "role-choice" }, ["both", "receive-only", "send-only"].map((word) =>
    el("option", { value: word, selected: word === role }, word)));
  const label = el("label", { htmlFor: "role-choice" }, "What this machine does with changes: ");
  const says = el("p", { className: "quiet" },
    "receive-only keeps its own changes to itself; send-only does not install those of others.");
  dialog("Role", [el("p", {}, label, choice), says], [["Set", async () => {
    const answer = await post("/role", { role: choice.value, yes: false });
    if (answer.needs_yes) {
      throw new Error(`This would announce ${number(answer.local)} local changes or install ${number(answer.not_installed)} `
        + "that were left out. 'dirsync role' says more, and does it.");
    }
    lookIn(0);
  }, "main"]]);
}

function chooseLimit(now) {
  const input = el("input", { id: "limit", type: "number", min: "64", step: "1", value: now === null ? "" : now / 1024 });
  const label = el("label", { htmlFor: "limit" }, "Send at most so many KiB a second: ");
  const says = el("p", { className: "quiet" }, "To each machine, and to all together; empty is no limit. It stays over a new start.");
  dialog("Rate limit", [el("p", {}, label, input), says], [["Set", async () => {
    await post("/limit", { bytes_a_second: input.value === "" ? null : Math.round(Number(input.value) * 1024) });
    lookIn(0);
  }, "main"]]);
}

function denied() {
  at("content").hidden = true;
  at("token-needed").hidden = false;
  at("token").focus();
}

function begin() {
  lookIn(0);
  startFiles();
  startIgnores();
  // Without it, the plot begins now.
  get("/traffic").then(startPlot, () => {});
  follow({
    event(name, data) {
      if (name === "reset") {
        filesChanged(null);
        ignoresChanged(null);
      } else if (name.startsWith("file_")) {
        filesChanged(data.path);
        filesChanged(data.from);
        ignoresChanged(data.path);
      }
      lookIn(TOGETHER_MS);
    },
    state(isLive) {
      at("live").dataset.state = isLive ? "on" : "off";
      say("live", isLive ? "live" : "not connected");
      lookIn(TOGETHER_MS);
    },
    denied,
  });
}

at("log-more").addEventListener("click", () => {
  isLogWhole = true;
  drawLog();
  at("log").closest("table").focus({ preventScroll: true });
});
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(at("token").value.trim());
  at("token").value = "";
  begin();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    lookIn(0);
  }
});
if (takeToken()) {
  begin();
} else {
  denied();
}
