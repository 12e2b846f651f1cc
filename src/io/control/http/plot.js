// Bytes a second of the last hour: as the daemon kept it, and live since the page was opened.

import { at, bytes } from "./view.js";

const HOUR_S = 3600;
const SAMPLES = 720;
const [WIDTH, HEIGHT] = [720, 80];
const SVG = "http://www.w3.org/2000/svg";

const opened = performance.now() / 1000;
const samples = [];
let before = null;

/** What the daemon kept of the hour before this page was opened. */
export function startPlot({ step_s: step, sent, received }) {
  const kept = sent.map((sentBytes, n) => ({
    at: opened - (sent.length - 1 - n) * step,
    sent: sentBytes / step,
    received: received[n] / step,
  }));
  samples.unshift(...kept);
}

/** Notes what went over the links since the last look. */
export function sample(status) {
  const sum = (name) => status.peers.reduce((all, peer) => all + (peer[name] ?? 0), 0);
  const now = { at: performance.now() / 1000, received: sum("received_bytes"), sent: sum("sent_bytes") };
  if (before && now.at - before.at < 0.9) {
    return;
  }
  if (before) {
    const rate = (name) => Math.max(0, now[name] - before[name]) / (now.at - before.at);
    samples.push({ at: now.at, received: rate("received"), sent: rate("sent") });
    while (samples.length > SAMPLES || now.at - samples[0].at > HOUR_S) {
      samples.shift();
    }
  }
  before = now;
}

export function drawPlot(svg) {
  if (samples.length < 2) {
    return;
  }
  const [first, last] = [samples[0].at, samples.at(-1).at];
  const most = Math.max(1, ...samples.map((one) => Math.max(one.received, one.sent)));
  const line = (name) => {
    const points = samples.map((one) =>
      `${((one.at - first) / (last - first)) * WIDTH},${HEIGHT - 2 - (one[name] / most) * (HEIGHT - 6)}`);
    const drawn = document.createElementNS(SVG, "polyline");
    drawn.setAttribute("class", name);
    drawn.setAttribute("points", points.join(" "));
    return drawn;
  };
  svg.replaceChildren(line("sent"), line("received"));
  at("plot-most").textContent = `at most ${bytes(Math.round(most))}/s`;
}
