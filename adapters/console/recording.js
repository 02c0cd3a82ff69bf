// Recording: answers from a file of `tidegate record` instead of the proxy, as of one of its looks.

const FORMAT = "tidegate-record";
const VERSION = 1;

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

function filtered(path, answer, query) {
  const [list, filters] = LISTS[path] ?? [undefined, {}];
  let found = list ? answer[list] : undefined;
  for (const [name, value] of query) {
    // A page of the recording is all that there is, and a measure has a section of its own.
    if (name === "limit" || name === "by") continue;
    if (!found || !Object.hasOwn(filters, name)) throw new NotRecorded(`A recording is not filtered by ${name}.`);
    found = found.filter((item) => filters[name](item, value));
  }
  if (!list) return answer;
  const { next, ...rest } = answer;
  return { ...rest, [list]: found };
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
  const known = Object.hasOwn(now, path) ? now[path] : sections(section);
  if (!known) throw new NotRecorded(`This is not in the recording${recording.absent[section] ? `: ${recording.absent[section]}` : "."}`);
  const result = filtered(path, known, chosen);
  return path === "/admin/waiting" && chosen.some(([name]) => name !== "limit") ? { ...result, all: result.actors.length } : result;
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
