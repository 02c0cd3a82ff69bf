// The shell: views by the hash of the address, the state of the connection, confirmations.

import { el } from "./dom.js";
import { actors } from "./actors.js";
import { calls } from "./calls.js";
import { channels } from "./channels.js";
import { effects } from "./effects.js";
import { flow, forget } from "./flow.js";
import { hot } from "./hot.js";
import { record } from "./record.js";
import { close, moveTo, onMove, opened, shown } from "./recording.js";
import { schedules } from "./schedules.js";
import { waiting } from "./waiting.js";
import { runbook, warnings } from "./warnings.js";

// A view that is not whole is not in this list.
const VIEWS = [
  ["flow", "Flow", flow],
  ["waiting", "Why is it waiting", waiting],
  ["hot", "Hot actors", hot],
  ["warnings", "Warnings", warnings],
  ["calls", "Slow calls", calls],
  ["actors", "Actors", actors],
  ["schedules", "Schedules", schedules],
  ["effects", "Effects", effects],
  ["channels", "Channels", channels],
  ["record", "Recording", record],
];

// What others link to.
const LINKED = [["runbook", "Runbook", runbook]];

let leave = new AbortController();

/** The parts of the address: `#/actors/shop/cart-7?stuck=10s`. */
function place() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { view: parts[0] ?? "flow", parts: parts.slice(1), query: new URLSearchParams(query) };
}

export function connected(is, why = "") {
  const status = document.getElementById("status");
  const text = opened() ? "recording" : is ? "live" : `no connection${why && `: ${why}`}`;
  if (status.textContent !== text) status.textContent = text;
  status.className = is || opened() ? "" : "bad";
}

let sign;

/** What is shown is a recording: of which proxy, and of which time. */
function banner() {
  const from = opened();
  if (sign && sign.of === from) return;
  sign?.element.remove();
  sign = undefined;
  if (!from) return;
  const text = el("p", { role: "status", id: "recording" });
  const last = from.looks.length - 1;
  const slider = el("input", { type: "range", min: 0, max: Math.max(last, 0), value: shown().at, disabled: last < 1, "aria-label": "Time of the recording", oninput: () => moveTo(Number(slider.value)) });
  const tell = () => {
    const { at, look } = shown();
    const time = look?.flow.at ?? from.recorded_at;
    text.textContent = `Recording of ${from.address}, ${time}`;
    slider.setAttribute("aria-valuetext", look ? `look ${at + 1} of ${last + 1}, ${time}` : "no look");
  };
  const leaves = new AbortController();
  onMove(tell, leaves.signal);
  const end = () => {
    leaves.abort();
    close();
    forget();
    show();
    document.getElementById("main").focus();
  };
  const element = el("section", { class: "recording", "aria-label": "Recording" }, text, slider, el("button", { type: "button", onclick: end }, "Close the recording"));
  sign = { of: from, element };
  tell();
  document.querySelector("header").after(element);
}

function show() {
  banner();
  leave.abort();
  leave = new AbortController();
  const { view, parts, query } = place();
  const known = [...VIEWS, ...LINKED].find(([name]) => name === view);
  const nav = document.getElementById("nav");
  nav.replaceChildren(...VIEWS.map(([name, title]) => el("a", { href: `#/${name}`, "aria-current": name === view ? "page" : undefined }, title)));
  const main = document.getElementById("main");
  main.replaceChildren();
  document.title = `${known ? known[1] : "Nothing here"} – Tidegate`;
  if (!known) {
    main.append(el("h1", {}, "Nothing here"), el("p", {}, el("a", { href: "#/flow" }, "Flow")));
    return;
  }
  known[2](main, { parts, query, signal: leave.signal, connected, reopened: show });
}

// Views that ask now and then follow the slider at once; the flow follows it by itself.
onMove(() => { if (["waiting"].includes(place().view)) show(); });
addEventListener("hashchange", show);
show();
