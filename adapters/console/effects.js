// Effects: side effects that are not delivered, and dead letters, which can be delivered again or dropped.

import { change, get } from "./api.js";
import { confirm, notice } from "./dialog.js";
import { count, el, table, tag } from "./dom.js";
import { none, tally } from "./recording.js";

const FIELDS = [["source", "From", "shop/*"], ["target", "To", "mail/box"], ["action", "Action"], ["reason", "Reason has"]];

export function effects(main, { query, signal, connected }) {
  const input = ([name, title, hint]) => el("label", {}, title, el("input", { name, value: query.get(name) ?? "", placeholder: hint }));
  const state = el("select", { name: "state" }, el("option", { value: "" }, "any"), ["dead", "pending"].map((word) => el("option", { value: word, selected: query.get("state") === word }, word)));
  const form = el("form", { class: "filter", "aria-label": "Filter", onsubmit: apply }, FIELDS.map(input), el("label", {}, "State", state), el("button", { class: "main" }, "List"));
  const list = el("div");
  const all = (verb, title, done) => el("button", { type: "button", onclick: () => changeAll(verb, title, done) }, `${title}…`);
  main.append(el("h1", {}, "Effects and dead letters"), form,
    el("p", { class: "soft" }, "These change all dead letters that the filter matches; they are counted first:"),
    el("div", { class: "row", role: "group", "aria-label": "Change all that match" }, all("retry", "Deliver again", "delivered again"), all("drop", "Drop", "dropped")), list);
  let found = [];
  let page = {};

  function apply(event) {
    event.preventDefault();
    const chosen = [...new FormData(form)].filter(([, value]) => value);
    const hash = `#/effects?${new URLSearchParams(chosen)}`;
    if (location.hash === hash) load();
    else location.hash = hash;
  }

  async function load(more = false) {
    try {
      page = await get(`/api/v1/effects?limit=100&${query}${more && page.next ? `&next=${encodeURIComponent(page.next)}` : ""}`);
      if (signal.aborted) return;
      connected(true);
      found = more ? [...found, ...page.effects] : page.effects;
      show();
    } catch (error) {
      if (!signal.aborted) list.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    }
  }

  async function act(effect, method, verb, title) {
    const [system, ...name] = effect.source.split("/");
    const id = effect.id.slice(effect.source.length + 1);
    try {
      if (method === "DELETE" && !(await confirm(title, `The call of ${effect.action} at ${effect.target} is never made.`, title))) return;
      await change(method, `/api/v1/system/${encodeURIComponent(system)}/actors/${encodeURIComponent(name.join("/"))}/effects/${encodeURIComponent(id)}${verb}`);
    } catch (error) {
      await notice(title, error.message);
    }
    await load();
  }

  function show() {
    const dead = (effect, title, method, verb) => el("button", { type: "button", "aria-label": `${title} ${effect.id}`, onclick: () => act(effect, method, verb, title) }, title);
    const columns = [
      ["effect", "mono", (effect) => effect.id],
      ["(state)", "", (effect) => tag(effect.state, effect.state === "dead" ? "bad" : "")],
      ["to", "mono", (effect) => `${effect.target} ${effect.action}`],
      ["asked for", "", (effect) => effect.emitted_at],
      ["tries", "num", (effect) => count(effect.attempts)],
      ["why it is dead", "", (effect) => effect.reason ?? ""],
      ["(change)", "", (effect) => effect.state === "dead" ? el("div", { class: "row" }, dead(effect, "Deliver again", "POST", "/retry"), dead(effect, "Drop", "DELETE", "")) : ""],
    ];
    const more = page.next ? el("button", { type: "button", onclick: () => load(true) }, "More") : "";
    list.replaceChildren(el("p", {}, tally(found.length, page, "effects")), table("Effects", columns, found, none(page, "effects", "Everything is delivered.")), el("div", { class: "row" }, more));
  }

  async function changeAll(verb, title, done) {
    // The state chooses what is listed; only dead letters are changed.
    const chosen = [...query].filter(([name]) => name !== "state");
    const filter = chosen.length ? new URLSearchParams(chosen).toString() : "all=true";
    try {
      const counted = await pages(verb, `${filter}&dry_run=true`);
      if (counted.matched === 0) return await notice(title, "No dead letter matches.");
      if (!(await confirm(title, `${counted.matched} dead letters match.`, `${title}: ${counted.matched}`))) return;
      const changed = await pages(verb, filter);
      const left = changed.full + changed.unregistered;
      await notice(title, `${changed.done} of ${changed.matched} dead letters are ${done}.${left ? ` ${changed.full} stay, since their source has too many undelivered effects; ${changed.unregistered}, since it is not registered.` : ""}`);
      await load();
    } catch (error) {
      await notice(title, error.message);
    }
  }
  load();
}

/** Changes, or counts, all pages of dead letters. */
async function pages(verb, filter) {
  const all = { matched: 0, done: 0, full: 0, unregistered: 0 };
  let next = "";
  do {
    const page = await change("POST", `/api/v1/effects/${verb}?${filter}${next && `&next=${encodeURIComponent(next)}`}`);
    for (const name of Object.keys(all)) all[name] += page[name];
    next = page.next ?? "";
  } while (next);
  return all;
}
