// What all parts of the page share: elements, numbers as people read them, dialogs and notices.
// Text of others is only ever set as text, never as HTML.

export const at = (id) => document.getElementById(id);

/** An element. `facts` are properties, or attributes where there is no such property. */
export function el(name, facts = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(facts)) {
    if (key in made) {
      made[key] = value;
    } else {
      made.setAttribute(key, value);
    }
  }
  made.append(...inside.flat().filter((part) => part !== null && part !== undefined));
  return made;
}

/** A name or path, which keeps the direction of its letters to itself. */
export const named = (text) => el("bdi", {}, text);

export function button(label, act, kind = "") {
  const made = el("button", { type: "button", className: kind }, label);
  made.addEventListener("click", async () => {
    made.disabled = true;
    try {
      await act();
    } catch (why) {
      notice(why.message, "bad");
    } finally {
      made.disabled = false;
    }
  });
  return made;
}

/** Sets the text only where it differs, so that nothing is read out twice. */
export function say(id, text) {
  if (at(id).textContent !== text) {
    at(id).textContent = text;
  }
}

const shown = new WeakMap();

/**
 * Shows `items` in `place`, each as `make` draws it. What has not changed stays the same element,
 * so that focus and selection stay, too.
 */
export function list(place, items, keyOf, make) {
  const before = shown.get(place) ?? new Map();
  const now = new Map();
  const drawn = items.map((item) => {
    const [key, text] = [keyOf(item), JSON.stringify(item)];
    const known = before.get(key);
    const element = known && known.text === text ? known.element : make(item);
    now.set(key, { text, element });
    return element;
  });
  shown.set(place, now);
  const isSame = place.children.length === drawn.length && drawn.every((one, n) => place.children[n] === one);
  if (!isSame) {
    const focused = document.activeElement;
    const key = focused?.closest?.("[data-key]")?.dataset.key;
    place.replaceChildren(...drawn);
    if (focused && place.contains(focused)) {
      focused.focus({ preventScroll: true });
    } else if (key !== undefined) {
      place.querySelector(`[data-key="${CSS.escape(key)}"] button`)?.focus({ preventScroll: true });
    }
  }
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let [value, unit] = [count, 0];
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

export const number = (count) => count.toLocaleString("en");

export const count = (many, one, more) => `${number(many)} ${many === 1 ? one : more}`;

/** Of nanoseconds since 1970, which come as text. */
export function time(ns) {
  const then = new Date(Number(BigInt(ns) / 1_000_000n));
  const clock = then.toLocaleTimeString("en-GB");
  const pad = (part) => String(part).padStart(2, "0");
  const day = `${then.getFullYear()}-${pad(then.getMonth() + 1)}-${pad(then.getDate())}`;
  return then.toDateString() === new Date().toDateString() ? clock : `${day} ${clock}`;
}

export function duration(seconds) {
  const steps = [[86_400, "d"], [3600, "h"], [60, "min"]];
  const step = steps.find(([length]) => seconds >= length);
  return step ? `${Math.floor(seconds / step[0])} ${step[1]}` : `${Math.max(0, Math.floor(seconds))} s`;
}

export function notice(text, kind = "") {
  const made = el("div", { className: `notice ${kind}` }, text);
  at("notices").append(made);
  setTimeout(() => made.remove(), kind === "bad" ? 12_000 : 6_000);
}

/**
 * Asks or shows something. `actions` are `[label, act, kind]`; the dialog closes once one is done.
 * Where one fails, it stays open and says why.
 */
export function dialog(title, body, actions = []) {
  const [box, why] = [at("dialog"), el("p", { className: "bad", role: "alert" })];
  at("dialog-title").textContent = title;
  at("dialog-body").replaceChildren(...[body].flat(), why);
  const closing = el("button", { value: "close" }, actions.length === 0 ? "Close" : "Cancel");
  const made = actions.map(([label, act, kind]) => button(label, async () => {
    why.textContent = "";
    try {
      await act();
      box.close();
    } catch (problem) {
      why.textContent = problem.message;
    }
  }, kind));
  at("dialog-actions").replaceChildren(...made, closing);
  if (!box.open) {
    box.showModal();
  }
}
