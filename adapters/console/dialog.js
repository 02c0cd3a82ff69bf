// Dialog: asks before something is changed, and says what came of it.

import { el } from "./dom.js";

function open(title, text, buttons) {
  const dialog = document.getElementById("dialog");
  return new Promise((resolve) => {
    dialog.replaceChildren(el("form", { method: "dialog" }, el("h1", { id: "dialog-title" }, title), el("p", {}, text), el("div", { class: "row" }, buttons)));
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}

/** Whether the user says yes. */
export function confirm(title, text, yes) {
  return open(title, text, [el("button", { value: "yes", class: "main" }, yes), el("button", { value: "no" }, "Leave it")]);
}

export function notice(title, text) {
  return open(title, text, [el("button", { value: "no", class: "main" }, "Close")]);
}
