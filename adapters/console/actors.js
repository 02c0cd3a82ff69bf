// Actors: chosen by what is known of them; one of them with its state, its history and what can be done with it.

import { actorPath, change, changeText, get, getText } from "./api.js";
import { confirm, notice } from "./dialog.js";
import { count, el, pairs, table, tag, time } from "./dom.js";
import { lines } from "./diff.js";
import { compact, field, indented } from "./json.js";
import { none, tally } from "./recording.js";
import { actorLink, blocked, turn } from "./waiting.js";

const FIELDS = [
  ["system", "System"], ["name", "Name"], ["definition", "Definition"], ["host", "Host"], ["error", "Error has"],
  ["stuck", "Stuck for", "10s"], ["unused", "Not used for", "1h"], ["mailbox", "Turns that wait", "10"],
];
const CHOICES = [
  ["kind", "Kind", ["named", "unnamed", "pooled", "proxy", "task"]],
  ["state", "State", ["live", "stored"]],
  ["paused", "Paused", ["true", "false"]],
  ["failed", "Has failed", ["true", "false"]],
];
const VERBS = [
  ["cancel", "Cancel what runs", "cancelled"], ["pause", "Pause", "paused"], ["resume", "Resume", "resumed"],
  ["deactivate", "Take out of memory", "deactivated"],
];
// Revisions that are read at once, and characters of their states: of large ones fewer.
const REVISIONS = 200;
const CHARACTERS = 4 << 20;
// The last time that there is.
const END = "9999-12-30T22:00:00Z";

export function actors(main, context) {
  const [system, name] = context.parts;
  if (system !== undefined && name !== undefined) return one(main, context, system, name);
  return all(main, context);
}

function all(main, { query, signal, connected }) {
  const input = ([name, title, hint]) => el("label", {}, title, el("input", { name, value: query.get(name) ?? "", placeholder: hint, class: hint ? "short" : "" }));
  const select = ([name, title, values]) => el("label", {}, title, el("select", { name }, el("option", { value: "" }, "any"),
    values.map((value) => el("option", { value, selected: query.get(name) === value }, value))));
  const form = el("form", { class: "filter", "aria-label": "Filter", onsubmit: apply }, FIELDS.map(input), CHOICES.map(select), el("button", { class: "main" }, "List"));
  const actions = el("div", { class: "row", role: "group", "aria-label": "Change all that match" },
    VERBS.map(([verb, title, done]) => el("button", { type: "button", onclick: () => changeAll(verb, title, done, query, load) }, `${title}…`)));
  const list = el("div");
  main.append(el("h1", {}, "Actors"), form, el("p", { class: "soft" }, "These change all actors that the filter matches; they are counted first:"), actions, list);
  let found = [];
  let page = {};

  function apply(event) {
    event.preventDefault();
    const chosen = [...new FormData(form)].filter(([, value]) => value);
    const hash = `#/actors?${new URLSearchParams(chosen)}`;
    if (location.hash === hash) load();
    else location.hash = hash;
  }

  async function load(more = false) {
    try {
      page = await get(`/api/v1/actors?limit=100&${query}${more && page.next ? `&next=${encodeURIComponent(page.next)}` : ""}`);
      if (signal.aborted) return;
      connected(true);
      found = more ? [...found, ...page.actors] : page.actors;
      show();
    } catch (error) {
      if (!signal.aborted) list.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    }
  }

  function show() {
    const columns = [
      ["actor", "", actorLink],
      ["(state)", "", (actor) => [actor.active ? tag("live", "good") : tag("stored"), " ", actor.paused ? tag("paused", "warn") : ""]],
      ["definition", "", (actor) => [actor.definition, el("span", { class: "soft" }, ` ${actor.kind}`)]],
      ["queued", "num", (actor) => count(actor.queued)],
      ["runs", "", (actor) => turn(actor.running)],
      ["last error", "", (actor) => actor.last_error ? [el("span", { class: "bad" }, actor.last_error.kind), el("span", { class: "soft" }, ` ${time(actor.last_error.ago_ms)} ago`)] : ""],
      ["not used for", "num", (actor) => time(actor.unused_for_ms)],
      ["host", "mono", (actor) => actor.host],
    ];
    const more = page.next ? el("button", { type: "button", onclick: () => load(true) }, "More") : "";
    list.replaceChildren(el("p", {}, tally(found.length, page, "actors")), table("Actors", columns, found, none(page, "actors", "No actor matches.")), el("div", { class: "row" }, more));
  }
  load();
}

