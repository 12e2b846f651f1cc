// The ignore patterns: the text, what other ones would change, and writing them.

import { get, getTagged, post, putText } from "./requests.js";
import { at, bytes, count, el, list, named, notice, number, say } from "./view.js";

const FILE = ".dirsyncignore";
/** Who types is not asked about until they rest for so long (ms). */
const REST_MS = 500;

let written = null;
let tag = null;
let timer = null;
let asking = null;
/** Why saving was refused: until something else is typed. */
let refused = "";
/** The patterns are others' by now, and what was typed here starts from older ones. */
let isStale = false;

const area = () => at("ignores-text");
const isChanged = () => written !== null && area().value !== written;

/** Shows the patterns once they are looked at. */
export function startIgnores() {
  const seen = new IntersectionObserver((found) => {
    if (found.some((one) => one.isIntersecting) && written === null) {
      read(false);
    }
  }, { rootMargin: "400px" });
  seen.observe(at("ignores"));
  area().addEventListener("input", () => {
    refused = "";
    trouble();
    buttons();
    clearTimeout(timer);
    timer = setTimeout(preview, REST_MS);
  });
  at("ignores-save").addEventListener("click", save);
  at("ignores-revert").addEventListener("click", () => read(true));
}

/** The file of the patterns changed, or with `null` any may have. What was typed here stays. */
export function ignoresChanged(path) {
  if ((path !== null && path !== FILE) || written === null) {
    return;
  }
  if (isChanged()) {
    get("/ignores").then(({ text }) => {
      isStale = text !== written && text !== area().value;
      trouble();
    }, () => {});
  } else {
    read(false);
  }
}

/** What was typed since is thrown away only where that is `meant`. */
async function read(meant) {
  try {
    const { value, tag: known } = await getTagged("/ignores");
    if (isChanged() && !meant) {
      return;
    }
    [written, tag] = [value.text, known];
    if (area().value !== value.text) {
      area().value = value.text;
    }
    [refused, isStale] = ["", false];
    badLines(value.bad);
    say("ignores-by", value.exists ? `${value.machine ? `Last changed by ${value.machine}. ` : ""}It is synced as a file.`
      : "There is no such file yet; saving makes it.");
    at("ignores-result").hidden = true;
  } catch (why) {
    refused = why.message;
  }
  trouble();
  buttons();
}

function buttons() {
  at("ignores-save").disabled = !isChanged();
  at("ignores-revert").disabled = !isChanged();
}

async function save() {
  at("ignores-save").disabled = true;
  try {
    const text = area().value;
    tag = await putText("/ignores", { text }, tag);
    written = text;
    asking?.abort();
    clearTimeout(timer);
    [refused, isStale] = ["", false];
    badLines([]);
    at("ignores-result").hidden = true;
    notice("The patterns are saved, and go to the other machines.");
  } catch (why) {
    isStale ||= why.status === 412;
    refused = why.status === 412 ? `${why.message}: Revert shows the new text; copy yours first.` : why.message;
  }
  trouble();
  buttons();
}

async function preview() {
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  at("ignores-result").hidden = !isChanged();
  if (!isChanged()) {
    return;
  }
  say("ignores-summary", "Looking what this would change …");
  at("ignores-examples").replaceChildren();
  try {
    const found = await post("/ignores/preview", { text: area().value }, mine.signal);
    show(found);
  } catch (why) {
    if (!mine.signal.aborted) {
      say("ignores-summary", why.message);
    }
  }
}

function show({ newly_ignored: less, newly_synced: more, bad, seen, cut }) {
  badLines(bad);
  const said = [];
  if (less.paths > 0) {
    said.push(`${count(less.paths, "path", "paths")} (${bytes(less.bytes)}) would not be synced any more, and stay where they are.`);
  }
  if (more.paths > 0) {
    said.push(`${count(more.paths, "path", "paths")} (${bytes(more.bytes)}) would be synced again.`);
  }
  if (said.length === 0) {
    said.push("Nothing that is known changes.");
  }
  if (cut) {
    said.push(`Only the first ${number(seen)} paths were looked at.`);
  }
  say("ignores-summary", said.join(" "));
  const rows = [...examples("not synced", less), ...examples("synced", more)];
  at("ignores-examples").hidden = rows.length === 0;
  list(at("ignores-examples"), rows, ({ word, path }) => `${word} ${path}`, ({ word, path }) =>
    el("li", {}, named(path), el("span", { className: "quiet" }, ` ${word}`)));
}

const examples = (word, { examples: paths }) => paths.map((path) => ({ word, path }));

function badLines(bad) {
  at("ignores-bad").hidden = bad.length === 0;
  list(at("ignores-bad"), bad, (one) => String(one.line), ({ line, text, why }) =>
    el("li", {}, `Line ${line} is no pattern: `, named(text), ` (${why})`));
}

function trouble() {
  const stale = isStale ? "The patterns were changed meanwhile, elsewhere. Revert shows the new ones." : "";
  at("ignores-trouble").hidden = refused === "" && stale === "";
  say("ignores-trouble", refused || stale);
}
