// The shell: views by the hash of the address, the state of the connection, confirmations.

import { el } from "./dom.js";
import { actors } from "./actors.js";
import { calls } from "./calls.js";
import { channels } from "./channels.js";
import { effects } from "./effects.js";
import { flow } from "./flow.js";
import { schedules } from "./schedules.js";
import { waiting } from "./waiting.js";
import { runbook, warnings } from "./warnings.js";

// A view that is not whole is not in this list.
const VIEWS = [
  ["flow", "Flow", flow],
  ["waiting", "Why is it waiting", waiting],
  ["warnings", "Warnings", warnings],
  ["calls", "Slow calls", calls],
  ["actors", "Actors", actors],
  ["schedules", "Schedules", schedules],
  ["effects", "Effects", effects],
  ["channels", "Channels", channels],
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
  const text = is ? "live" : `no connection${why && `: ${why}`}`;
  if (status.textContent !== text) status.textContent = text;
  status.className = is ? "" : "bad";
}

function show() {
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
  known[2](main, { parts, query, signal: leave.signal, connected });
}

addEventListener("hashchange", show);
show();
