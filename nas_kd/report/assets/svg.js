// Helpers for drawing: elements, scales, ticks and the shapes of the points.

const SVG = "http://www.w3.org/2000/svg";

function svgElement(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

function htmlElement(name, className, parent, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

// A function from values to pixels.
function makeScale(axis, from, to, logarithmic) {
  const transform = logarithmic ? Math.log : (value) => value;
  const low = transform(axis.low);
  const span = transform(axis.high) - low || 1;
  return (value) => from + ((transform(value) - low) / span) * (to - from);
}

// The ticks that fit with `gap` pixels between them: fine ones are dropped first, then every second of the rest.
function ticksThatFit(ticks, scale, gap) {
  for (const level of [1, 0]) {
    const kept = ticks.filter((tick) => tick.level <= level);
    const fits = kept.every((tick, n) => !n || Math.abs(scale(tick.value) - scale(kept[n - 1].value)) >= gap);
    if (kept.length > 1 && fits) return kept;
  }
  const coarse = ticks.filter((tick) => tick.level === 0);
  return (coarse.length > 1 ? coarse : ticks).filter((_, n) => n % 2 === 0);
}

// Path data of a shape around (x, y): its first corner, then relative steps.
function shapePath(x, y, first, steps) {
  return `M${(x + first[0]).toFixed(1)},${(y + first[1]).toFixed(1)}${steps}`;
}

// A regular polygon, or a star whose inner corners lie at `inner` times the radius.
function polygon(corners, radius, rotation, inner) {
  const count = inner ? corners * 2 : corners;
  const points = Array.from({ length: count }, (_, n) => {
    const distance = inner && n % 2 ? radius * inner : radius;
    const angle = rotation + (n * 2 * Math.PI) / count;
    return [distance * Math.sin(angle), -distance * Math.cos(angle)];
  });
  const steps = points.slice(1).map(([a, b], n) => `l${(a - points[n][0]).toFixed(2)},${(b - points[n][1]).toFixed(2)}`);
  return (x, y) => shapePath(x, y, points[0], `${steps.join("")}z`);
}

function circle(r) {
  return (x, y) => shapePath(x, y, [-r, 0], `a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0z`);
}

// Each kind of point has its own shape, so that colour is never the only difference.
const SHAPES = {
  winner: polygon(5, 10, 0, 0.45),
  finalist: circle(5.5),
  no_distillation: polygon(4, 6, Math.PI / 4),
  label_smoothing: polygon(5, 6, 0),
  no_assistants: polygon(3, 6, 0),
  teacher: polygon(4, 7.5, 0),
  finished: circle(2.5),
  pruned: polygon(3, 3.8, Math.PI),
  failed: (x, y) => shapePath(x, y, [-3, -3], "l6,6m-6,0l6,-6"),
  infeasible: (x, y) => shapePath(x, y, [0, -4], "v8"),
  "chosen-setting": polygon(5, 9, 0, 0.45),
  "rules-setting": polygon(4, 6.5, Math.PI / 4),
  "setting-0": circle(4.5),
  "setting-1": polygon(3, 5.5, 0),
  "setting-2": polygon(4, 5.5, 0),
  "setting-3": polygon(3, 5.5, Math.PI),
  "setting-4": (x, y) => shapePath(x, y, [-4, -4], "l8,8m-8,0l8,-8"),
  "setting-5": polygon(6, 5, 0),
  "setting-6": (x, y) => shapePath(x, y, [0, -5], "v10m-5,-5h10"),
  "setting-7": polygon(4, 6, Math.PI / 4, 0.4),
  "setting-8": (x, y) => shapePath(x, y, [-4, -5], "h8l-8,10h8z"),
};
const TRIAL_KINDS = new Set(["finished", "pruned", "failed", "infeasible"]);
const CONTROL_KINDS = new Set(["no_distillation", "label_smoothing", "no_assistants"]);

function drawLegendSymbols(root) {
  for (const holder of root.querySelectorAll("[data-symbol]")) {
    const svg = svgElement("svg", { viewBox: "-11 -11 22 22", width: 18, height: 18, "aria-hidden": "true" }, holder);
    const kind = holder.dataset.symbol;
    svgElement("path", { d: SHAPES[kind](0, 0), class: `point ${kind} on-front` }, svg);
  }
}