async function changeAll(verb, title, done, query, load) {
  const filter = query.toString() || "all=true";
  try {
    const matched = await pages(verb, `${filter}&dry_run=true`);
    if (matched.matched === 0) return await notice(title, "No actor matches.");
    const text = `${matched.matched} actors match${query.toString() ? "" : ": all of this proxy"}.`;
    if (!(await confirm(title, text, `${title}: ${matched.matched}`))) return;
    const changed = await pages(verb, filter);
    const why = changed.errors.length ? ` ${changed.failed} were not: ${changed.errors[0]}` : "";
    await notice(title, `${changed.changed} of ${changed.matched} actors were ${done}.${why}`);
    load();
  } catch (error) {
    await notice(title, error.message);
  }
}

/** Changes, or counts, all pages of actors. */
async function pages(verb, filter) {
  const all = { matched: 0, changed: 0, failed: 0, errors: [] };
  let next = "";
  do {
    const page = await change("POST", `/api/v1/actors/${verb}?${filter}${next && `&next=${encodeURIComponent(next)}`}`);
    for (const name of ["matched", "changed", "failed"]) all[name] += page[name];
    all.errors.push(...page.errors);
    next = page.next ?? "";
  } while (next);
  return all;
}

function one(main, { signal, connected }, system, name) {
  const path = actorPath(system, name);
  const which = `system=${encodeURIComponent(system)}&name=${encodeURIComponent(name)}`;
  const facts = el("section");
  const state = el("section");
  const history = el("section");
  const readHistory = revisions(history, path, () => { look(); read(); });
  const call = invocation(path, () => { look(); read(); });
  const buttons = el("div", { class: "row", role: "group", "aria-label": "Change this actor" },
    VERBS.map(([verb, title, done]) => el("button", { type: "button", onclick: () => act(verb, title, done) }, title)));
  main.append(
    el("p", {}, el("a", { href: "#/actors" }, "Actors")),
    el("h1", { class: "mono" }, `${system}/${name}`),
    buttons, el("div", { class: "columns" }, el("div", {}, facts, call), state), history);

  async function act(verb, title, done) {
    try {
      const text = verb === "cancel" ? "The call that runs ends with an error; its action may have run." : "";
      if (verb === "cancel" && !(await confirm(title, text, title))) return;
      const result = await change("POST", `/api/v1/actors/${verb}?${which}`);
      if (result.changed === 0) await notice(title, `It was not ${done}: there was nothing to do.`);
    } catch (error) {
      await notice(title, error.message);
    }
    look();
    // A call that was cancelled ends a moment later.
    setTimeout(look, 1000);
  }

  async function look() {
    if (signal.aborted) return;
    try {
      const found = await get(`/api/v1/actors?${which}`);
      connected(true);
      if (signal.aborted) return;
      const [actor] = found.actors;
      facts.replaceChildren(el("h2", {}, "Now"), actor ? now(actor) : el("p", {}, none(found, "actors", "There is no such actor.")));
    } catch (error) {
      facts.replaceChildren(el("h2", {}, "Now"), el("p", { class: "error" }, error.message));
    }
  }

  async function read() {
    if (signal.aborted) return;
    try {
      const content = await getText(path);
      const tags = Object.entries(JSON.parse(content).tags ?? {});
      state.replaceChildren(el("h2", {}, "State"), el("pre", { tabindex: "0", "aria-label": "State" }, pretty(field(content, "state"))),
        tags.length ? pairs(tags) : "");
    } catch (error) {
      state.replaceChildren(el("h2", {}, "State"), el("p", { class: error.status === 404 ? "soft" : "error" }, error.message));
    }
    await readHistory();
  }
  look();
  read();
}

