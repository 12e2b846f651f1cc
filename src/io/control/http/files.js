// The folder's files, and what was in its history.

import { content, get, post, put, query, remove } from "./requests.js";
import { at, button, bytes, count, dialog, el, list, named, notice, time } from "./view.js";

/** What is larger than that is not gathered in the browser's memory first. */
const GATHERED_BYTES = 1 << 30;
/** A browser takes long to lay out a table: of a folder that was just opened, so many rows come first. */
const FIRST_ROWS = 100;
/** A folder that changes all the time is read this often (ms). */
const AGAIN_MS = 1000;

let folder = "";
let drawn = null;
let entries = [];
let more = false;
let isShown = false;
let again = null;
let asked = 0;
let names = new Map();

/** Reads the folder once it is looked at. */
export function startFiles() {
  const seen = new IntersectionObserver((found) => {
    if (found.some((one) => one.isIntersecting) && !isShown) {
      isShown = true;
      read().catch((why) => notice(why.message, "bad"));
    }
  }, { rootMargin: "400px" });
  seen.observe(at("files"));
  at("upload").addEventListener("change", () => {
    upload([...at("upload").files]);
    at("upload").value = "";
  });
  const mark = (isOver) => at("drop").classList.toggle("over", isOver);
  at("files").addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  at("files").addEventListener("dragleave", () => mark(false));
  at("files").addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    upload([...event.dataTransfer.files]);
  });
  at("files-more").addEventListener("click", () => read(entries.at(-1)?.path).catch((why) => notice(why.message, "bad")));
}

/** One after the other, into the folder that is shown. */
async function upload(files) {
  for (const file of files) {
    const name = file.name.replaceAll("\\", "\\\\");
    const path = folder === "" ? name : `${folder}/${name}`;
    try {
      await uploadOne(path, file);
    } catch (why) {
      notice(`${file.name}: ${why.message}`, "bad");
    }
  }
}

async function uploadOne(path, file) {
  if (file.size > GATHERED_BYTES) {
    throw new Error(`it is ${bytes(file.size)}: send it with curl, as docs/api.md shows`);
  }
  try {
    await put(path, file);
    notice(`${path} is here.`);
  } catch (why) {
    if (why.status !== 412) {
      throw why;
    }
    const { entry } = await get(`/why${query({ path })}`);
    dialog(`Replace ${nameOf(path)}?`, el("p", {}, "It is there already. What it holds now goes to history."), [
      ["Replace", async () => {
        await put(path, file, entry.content);
        notice(`${path} is replaced.`);
      }, "danger"],
    ]);
  }
}

/** A path changed, or with `null` any may have. */
export function filesChanged(path) {
  const parent = path?.split("/").slice(0, -1).join("/");
  if (isShown && path !== undefined && (path === null || parent === folder) && again === null) {
    again = setTimeout(() => {
      again = null;
      read().catch((why) => notice(why.message, "bad"));
    }, AGAIN_MS);
  }
}

export async function openFolder(path) {
  folder = path;
  isShown = true;
  await read();
  at("files").scrollIntoView();
}

async function read(after) {
  asked += 1;
  const mine = asked;
  const values = { path: folder || undefined, after, children: true };
  const [page, machines] = await Promise.all([get(`/ls${query(values)}`).catch(missing), get("/peers?all=true")]);
  if (mine !== asked) {
    return;
  }
  names = new Map(machines.map((machine) => [machine.device, machine.name]));
  const found = page.entries.filter((entry) => entry.path !== folder);
  entries = after === undefined ? found : [...entries, ...found];
  more = page.more;
  draw();
}

/** A folder that went is empty. */
function missing(why) {
  if (why.status === 404) {
    return { entries: [], more: false };
  }
  throw why;
}

const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);

function draw() {
  crumbs();
  const live = entries.filter((entry) => entry.kind !== "deleted");
  const rank = (entry) => (entry.kind === "directory" ? 0 : 1);
  const sorted = live.toSorted((a, b) => rank(a) - rank(b) || (a.path < b.path ? -1 : 1));
  const show = (some) => list(at("file-list"), some, (entry) => entry.path, row);
  const [isNew, mine] = [drawn !== folder, asked];
  drawn = folder;
  if (isNew && sorted.length > FIRST_ROWS) {
    show(sorted.slice(0, FIRST_ROWS));
    requestAnimationFrame(() => setTimeout(() => mine === asked && show(sorted)));
  } else {
    show(sorted);
  }
  at("files-empty").hidden = sorted.length > 0;
  at("files-more").hidden = !more;
}

