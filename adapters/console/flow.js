// Flow: the path of a call as a row of stages, what is asked and granted between them, and what holds calls up.

import { stream } from "./api.js";
import { bytes, count, el, meter, spark, table, tag, time } from "./dom.js";
import { NO_LOOK, opened, shown } from "./recording.js";

// One minute, at one figure per second.
const KEPT = 60;
const TITLES = { caller: "Admission and mailboxes", lookup: "Lookup", invoke: "Invoke (hosts)", checkpoint: "Checkpoint" };
const BESIDE = { side_effects: "delivery of side effects", registry: "registry", broadcasts: "broadcasts", retention: "retention" };
const PATH = Object.keys(TITLES);
export const REASONS = {
  admission: "a free place at admission",
  actor_turn: "another call of their actor",
  paused: "the end of a pause",
  worker: "a free worker",
  host_permit: "a permit of their host",
  host_breaker: "their host, which accepts no connections",
  checkpoint_place: "a place at the checkpoint",
  store: "the store, to load their actor",
  retry_host: "the next try at their host",
  retry_store: "the next try at the store",
  retry_spawn: "their actor to be spawned again",
  commit: "the commit of their change",
};

// Kept while the page is open, so that going back shows the last minute.
const past = new Map();

/** Forgets the last minute: another proxy is shown, or another time. */
export function forget() {
  past.clear();
}

function note(name, value) {
  const values = past.get(name) ?? [];
  values.push(value ?? 0);
  if (values.length > KEPT) values.shift();
  past.set(name, values);
  return values;
}

export function flow(main, { signal, connected }) {
  const first = opened() && !shown().look ? NO_LOOK : "Waiting for the first figures…";
  const banner = el("p", { class: "banner", role: "status", id: "bottleneck" }, first);
  const parts = el("div");
  main.append(el("h1", {}, "Flow"), banner, parts);
  const told = (now, isFirst) => {
    if (isFirst) forget();
    show(now, banner, parts);
  };
  stream("/admin/flow/live", told, (is, error) => connected(is, error?.message), signal);
}