function now(actor) {
  const error = actor.last_error;
  return pairs([
    ["in memory", actor.active ? tag("live", "good") : tag("stored")],
    ["paused", actor.paused ? `since ${actor.paused.since} by ${actor.paused.by}` : ""],
    ["definition", `${actor.definition} (${actor.kind})`],
    ["host", actor.host],
    ["runs", actor.running ? [turn(actor.running), el("div", { class: "soft" }, `waits for ${blocked(actor.running, actor)}`)] : "nothing"],
    ["mailbox", `${actor.queued} queued`],
    ["first waits", actor.waiting ? [turn(actor.waiting), el("div", { class: "soft" }, `for ${blocked(actor.waiting, actor)}`)] : ""],
    ["not used for", time(actor.unused_for_ms)],
    ["last error", error ? [el("span", { class: "bad" }, error.kind), ` ${time(error.ago_ms)} ago`, el("div", {}, error.text)] : "none that is remembered"],
  ]);
}

function invocation(path, called) {
  const action = el("input", { name: "action", required: true });
  const payload = el("textarea", { name: "payload", spellcheck: "false" });
  const answer = el("div", { role: "status" });
  async function submit(event) {
    event.preventDefault();
    answer.replaceChildren("…");
    try {
      const given = payload.value.trim();
      // Says what is wrong with it; sent is the text itself.
      if (given) JSON.parse(given);
      const body = `{"action":${JSON.stringify(action.value)}${given && `,"payload":${given}`}}`;
      answer.replaceChildren(el("pre", { tabindex: "0", "aria-label": "Answer" }, indented(await changeText("POST", `${path}/invoke`, body))));
    } catch (error) {
      answer.replaceChildren(el("p", { class: "error" }, error.message));
    }
    called();
  }
  return el("section", {}, el("h2", {}, "Invoke"),
    el("form", { onsubmit: submit }, el("label", {}, "Action", action), el("label", { class: "wide" }, "Payload, as JSON", payload), el("div", { class: "row" }, el("button", { class: "main" }, "Invoke"))), answer);
}

/** The newest revision, in a list that is empty when there is none. */
async function newest(path) {
  try {
    return [await get(`${path}/state?at=${END}`)];
  } catch (error) {
    if (error.status !== 404) throw error;
    // Either there is no such actor, or nothing is in its history.
    return (await get(`${path}/revisions?limit=1`)).revisions;
  }
}

/** Revisions with numbers below this one, the newest first, and whether there may be more. The time and the state are those of the one above. */
async function below(path, number, { at, state }) {
  const fitting = Math.floor(CHARACTERS / (state?.value.length || 1));
  const first = number - Math.min(REVISIONS, Math.max(2, fitting));
  let from = "";
  if (first > 1) {
    try {
      from = (await get(`${path}/revisions/${first}`)).at;
    } catch (error) {
      // It is not kept any more, nor is one before it.
      if (error.status !== 404) throw error;
    }
  }
  const found = [];
  let next = "";
  do {
    const page = await get(`${path}/revisions?limit=1000&from=${from}&to=${at}${next && `&next=${encodeURIComponent(next)}`}`);
    found.push(...page.revisions);
    next = page.next ?? "";
  } while (next);
  return [found.filter(({ revision }) => revision < number).reverse(), from !== ""];
}

