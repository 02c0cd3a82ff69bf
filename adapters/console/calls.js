// Slow calls: calls that were slow or failed, or were sampled, each as a waterfall of the stages that it passed.

import { get } from "./api.js";
import { el, pairs, table, tag, time } from "./dom.js";
import { REASONS } from "./flow.js";
import { none } from "./recording.js";

function first(call) {
  const { system, actor, action } = call.hops[0];
  return `${system}/${actor} ${action}`;
}

export function calls(main, { parts, query, signal, connected }) {
  const field = (name, title) => el("label", {}, title, el("input", { name, value: query.get(name) ?? "" }));
  const failed = el("select", { name: "failed" }, el("option", { value: "" }, "any"),
    [["true", "failed"], ["false", "slow or sampled"]].map(([value, text]) => el("option", { value, selected: query.get("failed") === value }, text)));
  const form = el("form", { class: "filter", "aria-label": "Filter", onsubmit: apply },
    field("system", "System"), field("name", "Actor"), field("id", "Trace or request id"), el("label", {}, "Outcome", failed), el("button", { class: "main" }, "List"));
  const list = el("div");
  if (parts[0]) main.append(el("h1", {}, "One call"), list);
  else main.append(el("h1", {}, "Slow calls"), el("p", { class: "soft" }, "Calls that have ended and were slow, failed, or sampled, newest first."), form, list);

  function apply(event) {
    event.preventDefault();
    const chosen = [...new FormData(form)].filter(([, value]) => value);
    const hash = `#/calls?${new URLSearchParams(chosen)}`;
    if (location.hash === hash) load();
    else location.hash = hash;
  }

  async function load() {
    try {
      const chosen = parts[0] ? `id=${encodeURIComponent(parts[0])}` : query;
      const page = await get(`/api/v1/calls?limit=100&${chosen}`);
      const found = page.calls;
      if (signal.aborted) return;
      connected(true);
      list.replaceChildren(...(parts[0] ? found.map(one) : [listed(page)]));
      if (parts[0] && !found.length) list.replaceChildren(el("p", {}, none(page, "calls", "This call is not kept any more.")));
    } catch (error) {
      if (!signal.aborted) list.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    }
  }
  load();
}

function listed(page) {
  const columns = [
    ["call", "", (call) => el("a", { class: "mono", href: `#/calls/${call.trace_id}` }, first(call))],
    ["(outcome)", "", (call) => call.error ? tag(call.error.kind, "bad") : ""],
    ["took", "num", (call) => time(call.took_ms)],
    ["longest in", "", (call) => longest(call)],
    ["made by", "", (call) => call.from ?? call.origin],
    ["began", "", (call) => call.began],
  ];
  return table("Calls", columns, page.calls, none(page, "calls", "No such call is kept."));
}

const stages = (call) => call.hops.flatMap((hop) => hop.stages);

/** Where most of the time went. */
function longest(call) {
  const parts = stages(call).flatMap(({ stage, queued_ms, served_ms }) => [[`queue of ${stage}`, queued_ms], [stage, served_ms]]);
  const [name, ms] = parts.reduce((one, other) => (other[1] > one[1] ? other : one), ["–", 0]);
  return ms > 0 ? `${name}, ${time(ms)}` : "–";
}

function one(call) {
  const rows = call.hops.map((hop) => [
    el("h2", {}, el("a", { class: "mono", href: `#/actors/${encodeURIComponent(hop.system)}/${encodeURIComponent(hop.actor)}` }, `${hop.system}/${hop.actor}`), ` ${hop.action}`),
    el("ol", { class: "waterfall" }, hop.stages.map((stage) => row(call, stage))),
  ]);
  return el("section", { "aria-label": `Call ${call.trace_id}` },
    pairs([["took", time(call.took_ms)], ["began", call.began], ["made by", call.from ?? call.origin], ["trace", call.trace_id], ["request", call.request_id],
      ["failed", call.error && `${call.error.kind} (${call.error.source}): ${call.error.text}`]]), rows);
}

/** A stage: when it began in the call, how long it was queued, and how long it was served. */
function row(call, { stage, starts_ms, queued_ms, served_ms, blocked_on_ms = {}, retries, failed }) {
  const share = (ms) => `${((100 * ms) / Math.max(call.took_ms, 1e-6)).toFixed(2)}%`;
  const bar = (kind, from, ms) => {
    const part = el("i", { class: kind });
    [part.style.left, part.style.width] = [share(from), share(ms)];
    return part;
  };
  const why = Object.entries(blocked_on_ms).map(([reason, ms]) => `${REASONS[reason] ?? reason} ${time(ms)}`);
  return el("li", {},
    el("span", {}, stage, failed ? [" ", tag("failed", "bad")] : ""),
    el("span", { class: "bars", "aria-hidden": "true" }, bar("queued", starts_ms, queued_ms), bar("served", starts_ms + queued_ms, served_ms)),
    el("span", { class: "num" }, `queued ${time(queued_ms)}, served ${time(served_ms)}`),
    why.length || retries ? el("span", { class: "soft why" }, [why.length ? `blocked on ${why.join(", ")}` : "", retries ? `${retries} retries` : ""].filter(Boolean).join("; ")) : "");
}
