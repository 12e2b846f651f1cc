// What waits for a person: held changes, and conflicts.

import { content, get, post, query } from "./requests.js";
import { at, button, bytes, count, dialog, el, list, named, notice, number, say, time } from "./view.js";

const SHOWN = 200;
const CONFLICTS = 10;

export async function held(status) {
  const many = status.held_deletions + status.held_reverts + status.held_unignored;
  at("held").hidden = many === 0;
  if (many === 0) {
    return;
  }
  const all = await get("/held");
  const paths = all.held.slice(0, SHOWN);
  const parts = [[all.deletions, "deletion", "deletions"], [all.reverts, "file that went back to older contents",
    "files that went back to older contents"], [all.unignored, "path that was ignored", "paths that were ignored"],
    [all.dated_ahead, "change dated ahead", "changes dated ahead"]];
  const said = parts.filter(([number_]) => number_ > 0).map(([number_, one, more]) => count(number_, one, more));
  at("held-text").textContent = `${said.join(", ")}. Nothing of it is done before you say that it is meant.`;
  list(at("held-actions"), ["confirm", "undo"], (word) => word, (word) => (word === "confirm"
    ? button("It is meant: go ahead …", () => sure("Let it go ahead?", "What is held is done on all machines. History keeps "
      + "what is deleted.", "Go ahead", "/confirm"), "danger")
    : button("Not meant: undo …", () => sure("Take it back?", "What went comes back, from this disk, other machines or "
      + "history.", "Undo", "/undo", { dry_run: false }), "main")));
  const rows = all.held.length > SHOWN ? [...paths, { path: null, more: all.held.length - SHOWN }] : paths;
  list(at("held-list"), rows, (row) => row.path ?? "", ({ path, reason, by, more }) => (path === null
    ? el("li", { className: "quiet" }, `and ${number(more)} more`)
    : el("li", {}, named(path), el("span", { className: "quiet" }, ` ${reason}${by ? ` by ${by}` : ""}`))));
}

function sure(title, says, label, path, body) {
  dialog(title, el("p", {}, says), [[label, async () => {
    await post(path, body);
    notice("Done.");
  }, path === "/confirm" ? "danger" : "main"]]);
}

export async function conflicts(status) {
  at("conflicts").hidden = status.open_conflicts === 0;
  if (status.open_conflicts === 0) {
    return;
  }
  const all = await get("/conflicts");
  list(at("conflict-list"), all.conflicts.slice(0, CONFLICTS), (conflict) => conflict.id, card);
  const more = status.open_conflicts - Math.min(CONFLICTS, all.conflicts.length);
  say("conflicts-more", more > 0 ? `and ${number(more)} more, which follow once these are decided` : "");
}

function card(conflict) {
  const diff = el("div", {});
  const showing = button("Show the difference", async () => diff.replaceChildren(await difference(conflict)));
  const keep = (choice, label, kind) => button(label, async () => {
    await post("/conflicts/keep", { path: conflict.path, choice });
    notice("Decided.");
  }, kind);
  return el("article", { className: "conflict", "data-key": String(conflict.id) },
    el("h3", {}, named(conflict.path)),
    el("div", { className: "sides" },
      side("In the folder", conflict.winner, keep("winner", "Keep this one", "main")),
      side("Kept in history", conflict.loser, keep(conflict.loser.version, "Take this one instead"))),
    conflict.beside ? el("p", { className: "quiet" }, "A copy is beside it: ", named(conflict.beside)) : null,
    el("div", { className: "actions" }, showing), diff);
}

function side(title, entry, action) {
  return el("div", {},
    el("strong", {}, title),
    el("p", {}, named(entry.machine)),
    el("p", { className: "quiet" }, `${time(entry.stamp_ns)}, ${entry.kind === "file" ? bytes(entry.size) : entry.kind}`),
    el("div", { className: "actions" }, action));
}

const IMAGE = /\.(png|jpe?g|gif|webp|avif)$/i;
const IMAGE_BYTES = 16 << 20;

async function difference(conflict) {
  const sides = [conflict.winner, conflict.loser];
  if (IMAGE.test(conflict.path) && sides.every((one) => one.kind === "file" && one.size <= IMAGE_BYTES)) {
    return pictures(conflict);
  }
  const found = await get(`/conflicts/diff${query({ path: conflict.path, version: conflict.loser.version })}`);
  if (found.lines.length === 0) {
    return el("p", { className: "quiet" }, found.note ?? "Both are the same.");
  }
  const kinds = { "+": "plus", "-": "minus" };
  const lines = found.lines.map(({ sign, text }) => el("div", { className: kinds[sign] ?? "" }, `${sign} ${text}`));
  return el("div", { className: "diff mono", tabIndex: 0, role: "region", "aria-label": "Difference" }, lines);
}

async function pictures(conflict) {
  const past = await get(`/history${query({ path: conflict.path })}`);
  const lost = past.kept.find((one) => one.name === conflict.kept);
  const versions = [["In the folder", {}], ["Kept in history", lost ? { version: lost.time_ns } : null]];
  const shown = versions.filter(([, values]) => values !== null).map(async ([title, values]) => {
    const address = URL.createObjectURL(await content(conflict.path, values));
    const image = el("img", { src: address, alt: `${title}: ${conflict.path}` });
    image.addEventListener("load", () => URL.revokeObjectURL(address));
    return el("div", {}, el("strong", {}, title), image);
  });
  return el("div", { className: "sides" }, await Promise.all(shown));
}