function show(now, banner, parts) {
  const found = now.bottleneck;
  const text = found ? found.sentence : now.calls.per_second > 0 ? "Nothing holds calls up." : "Nothing holds calls up, and nobody calls.";
  // The same sentence is not read aloud again.
  if (banner.textContent !== text) banner.textContent = text;
  banner.className = found ? `banner ${now.store_up ? "held" : "failed"}` : "banner";
  const stages = now.stages.filter((stage) => PATH.includes(stage.name));
  const others = now.stages.filter((stage) => stage.name in BESIDE);
  const scrolled = parts.querySelector(".path")?.scrollLeft ?? 0;
  // A region that has the focus keeps it.
  const focused = parts.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  parts.replaceChildren(
    tiles(now),
    el("h2", {}, "The path of a call"),
    stages.length ? path(stages, found?.stage, now.hosts) : el("p", { class: "soft" }, "No figures of stages: metrics are off (SPAWN_DISABLE_METRICS)."),
    el("div", { class: "columns" }, waiting(now), hosts(now)),
    others.length ? beside(others) : "",
  );
  const row = parts.querySelector(".path");
  if (row) row.scrollLeft = scrolled;
  if (focused) parts.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function tiles(now) {
  const tile = (name, value, values) => el("dl", { class: "tile" }, el("dt", {}, name), el("dd", {}, value), values ? spark(values) : "");
  const { calls } = now;
  const turns = now.waiting.reduce((sum, waiting) => sum + waiting.turns, 0);
  const store = !now.store_up ? el("span", { class: "bad" }, "does not answer")
    : now.store_breaker_open ? el("span", { class: "warn" }, "breaker open") : "answers";
  return el("div", { class: "tiles" },
    tile("Calls per second", count(calls.per_second), note("calls", calls.per_second)),
    tile("Failed per second", el("span", { class: calls.failed_per_second > 0 ? "bad" : "" }, count(calls.failed_per_second)), note("failed", calls.failed_per_second)),
    tile("Mean time of a call", time(calls.mean_ms), note("mean", calls.mean_ms)),
    tile("Turns that wait", count(turns), note("waiting", turns)),
    tile("Actors in memory", `${count(now.live_actors)} of ${count(now.registered_actors)}`),
    tile("Store", store));
}

function path(stages, held, hosts) {
  const items = stages.map((stage, at) => {
    // Whatever runs at a host is in the stage that calls hosts.
    if (stage.name === "invoke") stage.in_flight = hosts.reduce((sum, host) => sum + host.running, 0);
    const next = stages[at + 1];
    return el("li", {}, card(stage, stage.name === held), next ? edge(stage, next) : "");
  });
  return el("ol", { class: "path", tabindex: "0", "aria-label": "Stages of a call" }, items);
}

function card(stage, isHeld) {
  const rows = [
    ["queued", stage.queued, count],
    ["in flight", stage.in_flight, count],
    ["parked", stage.parked, count],
    ["free slots", stage.demand, count],
    ["wait in queue", stage.queue_ms, time],
    ["turn", stage.turn_ms, time],
    ["service", stage.service_ms, time],
    ["shed", stage.shed_per_second, (value) => `${count(value)}/s`],
    ["failed", stage.failed_per_second, (value) => `${count(value)}/s`],
  ].filter(([name, value]) => (value !== undefined || (name === "service" && stage.queued === undefined)) && !(value === 0 && ["parked", "shed", "failed"].includes(name)));
  const { buffer } = stage;
  const load = (stage.queued ?? 0) + (stage.in_flight ?? 0);
  return el("section", { class: isHeld ? "stage held" : "stage", "aria-label": `Stage ${TITLES[stage.name]}` },
    el("h3", {}, TITLES[stage.name]),
    buffer ? [meter(buffer.events, buffer.limit_events), el("p", { class: "soft places", title: `${bytes(buffer.bytes)} of ${bytes(buffer.limit_bytes)}` }, `${count(buffer.events)} of ${count(buffer.limit_events)} places, ${bytes(buffer.bytes)}`)] : "",
    el("dl", {}, rows.map(([name, value, shown]) => [el("dt", {}, name), el("dd", {}, shown(value))])),
    stage.queued === undefined ? "" : spark(note(`load ${stage.name}`, load)));
}

function edge(stage, next) {
  // Demand is what the next consumer asks this stage for.
  const asked = stage.asked_per_second;
  const lost = stage.lost_per_second ?? 0;
  const lines = asked === undefined ? [] : [`${count(asked)}/s asked`, `${count(stage.granted_per_second)}/s granted`];
  if (lost > 0) lines.push(`${lost.toFixed(1)} s/s lost`);
  return el("div", { class: lost > 0 ? "edge lost" : "edge" }, el("b", { "aria-hidden": "true" }, asked === undefined ? "──▸" : "══▸"), lines.map((line) => el("div", {}, line)));
}

function waiting(now) {
  const columns = [
    ["wait for", "", (item) => el("a", { href: `#/waiting?reason=${item.reason}` }, REASONS[item.reason] ?? item.reason)],
    ["turns", "num", (item) => count(item.turns)],
    ["median", "num", (item) => item.median_ms ? time(item.median_ms) : "–"],
    ["oldest", "num", (item) => item.oldest_ms ? time(item.oldest_ms) : "–"],
  ];
  const items = now.waiting.filter((item) => item.turns > 0).sort((one, other) => other.turns - one.turns);
  return el("section", {}, el("h2", {}, "What turns wait for"), table("What turns wait for", columns, items, "No turn waits."));
}

export function hostState(host) {
  if (host.state === "reached") return tag("reached", "good");
  if (host.state === "new") return tag("new");
  return tag(host.state === "open" ? "breaker open" : host.state, "bad");
}

function hosts(now) {
  const columns = [
    ["host", "mono", (host) => host.address.replace("http://", "")],
    ["state", "", hostState],
    ["permits", "num", (host) => [host.permits === undefined ? count(host.running) : `${host.running} of ${count(host.permits)}`, host.permits ? meter(host.running, host.permits) : ""]],
    ["wait", "num", (host) => host.waiting ? el("a", { href: `#/waiting?host=${encodeURIComponent(host.address)}` }, count(host.waiting)) : "0"],
    ["median", "num", (host) => host.waiting ? time(host.median_ms) : "–"],
    ["turn", "num", (host) => time(host.mean_turn_ms)],
  ];
  const more = now.all_hosts > now.hosts.length ? ` (the first ${now.hosts.length} of ${now.all_hosts})` : "";
  return el("section", {}, el("h2", {}, `Hosts${more}`), table("Hosts", columns, now.hosts, "No host has registered."));
}

function beside(stages) {
  const columns = [
    ["stage", "", (stage) => BESIDE[stage.name]],
    ["asked", "num", (stage) => stage.asked_per_second === undefined ? "–" : `${count(stage.asked_per_second)}/s`],
    ["granted", "num", (stage) => stage.granted_per_second === undefined ? "–" : `${count(stage.granted_per_second)}/s`],
    ["queued", "num", (stage) => count(stage.queued)],
    ["in flight", "num", (stage) => count(stage.in_flight)],
    ["places", "num", (stage) => stage.buffer ? `${count(stage.buffer.events)} of ${count(stage.buffer.limit_events)}` : "–"],
    ["shed", "num", (stage) => stage.shed_per_second === undefined ? "–" : `${count(stage.shed_per_second)}/s`],
    ["failed", "num", (stage) => stage.failed_per_second === undefined ? "–" : `${count(stage.failed_per_second)}/s`],
  ];
  return el("section", {}, el("h2", {}, "Beside the path"), table("Stages beside the path", columns, stages, ""));
}