function crumbs() {
  const parts = folder === "" ? [] : folder.split("/");
  const steps = [["All files", ""], ...parts.map((part, n) => [part, parts.slice(0, n + 1).join("/")])];
  const shown = steps.flatMap(([label, path], n) => [
    n > 0 ? el("span", { className: "sep" }, "/") : null,
    path === folder ? el("strong", {}, named(label)) : button(named(label), () => openFolder(path), "link"),
  ]);
  at("crumbs").replaceChildren(...shown.filter(Boolean));
}

function row(entry) {
  const isFolder = entry.kind === "directory";
  const name = named(nameOf(entry.path));
  const open = isFolder ? button(name, () => openFolder(entry.path), "link") : button(name, () => details(entry), "link");
  const icon = isFolder ? "▸ " : entry.kind === "symlink" ? "→ " : "";
  const [word, tone] = state(entry);
  const about = isFolder ? button("details", () => details(entry), "link small") : null;
  about?.setAttribute("aria-label", `details of ${entry.path}`);
  return el("tr", { "data-key": entry.path },
    el("td", {}, el("span", { "aria-hidden": "true", className: "quiet" }, icon), open, " ", about),
    el("td", { className: "number" }, entry.kind === "file" ? bytes(entry.size) : ""),
    el("td", { className: "wide when" }, isFolder ? "" : time(entry.mtime_ns.startsWith("-") ? "0" : entry.mtime_ns)),
    el("td", { className: "wide" }, named(names.get(entry.author) ?? entry.author.slice(0, 8))),
    el("td", { className: `when ${tone}` }, word));
}

function state(entry) {
  if (entry.local) {
    return ["local", "warn"];
  }
  if (entry.not_installed) {
    return ["left out", "quiet"];
  }
  return entry.here ? ["synced", ""] : ["to come", "warn"];
}

async function details(entry) {
  const [why, past] = await Promise.all([get(`/why${query({ path: entry.path })}`), get(`/history${query({ path: entry.path })}`)]);
  const holders = el("p", { className: "quiet" }, why.holders.length === 0 ? "No linked machine has this version."
    : `On ${count(why.holders.length, "linked machine", "linked machines")}: ${why.holders.join(", ")}.`);
  const kept = past.kept.slice(0, 100).map((one) => el("tr", {},
    el("td", {}, time(one.time_ns)),
    el("td", {}, one.reason, entry.kind === "directory" ? el("span", { className: "sub" }, named(one.path)) : null),
    el("td", { className: "number" }, bytes(one.size)),
    el("td", {}, button("Restore", async () => {
      const done = await post("/restore", { path: one.path, at_ns: one.time_ns, dry_run: false });
      notice(done.failed.length === 0 ? `${one.path} is back.` : done.failed[0].text, done.failed.length === 0 ? "" : "bad");
    }))));
  const table = kept.length === 0 ? el("p", { className: "quiet" }, "Nothing of it is in history.")
    : el("table", {}, el("thead", {}, el("tr", {}, ["Time", "Why", "Size", ""].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, kept));
  const isFile = entry.kind === "file" && entry.here;
  const download = isFile ? button("Download", () => save(entry), "main") : null;
  const rename = button("Rename …", async () => askName(entry));
  const removal = entry.kind === "directory" ? null : button("Delete …", async () => confirmRemoval(entry), "danger");
  dialog(nameOf(entry.path), [
    el("p", {}, named(why.text)), holders,
    el("div", { className: "actions" }, [download, rename, removal].filter(Boolean)),
    el("h3", {}, "History"), table,
  ]);
}

async function save(entry) {
  if (entry.size > GATHERED_BYTES) {
    throw new Error(`This file is ${bytes(entry.size)}: fetch it with curl, as docs/api.md shows.`);
  }
  const address = URL.createObjectURL(await content(entry.path));
  el("a", { href: address, download: nameOf(entry.path) }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function askName(entry) {
  const input = el("input", { id: "new-name", value: entry.path, size: 48, spellcheck: false });
  dialog("Rename", el("p", {}, el("label", { htmlFor: "new-name" }, "New path: "), input), [["Rename", async () => {
    const to = input.value;
    await post("/move", { from: entry.path, to, content: entry.content ?? undefined });
    notice(`It is ${to} now.`);
  }, "main"]]);
}

function confirmRemoval(entry) {
  dialog(`Delete ${nameOf(entry.path)}?`, el("p", {}, "It goes on all machines. History of this machine keeps it."), [
    ["Delete", async () => {
      await remove(entry.path, entry.content);
      notice(`${entry.path} is deleted.`);
    }, "danger"],
  ]);
}
