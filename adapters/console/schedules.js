// Schedules: when each runs next, what its last run came to, and what it has skipped and missed; run now, pause, resume.

import { change, get } from "./api.js";
import { notice } from "./dialog.js";
import { count, el, table, tag, time } from "./dom.js";
import { tally } from "./recording.js";

// Schedules of a system that are read at once.
const PAGE = 100;
const PERIOD_MS = 3000;

export function schedules(main, { query, signal, connected }) {
  const list = el("div");
  main.append(el("h1", {}, "Schedules"), list);

  async function load() {
    try {
      const { systems } = await get("/admin/about");
      if (signal.aborted) return;
      connected(true);
      const chosen = systems.includes(query.get("system")) ? query.get("system") : systems[0];
      if (chosen === undefined) return list.replaceChildren(el("p", { class: "soft" }, "No actor system is registered."));
      const select = el("select", { onchange: (event) => { location.hash = `#/schedules?system=${encodeURIComponent(event.target.value)}`; } },
        systems.map((system) => el("option", { selected: system === chosen }, system)));
      const rows = el("div");
      list.replaceChildren(el("form", { class: "filter", "aria-label": "Filter", onsubmit: (event) => event.preventDefault() }, el("label", {}, "System", select)), rows);
      await show(rows, chosen, query.get("after") ?? "");
      // What somebody is about to press stays where it is.
      const refresh = async () => {
        if (signal.aborted) return;
        if (!rows.contains(document.activeElement)) await show(rows, chosen, query.get("after") ?? "").catch((error) => connected(false, error.message));
        setTimeout(refresh, PERIOD_MS);
      };
      setTimeout(refresh, PERIOD_MS);
    } catch (error) {
      if (!signal.aborted) list.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    }
  }

  async function show(rows, system, after) {
    const base = `/api/v1/system/${encodeURIComponent(system)}/schedules`;
    const page = await get(`${base}?limit=${PAGE}${after && `&after=${encodeURIComponent(after)}`}`);
    if (signal.aborted) return;
    connected(true);

    async function act(schedule, verb, title) {
      try {
        await change("POST", `${base}/${encodeURIComponent(schedule.spec.name)}/${verb}`);
      } catch (error) {
        await notice(title, error.message);
      }
      await show(rows, system, after);
    }
    const button = (schedule, verb, title) => el("button", { type: "button", "aria-label": `${title} ${schedule.spec.name}`, onclick: () => act(schedule, verb, title) }, title);
    const columns = [
      ["name", "", (schedule) => schedule.spec.name],
      ["(state)", "", (schedule) => tag(schedule.state, { active: "good", paused: "warn" }[schedule.state])],
      ["calls", "", ({ spec }) => [el("a", { class: "mono", href: `#/actors/${encodeURIComponent(system)}/${encodeURIComponent(spec.actor)}` }, spec.actor), ` ${spec.action}`]],
      ["when", "", ({ spec }) => spec.cron ? `${spec.cron} ${spec.zone || "UTC"}` : spec.every_ms ? `every ${time(spec.every_ms)}` : spec.at],
      ["next", "", (schedule) => schedule.next.slice(0, 2).map((at) => el("div", {}, at))],
      ["last run", "", ({ history, open }) => [last(history[0]), open.length ? el("div", { class: "soft" }, `${open.length} not ended, since ${open[0].since || open[0].due}`) : ""]],
      ["runs", "num", (schedule) => count(schedule.runs)],
      ["failed", "num", (schedule) => el("span", { class: schedule.failed > 0 ? "bad" : "" }, count(schedule.failed))],
      ["skipped", "num", (schedule) => count(schedule.skipped)],
      ["missed", "num", (schedule) => count(schedule.missed)],
      ["(change)", "", (schedule) => el("div", { class: "row" }, button(schedule, "run", "Run now"), schedule.state === "paused" ? button(schedule, "resume", "Resume") : button(schedule, "pause", "Pause"))],
    ];
    const next = page.next ? el("a", { href: `#/schedules?system=${encodeURIComponent(system)}&after=${encodeURIComponent(page.next)}` }, "More") : "";
    const cut = page.recorded ? el("p", {}, tally(page.schedules.length, page, "schedules")) : "";
    rows.replaceChildren(cut, table("Schedules", columns, page.schedules, "This system has no schedule."), next);
  }
  load();
}

function last(run) {
  if (!run) return el("span", { class: "soft" }, "none yet");
  return [el("span", { class: run.outcome === "failed" ? "bad" : "" }, run.outcome), el("span", { class: "soft" }, ` at ${run.ended}`), run.error ? el("div", {}, run.error) : ""];
}
