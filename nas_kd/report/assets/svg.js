// Small tools for drawing: elements, scales and the shapes of the marks.

const SVG = "http://www.w3.org/2000/svg";
const NEAREST = 26; // pixels within which a mark is meant by the pointer

function node(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

function html(name, className, parent, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

function scaleOf(axis, from, to, logarithmic) {
  const turn = logarithmic ? Math.log : (value) => value;
  const low = turn(axis.low);
  const span = turn(axis.high) - low || 1;
  return (value) => from + ((turn(value) - low) / span) * (to - from);
}

// Ticks that fit: the fine ones go first, then every second of what is left.
function fitting(ticks, place, gap) {
  for (const level of [1, 0]) {
    const kept = ticks.filter((tick) => tick.level <= level);
    if (kept.length > 1 && kept.every((tick, n) => !n || Math.abs(place(tick.at) - place(kept[n - 1].at)) >= gap)) {
      return kept;
    }
  }
  const coarse = ticks.filter((tick) => tick.level === 0);
  return coarse.length > 1 ? coarse.filter((_, n) => n % 2 === 0) : ticks.filter((_, n) => n % 2 === 0);
}

// A shape around (x, y): its first corner, then relative steps.
function outline(x, y, first, rest) {
  return `M${(x + first[0]).toFixed(1)},${(y + first[1]).toFixed(1)}${rest}`;
}

function polygon(corners, radius, turn, inner) {
  const count = inner ? corners * 2 : corners;
  const points = Array.from({ length: count }, (_, n) => {
    const reach = inner && n % 2 ? radius * inner : radius;
    const angle = turn + (n * 2 * Math.PI) / count;
    return [reach * Math.sin(angle), -reach * Math.cos(angle)];
  });
  const steps = points.slice(1).map(([a, b], n) => `l${(a - points[n][0]).toFixed(2)},${(b - points[n][1]).toFixed(2)}`);
  return (x, y) => outline(x, y, points[0], `${steps.join("")}z`);
}

function circle(r) {
  return (x, y) => outline(x, y, [-r, 0], `a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0z`);
}

// Each kind has a shape of its own, so that colour is never the only difference.
const SHAPES = {
  winner: polygon(5, 10, 0, 0.45),
  finalist: circle(5.5),
  no_distillation: polygon(4, 6, Math.PI / 4),
  no_assistants: polygon(3, 6, 0),
  teacher: polygon(4, 7.5, 0),
  finished: circle(2.5),
  pruned: polygon(3, 3.8, Math.PI),
  failed: (x, y) => outline(x, y, [-3, -3], "l6,6m-6,0l6,-6"),
  infeasible: (x, y) => outline(x, y, [0, -4], "v8"),
};

function drawSymbols(root) {
  for (const holder of root.querySelectorAll("[data-symbol]")) {
    const svg = node("svg", { viewBox: "-11 -11 22 22", width: 18, height: 18, "aria-hidden": "true" }, holder);
    node("path", { d: SHAPES[holder.dataset.symbol](0, 0), class: `mark ${holder.dataset.symbol} on` }, svg);
  }
}
