// Recording: answers from a file of `tidegate record` instead of the proxy, as of one of its looks.

const FORMAT = "tidegate-record";
const VERSION = 1;
// Calls that are recorded; their answer does not say whether there were more.
const CALLS = 200;
// Why there is nothing of the last ten minutes.
export const NO_LOOK = "This recording has no look at its proxy: the first one comes five seconds after the start.";

let recording;
let at = 0;
// Told when another look is chosen.
const moved = new EventTarget();

export class NotRecorded extends Error {
  status = 404;
}

/** Whether this is what people mean who wait for an actor: its parked turn, else the first that waits. */
function waitsFor(actor, reason) {
  const on = (actor.running?.blocked_on ? actor.running : actor.waiting)?.blocked_on ?? "";
  return on.split(" ")[0] === (reason === "actor_turn" ? "turn" : reason);
}

// The list of each answer that has one, and what its filters mean. Others are refused.
const LISTS = {
  "/admin/waiting": ["actors", {
    reason: waitsFor,
    host: (actor, host) => actor.host === host,
    system: (actor, system) => actor.system === system,
  }],
  "/api/v1/calls": ["calls", {
    id: (call, id) => call.trace_id === id || call.request_id === id,
    system: (call, system) => call.hops.some((hop) => hop.system === system),
    name: (call, name) => call.hops.some((hop) => hop.actor === name),
    failed: (call, failed) => String(call.error !== undefined) === failed,
  }],
  "/api/v1/actors": ["actors", {
    system: (actor, system) => actor.system === system,
    name: (actor, name) => actor.name === name,
    definition: (actor, definition) => actor.definition === definition,
    host: (actor, host) => actor.host === host,
    state: (actor, state) => actor.active === (state === "live"),
  }],
  "/api/v1/effects": ["effects", { state: (effect, state) => effect.state === state }],
  "/api/v1/channels": ["channels", { system: (topic, system) => topic.system === system }],
};

/** Opens the text of a file. */
export function open(text) {
  let read;
  try {
    read = JSON.parse(text);
  } catch (error) {
    throw new Error(`This file is not JSON: ${error.message}`);
  }
  if (read?.format !== FORMAT) throw new Error("This file is no recording of Tidegate.");
  if (read.format_version !== VERSION) throw new Error(`This recording has format ${read.format_version}; this console reads format ${VERSION}.`);
  if (![read.looks, read.settings].every(Array.isArray) || ![read.sections, read.absent].every((part) => part && typeof part === "object")) throw new Error("This recording is damaged: parts of it are missing.");
  recording = read;
  at = Math.max(0, read.looks.length - 1);
}

export function close() {
  recording = undefined;
}

/** The recording that is open, if there is one. */
export function opened() {
  return recording;
}

/** The number of the look that is shown, and the look. */
export function shown() {
  return { at, look: recording.looks[at] };
}

/** Shows another look. */
export function moveTo(number) {
  at = number;
  moved.dispatchEvent(new Event("moved"));
}

/** The part of an answer that the query chooses; `recorded` is how many there are to choose from, when the proxy had more. */
function filtered(path, answer, query) {
  const [list, filters] = LISTS[path] ?? [Object.keys(answer).find((name) => Array.isArray(answer[name])), {}];
  const all = answer[list];
  let found = all;
  for (const [name, value] of query) {
    // A page of the recording is all that there is, and a measure has a section of its own.
    if (name === "limit" || name === "by") continue;
    if (!found || !Object.hasOwn(filters, name)) throw new NotRecorded(`A recording is not filtered by ${name}.`);
    found = found.filter((item) => filters[name](item, value));
  }
  const { next, ...rest } = answer;
  if (!all) return rest;
  const isCut = next || answer.all > all.length || (path === "/api/v1/calls" && all.length >= CALLS);
  return { ...rest, [list]: found, recorded: isCut ? all.length : undefined };
}

/** A section by its path, whichever characters of it are percent-encoded. */
function sections(path) {
  const plain = decodeURIComponent(path);
  return Object.entries(recording.sections).find(([name]) => decodeURIComponent(name) === plain)?.[1];
}

/** What the proxy answered to this path when it was recorded. */
export function answer(asked) {
  const [path, query = ""] = asked.split("?");
  const chosen = [...new URLSearchParams(query)].filter(([, value]) => value);
  const { look } = shown();
  const now = { "/admin/flow": look?.flow, "/admin/waiting": look?.waiting };
  const by = new URLSearchParams(query).get("by");
  const section = by ? `${path}?by=${by}` : path;
  if (Object.hasOwn(now, path) && !look) throw new NotRecorded(NO_LOOK);
  const known = now[path] ?? sections(section);
  if (!known) throw new NotRecorded(`This is not in the recording${recording.absent[section] ? `: ${recording.absent[section]}` : "."}`);
  const result = filtered(path, known, chosen);
  return path === "/admin/waiting" && !result.recorded ? { ...result, all: result.actors.length } : result;
}

/** How many are found, in words. */
export function tally(number, { next, recorded, all }, what) {
  return recorded ? `${number} of the ${recorded} recorded ${what}; the proxy had ${all ?? "more"}` : `${number}${next ? " and more" : ""} ${what}`;
}

/** That none is found, in words; `otherwise` where all are known. */
export function none({ recorded }, what, otherwise) {
  return recorded ? `Not among the ${recorded} recorded ${what}; the proxy had more.` : otherwise;
}

/** Calls `told` with the looks up to the one that is shown, whenever another is; until the signal ends it. */
export function follow(told, changed, signal) {
  const tell = () => {
    const looks = recording.looks.slice(Math.max(0, at - 59), at + 1);
    looks.forEach(({ flow }, number) => told(structuredClone(flow), number === 0));
    changed(true);
  };
  moved.addEventListener("moved", tell, { signal });
  tell();
}

/** Calls `then` whenever another look is shown; until the signal ends it. */
export function onMove(then, signal) {
  moved.addEventListener("moved", then, { signal });
}
