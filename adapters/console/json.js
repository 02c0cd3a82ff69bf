// JSON as text: parsed, it would lose digits of its numbers, the order of its keys, and keys that come twice. All texts here are valid JSON.

const OPENS = ["{", "["];
const CLOSES = ["}", "]"];
// Beside strings, which may be too long for an expression.
const TOKEN = /[[\]{},:]|[^\s[\]{},:"]+|\s+/y;

/** The tokens of a text as they are written, each with where it begins. */
function* written(text) {
  let at = 0;
  while (at < text.length) {
    const from = at;
    if (text[at] === '"') {
      for (at += 1; at < text.length && text[at] !== '"'; at += 1) if (text[at] === "\\") at += 1;
      at += 1;
    } else {
      TOKEN.lastIndex = at;
      TOKEN.test(text);
      at = TOKEN.lastIndex;
    }
    const token = text.slice(from, at);
    if (token.trim()) yield [token, from];
  }
}

/** The tokens of a text: numbers as they are written, strings in one form. */
function tokens(text) {
  return Array.from(written(text), ([token]) => (token.startsWith('"') ? JSON.stringify(JSON.parse(token)) : token));
}

/** A text with a line for each value. */
export function indented(text) {
  const all = tokens(text);
  const shown = [];
  let depth = 0;
  const line = () => shown.push(`\n${"  ".repeat(depth)}`);
  for (const [at, token] of all.entries()) {
    if (CLOSES.includes(token)) {
      depth -= 1;
      if (!OPENS.includes(all[at - 1])) line();
    }
    shown.push(token === ":" ? ": " : token);
    if (OPENS.includes(token)) {
      depth += 1;
      if (!CLOSES.includes(all[at + 1])) line();
    }
    if (token === ",") line();
  }
  return shown.join("");
}

/** A text without spaces. */
export function compact(text) {
  return tokens(text).join("");
}

/** The text of a field of an object; undefined when there is none. */
export function field(text, name) {
  let [depth, last, from] = [0];
  for (const [token, at] of written(text)) {
    if (CLOSES.includes(token)) depth -= 1;
    if (from !== undefined && (depth === 0 || (depth === 1 && token === ","))) return text.slice(from, at).trim();
    if (depth === 1 && token === ":" && JSON.parse(last) === name) from = at + 1;
    if (OPENS.includes(token)) depth += 1;
    last = token;
  }
  return undefined;
}
