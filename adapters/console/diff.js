// Diff: the lines that two texts share, and those that only one has.

// Beyond it the common lines are not searched for: the table has as many cells as the product of both lengths.
const CELLS = 4e6;

/** Pairs of a mark ("+", "-" or " ") and a line. */
export function lines(before, after) {
  const [old, now] = [before.split("\n"), after.split("\n")];
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start += 1;
  let end = 0;
  while (end < old.length - start && end < now.length - start && old.at(-1 - end) === now.at(-1 - end)) end += 1;
  const middle = between(old.slice(start, old.length - end), now.slice(start, now.length - end));
  const same = (list) => list.map((line) => [" ", line]);
  return [...same(old.slice(0, start)), ...middle, ...same(old.slice(old.length - end))];
}

/** By the longest common subsequence. */
function between(old, now) {
  if (old.length * now.length > CELLS) return [...old.map((line) => ["-", line]), ...now.map((line) => ["+", line])];
  const width = now.length + 1;
  const most = new Uint32Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = now.length - 1; j >= 0; j -= 1) {
      most[i * width + j] = old[i] === now[j] ? most[(i + 1) * width + j + 1] + 1 : Math.max(most[(i + 1) * width + j], most[i * width + j + 1]);
    }
  }
  const marked = [];
  let [i, j] = [0, 0];
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      marked.push([" ", old[i]]);
      i += 1;
      j += 1;
    } else if (i < old.length && (j === now.length || most[(i + 1) * width + j] >= most[i * width + j + 1])) {
      marked.push(["-", old[i]]);
      i += 1;
    } else {
      marked.push(["+", now[j]]);
      j += 1;
    }
  }
  return marked;
}
