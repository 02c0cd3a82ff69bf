// Asks the admin port, or the recording that is open. With a token set, the page asks for it once and keeps it until its tab closes.

import { el } from "./dom.js";
import { answer, follow, opened } from "./recording.js";

const KEY = "tidegate-admin-token";

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

function headers(more) {
  const token = sessionStorage.getItem(KEY);
  const own = { accept: "application/json", ...more };
  return token ? { ...own, authorization: `Bearer ${token}` } : own;
}

async function failed(response) {
  const text = await response.text();
  try {
    const problem = JSON.parse(text);
    return new Refused(response.status, problem.detail ?? problem.error ?? text);
  } catch {
    return new Refused(response.status, text || response.statusText);
  }
}

/** Whether the failure says that a token is needed, or that the one that was shown is wrong. */
function needsToken(error) {
  return error.status === 403 && error.message.includes("TIDEGATE_ADMIN_TOKEN");
}

let asking;

/** Asks the user for the token, once for all requests that wait for it. */
function askForToken(why) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("dialog");
    const input = el("input", { type: "password", name: "token", autocomplete: "off", required: true });
    const form = el(
      "form",
      { method: "dialog", onsubmit: () => sessionStorage.setItem(KEY, input.value) },
      el("h1", { id: "dialog-title" }, "Administrator's token"),
      el("p", { class: "soft" }, why),
      el("label", {}, "TIDEGATE_ADMIN_TOKEN", input),
      el("div", { class: "row" }, el("button", { class: "main" }, "Continue")),
    );
    dialog.replaceChildren(form);
    dialog.addEventListener("close", () => { asking = undefined; resolve(); }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function send(path, options = {}) {
  for (;;) {
    const used = sessionStorage.getItem(KEY);
    const response = await fetch(path, { ...options, headers: headers(options.headers), cache: "no-store" });
    if (response.ok) return response;
    const error = await failed(response);
    if (!needsToken(error)) throw error;
    // Somebody may have given another one meanwhile.
    if (used === sessionStorage.getItem(KEY)) {
      sessionStorage.removeItem(KEY);
      await askForToken(error.message);
      if (!sessionStorage.getItem(KEY)) throw error;
    }
  }
}

export async function get(path) {
  if (opened()) return answer(path);
  return (await send(path)).json();
}

/** As `get`, as the text that it is. */
export async function getText(path) {
  return opened() ? JSON.stringify(answer(path)) : text(path);
}

/** A text of the console. */
export async function text(path) {
  return (await send(path)).text();
}

/** Changes something; the body is JSON text, and so is the answer. */
export async function changeText(method, path, body) {
  if (opened()) throw new Refused(409, "This is a recording: nothing can be changed.");
  const options = body === undefined ? { method } : { method, body, headers: { "content-type": "application/json" } };
  return (await send(path, options)).text();
}

export async function change(method, path) {
  const answered = await changeText(method, path);
  return answered ? JSON.parse(answered) : {};
}

/** Calls `told` with each event of a stream, and, of a recording, with whether it is the first of a series; and `changed` with whether there is one; until the signal ends it. */
export async function stream(path, told, changed, signal) {
  if (opened()) return follow(told, changed, signal);
  while (!signal.aborted) {
    try {
      const response = await send(path, { signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      changed(true);
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        for (const event of events) {
          const data = event.split("\n").find((line) => line.startsWith("data: "));
          if (data) told(JSON.parse(data.slice(6)));
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      changed(false, error);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

/** Shows in `place` what `ask` answers, again and again until the view ends. What somebody is about to press stays where it is. */
export function poll(place, period, { signal, connected }, ask) {
  async function refresh() {
    if (signal.aborted) return;
    try {
      const parts = await ask();
      connected(true);
      if (!signal.aborted && !place.contains(document.activeElement)) place.replaceChildren(...parts);
    } catch (error) {
      if (error.status) place.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
      else connected(false, error.message);
    }
    setTimeout(refresh, period);
  }
  refresh();
}

/** The path of an actor. */
export function actorPath(system, name) {
  return `/api/v1/system/${encodeURIComponent(system)}/actors/${encodeURIComponent(name)}`;
}
