// One front plot: budget, trials, teacher, front line, finalists with error bars, controls joined to their finalist.

// A control has the costs of its finalist; it is drawn this many pixels to the side.
const CONTROL_OFFSETS = { no_distillation: -10, label_smoothing: -20, no_assistants: 10 };
const MANY_TRIALS = 600; // above which they are drawn paler

function drawFrontPlot(holder, data, points, view) {
  const [x, y] = { default: [data.x, data.y], all: [data.x, data.y_all], finalists: data.finalists_view }[view];
  const axes = {
    x, y, logarithmic: true, maxHeight: 440, top: 40,
    xTitle: data.axis === "size" ? "size of the ONNX file" : "median latency per call",
    yTitle: `${data.y_title}   \u2196 better`,
  };
  const plot = createPlot(holder, data.alt_text, axes);
  if (data.limit !== null) shadeBudget(plot, data);
  drawAxes(plot, axes);
  if (data.limit !== null) drawLimit(plot, data);
  if (data.min_score !== null) drawMinScore(plot, data);
  const inside = svgElement("g", { "clip-path": plot.clip }, plot.svg);
  const placed = placePoints(plot, data.axis, points);
  drawTrials(inside, placed);
  drawTeacherLine(plot, inside, placed);
  drawControlLines(inside, placed);
  drawFrontLine(plot, inside, data);
  const visible = placed.filter((p) => !p.outside);
  for (const p of visible.filter((one) => one.point.interval)) drawErrorBars(plot, inside, p, data.axis);
  const ring = svgElement("circle", { r: 14, class: "ring", visibility: "hidden" }, plot.svg);
  for (const p of visible.filter((one) => !one.isTrial)) drawPoint(plot.svg, p, data.axis);
  drawLetters(plot, visible);
  return { placed: visible, ring, svg: plot.svg };
}

// Points with their pixels; of those outside the view only the teacher, whose line is drawn all the same.
function placePoints(plot, axis, points) {
  const placed = [];
  for (const point of points) {
    const cost = point[axis];
    if (cost === null) continue;
    const bottom = plot.area.bottom - (point.kind === "failed" ? 12 : 4); // of trials without a score
    const y = point.score === null ? bottom : plot.y(point.score);
    const x = plot.x(cost) + (CONTROL_OFFSETS[point.kind] || 0);
    const outside = x < plot.area.left || x > plot.area.right || y > plot.area.bottom + 1;
    if (!outside || point.kind === "teacher") placed.push({ point, isTrial: TRIAL_KINDS.has(point.kind), outside, x, y });
  }
  return placed;
}

// All trials of a kind are one path, so that thousands of them draw fast.
function drawTrials(parent, placed) {
  const many = placed.filter((p) => p.isTrial).length > MANY_TRIALS;
  for (const kind of TRIAL_KINDS) {
    const d = placed.filter((p) => p.point.kind === kind).map((p) => SHAPES[kind](p.x, p.y)).join("");
    if (d) svgElement("path", { d, class: `point ${kind}${many ? " many" : ""}` }, parent);
  }
}

function shadeBudget(plot, data) {
  const edge = Math.min(plot.x(data.limit), plot.area.right);
  svgElement("rect", { ...plot.box, width: Math.max(0, edge - plot.area.left), class: "budget" }, plot.svg);
}

function drawLimit(plot, data) {
  const edge = plot.x(data.limit);
  const outside = edge > plot.area.right;
  const label = data.limit_label + (outside ? " \u2192" : "");
  const ends = { x1: edge, x2: edge, y1: plot.area.top, y2: plot.area.bottom };
  if (!outside) svgElement("line", { ...ends, class: "limit" }, plot.svg);
  const half = label.length * 3.4;
  const at = Math.min(Math.max(edge, plot.area.left + half), plot.area.right - half);
  svgElement("text", { x: at, y: plot.area.top - 7, class: "limit-label middle" }, plot.svg, label);
}

function drawMinScore(plot, data) {
  const y = plot.y(data.min_score);
  if (y < plot.area.top || y > plot.area.bottom) return;
  const ends = { x1: plot.area.left, x2: plot.area.right, y1: y, y2: y };
  svgElement("line", { ...ends, class: "limit min-score" }, plot.svg);
  svgElement("text", { x: plot.area.left + 4, y: y - 5, class: "limit-label" }, plot.svg, data.min_score_label);
}

