// Asking the API: requests with the token of this tab, and the stream of events.

const KEPT = "dirsync-token";
const PREFIX = "/api/v1";
/** A stream on which nothing comes for so long is dead: the daemon says something every 15 s. */
const QUIET_MS = 40_000;

/** A refusal. `message` is a sentence for people. */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

let token = sessionStorage.getItem(KEPT);
const kept = new Map();

/** The address of this page may hold the token. It is in no history and no bookmark after this. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    setToken(given);
    history.replaceState(null, "", location.pathname);
  }
  return token !== null;
}

export function setToken(given) {
  token = given;
  kept.clear();
  sessionStorage.setItem(KEPT, given);
}

function headers(more = {}) {
  return { Authorization: `Bearer ${token}`, ...more };
}

async function answered(response) {
  if (response.ok) {
    return response;
  }
  let detail = `the daemon answers ${response.status}`;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // It said no more.
  }
  throw new Refusal(response.status, detail);
}

async function send(path, options) {
  try {
    return await fetch(PREFIX + path, { cache: "no-store", ...options });
  } catch {
    throw new Refusal(0, "the daemon does not answer; is it running?");
  }
}

/** The query of these values; what is missing is left out. */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null);
  return given.length === 0 ? "" : `?${new URLSearchParams(given)}`;
}

/** What `path` answers. What has not changed is not read again. */
export async function get(path) {
  return (await getTagged(path)).value;
}

/** The same, with its tag. */
export async function getTagged(path) {
  const known = kept.get(path);
  const response = await send(path, { headers: headers(known ? { "If-None-Match": known.tag } : {}) });
  if (known && response.status === 304) {
    return known;
  }
  const value = await (await answered(response)).json();
  const tag = response.headers.get("ETag");
  if (tag) {
    kept.set(path, { tag, value });
  }
  return { value, tag };
}

export async function post(path, body, signal) {
  const request = { method: "POST", signal, headers: headers({ "Content-Type": "application/json" }) };
  const response = await send(path, body === undefined ? { ...request, headers: headers() }
    : { ...request, body: JSON.stringify(body) });
  return (await answered(response)).json();
}

/** Writes what has a tag, if it is what is there; its new tag. */
export async function putText(path, body, tag) {
  const request = { method: "PUT", headers: headers({ "Content-Type": "application/json", "If-Match": tag }) };
  const response = await answered(await send(path, { ...request, body: JSON.stringify(body) }));
  kept.delete(path);
  return response.headers.get("ETag");
}

/** The address of a content; the path is as the API says it. */
export function contentPath(path) {
  return `/content/${path.split("/").map(encodeURIComponent).join("/")}`;
}

/** The bytes of a content. */
export async function content(path, values = {}) {
  const response = await send(contentPath(path) + query(values), { headers: headers() });
  return (await answered(response)).blob();
}

/**
 * Makes `file` what is at `path`. With `tag` it replaces that content alone, else nothing at all.
 * Its hash goes ahead of it, so that it is there whole or not at all.
 */
export async function put(path, file, tag) {
  if (!crypto.subtle) {
    throw new Refusal(0, "this browser hashes only where the page is of this machine, or by HTTPS (--http-tls)");
  }
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  const sha256 = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const more = tag ? { "If-Match": `"${tag}"` } : { "If-None-Match": "*" };
  const request = { method: "PUT", headers: headers(more), body: file };
  return (await answered(await send(contentPath(path) + query({ sha256 }), request))).json();
}

export async function remove(path, tag) {
  const more = tag ? { "If-Match": `"${tag}"` } : {};
  await answered(await send(contentPath(path), { method: "DELETE", headers: headers(more) }));
}

/**
 * Follows what happens for as long as the page is open. `on.event(name, data)` is called for each,
 * `on.state(isLive)` when that begins or ends, `on.denied()` where the token is none.
 */
export async function follow(on) {
  let last = null;
  let wait = 500;
  for (;;) {
    try {
      for await (const event of stream(last)) {
        last = event.id ?? last;
        wait = 500;
        on.state(true);
        on.event(event.name, event.data);
      }
    } catch (why) {
      if (why.status === 401) {
        on.denied();
        return;
      }
    }
    on.state(false);
    await new Promise((done) => setTimeout(done, wait));
    wait = Math.min(wait * 2, 15_000);
  }
}

async function* stream(last) {
  const ending = new AbortController();
  let timer = setTimeout(() => ending.abort(), QUIET_MS);
  try {
    const more = last ? { "Last-Event-ID": last } : {};
    const response = await answered(await send("/events", { headers: headers(more), signal: ending.signal }));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) {
        return;
      }
      clearTimeout(timer);
      timer = setTimeout(() => ending.abort(), QUIET_MS);
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block);
        if (event) {
          yield event;
        }
      }
    }
  } finally {
    clearTimeout(timer);
    ending.abort();
  }
}

/** One event; `null` for a comment. */
function parsed(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const at = line.indexOf(": ");
    if (at > 0) {
      fields[line.slice(0, at)] = line.slice(at + 2);
    }
  }
  return fields.data ? { name: fields.event, id: fields.id, data: JSON.parse(fields.data) } : null;
}
