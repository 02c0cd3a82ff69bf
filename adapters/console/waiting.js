// Why is it waiting: the actors that have waited longest, with what they wait for, by which call, and since when.

import { get, poll } from "./api.js";
import { count, el, table, tag, time } from "./dom.js";
import { REASONS } from "./flow.js";
import { none, tally } from "./recording.js";

const PERIOD_MS = 2000;

/** The address of an actor's page. */
export function actorLink(actor) {
  const name = actor.member ? `${actor.name} (${actor.member})` : actor.name;
  return el("a", { class: "mono", href: `#/actors/${encodeURIComponent(actor.system)}/${encodeURIComponent(actor.name)}` }, `${actor.system}/${name}`);
}

/** What a turn is blocked on, in words. */
export function blocked(turn, actor) {
  if (!turn?.blocked_on) return turn ? "its host, or the store" : "–";
  const [word, number] = turn.blocked_on.split(" ");
  if (word !== "turn") return REASONS[word] ?? word;
  const { running } = actor;
  const holder = running?.turn === number ? ` (${running.action || running.kind}, for ${time(running.for_ms)})` : "";
  return `turn ${number} of its actor${holder}`;
}

export function turn(shown) {
  return shown ? [`${shown.action || shown.kind}`, el("span", { class: "soft" }, ` turn ${shown.turn}, for ${time(shown.for_ms)}`)] : "–";
}

export function waiting(main, view) {
  const { query } = view;
  const field = (name) => query.get(name) ?? "";
  const reason = el("select", { name: "reason" }, el("option", { value: "" }, "anything"),
    Object.entries(REASONS).map(([word, text]) => el("option", { value: word, selected: field("reason") === word }, text)));
  const form = el("form", { class: "filter", "aria-label": "Filter", onsubmit: apply, onchange: apply },
    el("label", {}, "Waits for", reason),
    el("label", {}, "Host", el("input", { name: "host", value: field("host") })),
    el("label", {}, "System", el("input", { name: "system", value: field("system") })),
    el("button", {}, "Filter"));
  const list = el("div", { "aria-live": "off" });
  main.append(el("h1", {}, "Why is it waiting"), el("p", { class: "soft" }, "The actors that have waited longest come first."), form, list);

  function apply(event) {
    event.preventDefault();
    const chosen = [...new FormData(form)].filter(([, value]) => value);
    location.hash = `#/waiting?${new URLSearchParams(chosen)}`;
  }

  poll(list, PERIOD_MS, view, async () => rows(await get(`/admin/waiting?limit=100&${query}`)));
}

function rows(page) {
  const { actors, all } = page;
  const columns = [
    ["actor", "", actorLink],
    ["waits for", "", (actor) => blocked(why(actor), actor)],
    ["since", "num", (actor) => time(why(actor)?.blocked_for_ms ?? why(actor)?.for_ms)],
    ["first that waits", "", (actor) => turn(actor.waiting)],
    ["runs", "", (actor) => turn(actor.running)],
    ["queued", "num", (actor) => count(actor.queued)],
    ["host", "mono", (actor) => actor.host],
    ["(pause)", "", (actor) => actor.paused ? tag("paused", "warn") : ""],
  ];
  const shown = all > actors.length && !page.recorded ? `${actors.length} of ${all} actors` : tally(actors.length, page, "actors");
  return [el("p", {}, shown), table("Actors that wait", columns, actors, none(page, "actors", "Nothing waits."))];
}

/** The turn that holds the others up: one that is parked, else the first that waits. */
function why(actor) {
  return actor.running?.blocked_on ? actor.running : actor.waiting;
}