function drawTeacherLine(plot, parent, placed) {
  const teacher = placed.find((p) => p.point.kind === "teacher");
  if (!teacher) return;
  const ends = { x1: plot.area.left, x2: plot.area.right, y1: teacher.y, y2: teacher.y };
  svgElement("line", { ...ends, class: "teacher-line" }, parent);
  const name = teacher.point.title.toLowerCase();
  const label = teacher.outside
    ? { text: `${name} (further right) \u2192`, x: plot.area.right - 6, class: "teacher-label end" }
    : { text: name, x: plot.area.left + 6, class: "teacher-label" };
  svgElement("text", { x: label.x, y: teacher.y - 6, class: label.class }, plot.svg, label.text);
}

function drawControlLines(parent, placed) {
  for (const control of placed.filter((p) => CONTROL_KINDS.has(p.point.kind))) {
    const finalist = placed.find((p) => p.point.letter && p.point.id === control.point.id);
    if (!finalist) continue;
    const ends = { x1: control.x, y1: control.y, x2: finalist.x, y2: finalist.y };
    svgElement("line", { ...ends, class: "control-line" }, parent);
  }
}

function drawFrontLine(plot, parent, data) {
  if (!data.front_line.length) return;
  const corners = data.front_line.map(([cost, score]) => `${plot.x(cost).toFixed(1)},${plot.y(score).toFixed(1)}`);
  const name = data.provisional ? "front-line provisional" : "front-line";
  svgElement("path", { d: `M${corners.join("L")}`, class: name }, parent);
}

function drawErrorBars(plot, parent, placed, axis) {
  const { point, x, y } = placed;
  const [low, high] = point.interval.map(plot.y);
  const cap = point.letter ? 4 : 2.5;
  let d = `M${x},${low}V${high}M${x - cap},${low}h${2 * cap}M${x - cap},${high}h${2 * cap}`;
  if (axis === "latency" && point.latency_interval) {
    const [left, right] = point.latency_interval.map(plot.x);
    d += `M${left},${y}H${right}M${left},${y - cap}v${2 * cap}M${right},${y - cap}v${2 * cap}`;
  }
  svgElement("path", { d, class: `error-bars ${point.kind}` }, parent);
}

function drawPoint(parent, placed, axis) {
  const { point, x, y } = placed;
  const onFront = point.kind !== "finalist" || point.fronts.includes(axis);
  const path = svgElement("path", {
    d: SHAPES[point.kind](x, y), class: `point ${point.kind}${onFront ? " on-front" : ""}`, "data-id": point.id,
  }, parent);
  if (!point.letter) return;
  const label = [point.title, ...point.lines].join(". ");
  for (const [key, value] of Object.entries({ tabindex: 0, role: "button", "aria-label": label })) path.setAttribute(key, value);
}

// Each letter beside its point, where no other point or letter is.
function drawLetters(plot, placed) {
  const taken = placed.filter((p) => !p.isTrial).map((p) => ({ x: p.x, y: p.y, half: 7 }));
  for (const { point, x, y } of placed.filter((p) => p.point.letter)) {
    const extra = point.label.length - 1;
    const half = 6 + 2.5 * extra;
    const spots = [[-13, -9], [13, -9], [-14, 12], [14, 12], [0, -17], [0, 20], [-24, 0], [24, 0]]
      .map(([dx, dy]) => ({ x: x + dx * (1 + 0.35 * extra), y: y + dy }));
    const isFree = (spot) => spot.x >= plot.area.left + 8 && spot.x <= plot.area.right - 8
      && spot.y >= plot.area.top + 8 && spot.y <= plot.area.bottom - 8
      && taken.every((other) => Math.hypot(other.x - spot.x, other.y - spot.y) > other.half + half);
    const spot = spots.find(isFree) || spots[0];
    taken.push({ ...spot, half });
    svgElement("text", { x: spot.x, y: spot.y + 4, class: "letter middle" }, plot.svg, point.label);
  }
}
