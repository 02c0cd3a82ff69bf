// Makes elements. Text is always text: nothing that comes from the proxy is read as HTML.

/** An element with attributes and children; `on…` attributes are listeners. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** A table whose columns are [title, class, cell of an item]; a title in brackets is for those who do not see the column. */
export function table(caption, columns, items, empty) {
  const head = el("tr", {}, columns.map(([title, style]) => el("th", { class: style.replace("mono", ""), scope: "col" }, title.startsWith("(") ? el("span", { class: "unseen" }, title.slice(1, -1)) : title)));
  const row = (item) => el("tr", {}, columns.map(([, style, cell]) => el("td", { class: style }, cell(item))));
  const none = () => el("tr", {}, el("td", { class: "empty", colspan: columns.length }, empty));
  const body = items.length ? items.map(row) : [none()];
  const label = { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" };
  return el("div", label, el("table", {}, el("thead", {}, head), el("tbody", {}, body)));
}

/** Pairs of a name and a value. */
export function pairs(entries) {
  const shown = entries.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return el("dl", { class: "pairs" }, shown.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

export function tag(text, style = "") {
  return el("span", { class: `tag ${style}` }, text);
}

/** How full something is. The width is set by script, which the policy of the page allows. */
export function meter(part, all) {
  const share = all > 0 ? Math.min(1, part / all) : 0;
  const fill = el("i");
  fill.style.width = `${(share * 100).toFixed(1)}%`;
  return el("span", { class: share > 0.8 ? "meter high" : "meter", "aria-hidden": "true" }, fill);
}

/** The last values as a line. */
export function spark(values) {
  const most = Math.max(...values, 1e-9);
  const step = 100 / Math.max(values.length - 1, 1);
  const points = values.map((value, at) => `${(at * step).toFixed(1)},${(24 - (22 * value) / most).toFixed(1)}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  for (const [name, value] of [["viewBox", "0 0 100 26"], ["preserveAspectRatio", "none"], ["class", "spark"], ["aria-hidden", "true"]]) {
    svg.setAttribute(name, value);
  }
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  return svg;
}

export function count(value) {
  if (value === undefined) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return value >= 10 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}

export function time(ms) {
  if (ms === undefined) return "–";
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 1000) return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
  const s = ms / 1000;
  if (s < 120) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  if (s < 7200) return `${(s / 60).toFixed(0)} min`;
  return s < 172800 ? `${(s / 3600).toFixed(0)} h` : `${(s / 86400).toFixed(0)} d`;
}

export function bytes(value) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return `${value} B`;
}
