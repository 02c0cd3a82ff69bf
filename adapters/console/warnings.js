// Warnings: what is not as it should be, each with the page of the runbook that says what to do; and those pages.

import { get, poll, text } from "./api.js";
import { el, table } from "./dom.js";

const PERIOD_MS = 5000;
const KINDS = {
  stuck_turn: "stuck turn", host_away: "host away", flapping_host: "flapping host", full_mailbox: "full mailbox", retrying_effect: "effects tried again",
  overdue_schedule: "overdue schedule", certificate_ending: "certificate ending", disk_reserve_low: "disk reserve low",
};

const link = (page) => el("a", { href: `#/runbook/${encodeURIComponent(page)}` }, page);

export function warnings(main, view) {
  const list = el("div", { "aria-live": "off" });
  main.append(el("h1", {}, "Warnings"), list);
  poll(list, PERIOD_MS, view, async () => rows(await get("/admin/warnings")));
}

function rows({ warnings: found, others = [] }) {
  const columns = [
    ["warning", "", (warning) => KINDS[warning.kind] ?? warning.kind],
    ["of", "mono", (warning) => warning.what],
    ["since", "", (warning) => warning.since ? new Date(warning.since).toLocaleString() : "–"],
    ["why", "", (warning) => warning.sentence],
    ["what to do", "", (warning) => link(warning.runbook)],
  ];
  const rest = others.map(({ kind, more, unknown }) =>
    el("p", {}, `${KINDS[kind] ?? kind}: ${[more && `${more} more`, unknown && `there may be others: ${unknown}`].filter(Boolean).join("; ")}`));
  return [table("Warnings", columns, found, "No warnings."), ...rest];
}

export async function runbook(main, { parts, signal, connected }) {
  try {
    const page = await text(`/console/runbook/${encodeURIComponent(parts[0] ?? "")}`);
    connected(true);
    if (!signal.aborted) main.append(...blocks(page));
  } catch (error) {
    if (!error.status) connected(false, error.message);
    if (!signal.aborted) main.append(el("h1", {}, "Runbook"), el("p", { class: "error" }, error.message));
  }
}

/** The blocks of a page: headings, lists and paragraphs. */
function blocks(page) {
  return page.split(/\n{2,}/).filter((block) => block.trim()).map((block) => {
    const [, level, title] = /^(#+) (.*)$/.exec(block) ?? [];
    if (level) return el(level.length > 1 ? "h2" : "h1", {}, title);
    if (block.startsWith("- ")) return el("ul", {}, block.slice(2).split("\n- ").map((item) => el("li", {}, inline(item))));
    return el("p", {}, inline(block));
  });
}

/** Code, and links to other pages of the runbook; other links stay text. */
function inline(line) {
  return line.split(/(`[^`]+`|\[[^\]]+\]\([^)]+\))/).map((part) => {
    if (part.startsWith("`")) return el("code", {}, part.slice(1, -1));
    const [, title, target] = /^\[([^\]]+)\]\(([^)]+)\)$/.exec(part) ?? [];
    if (!title) return part;
    const page = /^([a-z-]+)\.md$/.exec(target)?.[1];
    return page ? el("a", { href: `#/runbook/${page}` }, title) : `${title} (${target.replace(/^(\.\.\/)+/, "docs/")})`;
  });
}