/** Shows the history of an actor in a section; returns what reads it anew. */
function revisions(section, path, restored) {
  // The newest first.
  let found = [];
  let hasMore = false;
  const chosen = (name) => found.find((revision) => String(revision.revision) === section.querySelector(`input[name=${name}]:checked`)?.value);

  async function read() {
    try {
      const [last] = await newest(path);
      const [known] = found;
      if (known && last?.revision === known.revision + 1) {
        // One call was made: what was read before is still right.
        hasMore ||= found.length >= REVISIONS;
        found = [last, ...found.slice(0, Math.max(REVISIONS, found.length) - 1)];
      } else if (last?.at !== known?.at) {
        [found, hasMore] = last ? await below(path, last.revision + 1, last) : [[], false];
      }
      show(found[1] ?? found[0], found[0]);
    } catch (error) {
      section.replaceChildren(el("h2", {}, "Revisions"), el("p", { class: error.status === 404 || error.status === 409 ? "soft" : "error" }, error.message));
    }
  }

  async function more() {
    const last = found.at(-1);
    try {
      const [older, isCut] = await below(path, last.revision, last);
      // They may have been read anew meanwhile.
      if (found.at(-1) !== last) return;
      const [before, after] = [chosen("before"), chosen("after")];
      [found, hasMore] = [[...found, ...older], isCut];
      show(before, after);
    } catch (error) {
      await notice("More", error.message);
    }
  }

  function show(before, after) {
    const shown = el("div", { id: "diff", "aria-live": "polite" });
    const pick = (name, revision, checked) => el("input", { type: "radio", class: "pick", name, value: revision.revision, checked, "aria-label": `Revision ${revision.revision} as ${name}`, onchange: () => diff(shown) });
    const columns = [
      ["before", "", (revision) => pick("before", revision, revision === before)],
      ["after", "", (revision) => pick("after", revision, revision === after)],
      ["revision", "num", (revision) => revision.revision],
      ["written at", "", (revision) => revision.at],
      ["state", "mono", (revision) => short(decoded(revision.state))],
      ["(restore)", "", (revision) => el("button", { type: "button", onclick: () => restore(revision) }, `Restore ${revision.revision}`)],
    ];
    section.replaceChildren(el("h2", {}, "Revisions"), shown, table("Revisions", columns, found, "Nothing is in its history."),
      el("div", { class: "row" }, hasMore ? el("button", { type: "button", onclick: more }, "More") : ""));
    if (found.length > 1) diff(shown);
  }

  function diff(shown) {
    const [before, after] = [chosen("before"), chosen("after")];
    if (!before || !after) return;
    const changed = lines(pretty(decoded(before.state)), pretty(decoded(after.state)));
    shown.replaceChildren(el("p", {}, `From revision ${before.revision} to ${after.revision}`),
      el("pre", { tabindex: "0", "aria-label": "Difference" }, changed.map(([mark, line]) => el("span", { class: { "+": "add", "-": "del" }[mark] ?? "same" }, `${mark} ${line}`))));
  }

  async function restore(revision) {
    const title = `Restore revision ${revision.revision}`;
    if (!(await confirm(title, "Its state becomes the current one, as a new revision.", title))) return;
    try {
      await change("POST", `${path}/restore?revision=${revision.revision}`);
    } catch (error) {
      await notice(title, error.message);
    }
    restored();
  }
  return read;
}

/** A stored state as JSON text: itself where it is that, else its type and its bytes. */
function decoded(state) {
  if (!state) return "null";
  const binary = Uint8Array.from(atob(state.value), (character) => character.charCodeAt(0));
  if (/\.(JSONType|StringValue)$/.test(state.type_url)) {
    const text = firstField(binary);
    try {
      JSON.parse(text);
      return text;
    } catch {
      return JSON.stringify(text);
    }
  }
  return JSON.stringify({ "@type": state.type_url, "bytes (base64)": state.value });
}

/** The text in the first field of a message. */
function firstField(message) {
  let at = 1;
  while (message[at] & 0x80) at += 1;
  return new TextDecoder().decode(message.subarray(at + 1));
}

function pretty(state = "null") {
  return state === "null" ? "no state" : indented(state);
}

function short(state) {
  const text = compact(state);
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
