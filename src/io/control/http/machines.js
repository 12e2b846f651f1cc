// The machines of the group, adding one, and removing one.

import { get, post } from "./requests.js";
import { at, button, bytes, count, dialog, duration, el, list, named, notice } from "./view.js";

/** An invitation is good for so long (s), as 'dirsync invite' has it. */
const INVITATION_S = 600;
const SVG = "http://www.w3.org/2000/svg";
/** Light modules around a QR code. */
const MARGIN = 4;

export async function machines(status) {
  const all = await get("/peers?all=true");
  list(at("machine-list"), all, (machine) => machine.device, (machine) => row(machine, status.device));
}

function row(machine, own) {
  const isOwn = machine.device === own;
  const tone = isOwn || !machine.linked ? "quiet" : machine.in_sync ? "good" : "warn";
  const seen = isOwn || machine.linked ? "now" : machine.away_s === null ? "" : `${duration(machine.away_s)} ago`;
  const clock = machine.clock_ahead_ns === null || machine.clock_ahead_ns === undefined ? null
    : el("span", { className: "sub warn" }, `its clock is ${Math.abs(Number(machine.clock_ahead_ns) / 1e9).toFixed(1)} s off`);
  const lacks = machine.pending > 0 ? el("span", { className: "sub" }, `lacks ${count(machine.pending, "path", "paths")}`) : null;
  const reads = machine.capability === "read-only" ? el("span", { className: "sub" }, "may only read") : null;
  const isListed = machine.listed !== null && !isOwn;
  const removing = isListed ? button("Remove …", () => confirmRemoval(machine), "link small") : null;
  return el("tr", { "data-key": machine.device },
    el("td", {}, named(machine.name), el("span", { className: "marks" },
      el("span", { className: "mono" }, machine.device.slice(0, 8)), removing)),
    el("td", { className: tone }, machine.state, lacks, clock, reads),
    el("td", { className: "wide when" }, seen),
    el("td", { className: "wider mono" }, machine.address ?? ""),
    el("td", { className: "wider" }, machine.software ?? ""),
    el("td", { className: "number wide" }, machine.linked ? bytes(machine.sent_bytes) : ""),
    el("td", { className: "number wide" }, machine.linked ? bytes(machine.received_bytes) : ""));
}

async function confirmRemoval(machine) {
  const plan = await post("/remove", { device: machine.device, dry_run: true });
  const told = plan.rotates
    ? `The group gets a new secret. It goes to: ${plan.machines.join(", ") || "this machine alone"}.`
    : "It is forgotten, until it comes back: without a secret nobody can be shut out.";
  const left = plan.left_behind.length === 0 ? null
    : el("p", { className: "warn" }, `Too old to take a new secret, and out until upgraded: ${plan.left_behind.join(", ")}.`);
  dialog(`Remove ${machine.name} for good?`, [el("p", {}, told), left].filter(Boolean), [
    ["Remove", async () => {
      await post("/remove", { device: machine.device, dry_run: false });
      notice(`${machine.name} is removed. This machine starts anew, which takes a second.`);
    }, "danger"],
  ]);
}

function invite() {
  const readOnly = el("input", { type: "checkbox", id: "invite-read-only" });
  const label = el("label", { htmlFor: "invite-read-only" }, readOnly, " It may only read");
  const says = el("p", {}, "Whoever enters the code joins this group and gets its secret. It is good for one machine, "
    + `for ${INVITATION_S / 60} minutes.`);
  dialog("Add a machine", [says, el("p", {}, label)], [["Make a code", async () => {
    const made = await post("/invite", { uses: 1, seconds: INVITATION_S, read_only: readOnly.checked });
    setTimeout(() => showCode(made));
  }, "main"]]);
}

/** Which are broken nowhere else. */
const words = (text) => text.split(" ").flatMap((word, n) => [n > 0 ? " " : null, el("span", { className: "when" }, word)]);

/** The command for a camera: always dark on light, with the margin that one needs. */
function picture(rows) {
  if (!rows?.length) {
    return null;
  }
  const make = (name, facts) => {
    const made = document.createElementNS(SVG, name);
    Object.entries(facts).forEach(([key, value]) => made.setAttribute(key, value));
    return made;
  };
  const side = rows.length + 2 * MARGIN;
  const modules = rows.flatMap((row, y) => [...row.matchAll(/#+/g)].map(({ index, 0: run }) =>
    `M${index + MARGIN} ${y + MARGIN}h${run.length}v1h-${run.length}z`));
  const drawn = make("svg", { id: "invite-qr", class: "qr", viewBox: `0 0 ${side} ${side}`, role: "img",
    "aria-label": "The command as a QR code", "shape-rendering": "crispEdges" });
  drawn.append(make("rect", { width: side, height: side }), make("path", { d: modules.join("") }));
  return drawn;
}

function showCode(made) {
  const copy = button("Copy the command", async () => {
    await navigator.clipboard.writeText(made.command);
    notice("Copied.");
  });
  dialog("Add a machine", [
    el("p", {}, "On the other machine run, with its own folder for DIR:"),
    el("code", { className: "code", id: "invite-command" }, words(made.command)),
    picture(made.qr),
    el("div", { className: "actions" }, copy),
    el("p", {}, "Or enter this code where 'dirsyncd DIR --join' asks for it:"),
    el("code", { className: "code", id: "invite-code" }, made.code),
    el("p", { className: "quiet" }, `It ends in ${Math.round(made.seconds_left / 60)} minutes, and when it was used. `
      + `On another network, add --peer with one of: ${made.addresses.join(", ")}.`),
  ].filter(Boolean));
}

at("invite").addEventListener("click", invite);
