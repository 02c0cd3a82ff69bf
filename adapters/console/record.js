// Recording: opens a file of `tidegate record`; after that all views show what it holds.

import { count, el, pairs, time } from "./dom.js";
import { forget } from "./flow.js";
import { open, opened } from "./recording.js";

export function record(main, { signal, connected, reopened }) {
  const error = el("p", { class: "error", role: "alert" });
  const input = el("input", { type: "file", accept: ".json,application/json", onchange: read });
  main.append(el("h1", {}, "Recording"),
    el("p", {}, "A recording has the last ten minutes of a proxy: ", el("code", {}, "tidegate record FILE"), " writes one, from any proxy. It is read here and sent nowhere."),
    el("form", { class: "filter", "aria-label": "Recording", onsubmit: (event) => event.preventDefault() }, el("label", {}, "Open a recording", input)),
    error);
  const from = opened();
  if (from) {
    connected(true);
    main.append(about(from));
  }

  async function read() {
    const [file] = input.files;
    if (!file) return;
    try {
      open(await file.text());
      forget();
      if (!signal.aborted) reopened();
    } catch (failed) {
      error.textContent = failed.message;
    }
  }
}

/** What the recording says of its proxy. */
function about(from) {
  const absent = Object.entries(from.absent).map(([path, why]) => el("div", {}, `${path}: ${why}`));
  return el("section", {}, el("h2", {}, "The proxy"),
    pairs([["recorded at", from.recorded_at], ["address", from.address], ["version", from.version], ["up for", time(from.uptime_ms)],
      ["looks", count(from.looks.length)], ["looks that had no place", from.looks_left_out || undefined], ["not recorded", absent.length ? absent : undefined]]),
    el("h2", {}, "Settings"),
    el("pre", { tabindex: "0", "aria-label": "Settings" }, from.settings.join("\n")));
}
