// Hot actors: those that came to most of the calls, the time, the bytes or the turns that wait.

import { get, poll } from "./api.js";
import { bytes, count, el, meter, table, time } from "./dom.js";
import { actorLink } from "./waiting.js";

const PERIOD_MS = 2000;

/** Each measure with its name, what its sum is called, and how an amount is shown. */
const MEASURES = {
  calls: ["Calls", "calls ended", count],
  time: ["Time of turns", "of turns", (us) => time(us / 1000)],
  bytes: ["Bytes", "written and answered", bytes],
  queue: ["Queue", "turns wait now", count],
};

export function hot(main, view) {
  const by = view.query.get("by") in MEASURES ? view.query.get("by") : "calls";
  const tabs = el("nav", { class: "measures", "aria-label": "Measures" },
    Object.entries(MEASURES).map(([name, [title]]) => el("a", { href: `#/hot?by=${name}`, "aria-current": name === by ? "page" : undefined }, title)));
  const list = el("div", { "aria-live": "off" });
  main.append(el("h1", {}, "Hot actors"), tabs, list);
  poll(list, PERIOD_MS, view, async () => rows(await get(`/admin/hot?by=${by}&limit=50`)));
}

function rows({ by, covers_ms, total, others_at_most, actors }) {
  const [, what, amount] = MEASURES[by];
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const columns = [
    ["actor", "", (actor) => [actorLink(actor), actor.member ? ` (${actor.member})` : ""]],
    [by === "queue" ? "turns that wait" : MEASURES[by][0].toLowerCase(), "num", (actor) => amount(actor.count)],
    ["share of all", "num", (actor) => [percent(actor.share), meter(actor.share, 1)]],
    ["error", "num", (actor) => (actor.error ? `≤ ${amount(actor.error)} too high` : "exact")],
  ];
  const since = covers_ms ? ` in the last ${time(covers_ms)}` : "";
  const others = others_at_most ? ` Of actors that are not counted by name, none came to more than ${amount(others_at_most)}.` : "";
  return [
    el("p", {}, `${amount(total)} ${what}${since}.${others}`),
    table("Hot actors", columns, actors, by === "queue" ? "Nothing waits." : "No turn has ended."),
  ];
}
