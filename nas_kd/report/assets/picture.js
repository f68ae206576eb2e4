// One front: budget, teacher, candidates, controls joined to their finalist, step line, members with error bars.

const ASIDE = { no_distillation: -10, no_assistants: 10 }; // pixels: their costs are their finalist's own

function drawPicture(holder, picture, marks, view) {
  const axes = {
    x: view === "close" ? picture.close[0] : picture.x,
    y: view === "close" ? picture.close[1] : picture[view],
    logarithmic: true, tallest: 440, top: 40,
    xTitle: picture.axis === "size" ? "size of the ONNX file" : "median latency of one call",
    yTitle: picture.provisional ? "validation accuracy   \u2196 better" : "accuracy   \u2196 better",
  };
  const plot = frame(holder, picture.alternative, axes);
  if (picture.limit !== null) shadeBudget(plot, picture);
  drawAxes(plot, axes);
  if (picture.limit !== null) budgetEdge(plot, picture);
  if (picture.least !== null) leastEdge(plot, picture);
  const inside = node("g", { "clip-path": plot.clip }, plot.svg);
  const placed = place(plot, picture, marks);
  drawSearch(inside, placed);
  drawTeacherLine(plot, inside, placed);
  drawJoins(inside, placed);
  drawStep(plot, inside, picture);
  const seen = placed.filter((p) => !p.outside);
  for (const spot of seen.filter((p) => p.mark.interval)) drawBars(plot, inside, spot, picture.axis);
  const ring = node("circle", { r: 14, class: "ring", visibility: "hidden" }, plot.svg);
  for (const spot of seen.filter((p) => !p.grey)) drawMark(plot.svg, spot, picture.axis);
  drawLetters(plot, seen);
  return { placed: seen, ring, svg: plot.svg };
}

function place(plot, picture, marks) {
  const placed = [];
  for (const mark of marks) {
    const cost = mark[picture.axis];
    if (cost === null) continue;
    const grey = GREY.has(mark.kind);
    const rug = mark.accuracy === null;
    const at = rug ? plot.area.bottom - (mark.kind === "failed" ? 12 : 4) : plot.y(mark.accuracy);
    const x = plot.x(cost) + (ASIDE[mark.kind] || 0);
    const outside = x < plot.area.left || x > plot.area.right || at > plot.area.bottom + 1;
    if (!outside || mark.kind === "teacher") placed.push({ mark, grey, outside, x, y: at });
  }
  return placed;
}

function drawSearch(parent, placed) {
  // One path a kind: thousands of points cost nothing.
  const many = placed.filter((p) => p.grey).length > 600;
  for (const kind of GREY) {
    const spots = placed.filter((p) => p.mark.kind === kind);
    const d = spots.map((p) => SHAPES[kind](p.x, p.y)).join("");
    if (d) node("path", { d, class: `mark ${kind}${many ? " many" : ""}` }, parent);
  }
}

function shadeBudget(plot, picture) {
  const edge = Math.min(plot.x(picture.limit), plot.area.right);
  node("rect", { ...plot.box, width: Math.max(0, edge - plot.area.left), class: "budget" }, plot.svg);
}

function leastEdge(plot, picture) {
  const y = plot.y(picture.least);
  if (y < plot.area.top || y > plot.area.bottom) return;
  node("line", { x1: plot.area.left, x2: plot.area.right, y1: y, y2: y, class: "edge least" }, plot.svg);
  node("text", { x: plot.area.left + 4, y: y - 5, class: "edge-label" }, plot.svg, picture.least_label);
}

function budgetEdge(plot, picture) {
  const edge = plot.x(picture.limit);
  const further = edge > plot.area.right;
  const label = picture.limit_label + (further ? " \u2192" : "");
  if (!further) node("line", { x1: edge, x2: edge, y1: plot.area.top, y2: plot.area.bottom, class: "edge" }, plot.svg);
  const half = label.length * 3.4;
  const at = Math.min(Math.max(edge, plot.area.left + half), plot.area.right - half);
  node("text", { x: at, y: plot.area.top - 7, class: "edge-label middle" }, plot.svg, label);
}

function drawTeacherLine(plot, parent, placed) {
  const teacher = placed.find((p) => p.mark.kind === "teacher");
  if (!teacher) return;
  node("line", { x1: plot.area.left, x2: plot.area.right, y1: teacher.y, y2: teacher.y, class: "teacher-line" }, parent);
  const name = teacher.mark.title.toLowerCase();
  const label = teacher.outside ? [`${name} (further right) \u2192`, plot.area.right - 6, "teacher-label end"]
    : [name, plot.area.left + 6, "teacher-label"];
  node("text", { x: label[1], y: teacher.y - 6, class: label[2] }, plot.svg, label[0]);
}

function drawJoins(parent, placed) {
  for (const spot of placed.filter((p) => p.mark.kind.startsWith("no_"))) {
    const owner = placed.find((p) => p.mark.letter && p.mark.id === spot.mark.id);
    if (owner) node("line", { x1: spot.x, y1: spot.y, x2: owner.x, y2: owner.y, class: "join" }, parent);
  }
}

function drawStep(plot, parent, picture) {
  if (!picture.step.length) return;
  const corners = picture.step.map(([cost, height]) => `${plot.x(cost).toFixed(1)},${plot.y(height).toFixed(1)}`);
  node("path", { d: `M${corners.join("L")}`, class: picture.provisional ? "step provisional" : "step" }, parent);
}

function drawBars(plot, parent, spot, axis) {
  const { mark, x } = spot;
  const [low, high] = mark.interval.map(plot.y);
  const cap = mark.letter ? 4 : 2.5;
  let d = `M${x},${low}V${high}M${x - cap},${low}h${2 * cap}M${x - cap},${high}h${2 * cap}`;
  if (axis === "latency" && mark.spread && mark.letter) {
    const [left, right] = mark.spread.map(plot.x);
    d += `M${left},${spot.y}H${right}M${left},${spot.y - cap}v${2 * cap}M${right},${spot.y - cap}v${2 * cap}`;
  }
  node("path", { d, class: `bars ${mark.kind}` }, parent);
}

function drawMark(parent, spot, axis) {
  const { mark } = spot;
  const on = mark.kind !== "finalist" || mark.fronts.includes(axis);
  const attributes = {
    d: SHAPES[mark.kind](spot.x, spot.y), class: `mark ${mark.kind}${on ? " on" : ""}`, "data-id": mark.id,
  };
  if (mark.letter) Object.assign(attributes, { tabindex: 0, role: "button", "aria-label": [mark.title, ...mark.lines].join(". ") });
  node("path", attributes, parent);
}

function drawLetters(plot, placed) {
  const taken = placed.filter((p) => !p.grey).map((p) => ({ x: p.x, y: p.y, half: 7 }));
  for (const spot of placed.filter((p) => p.mark.letter)) {
    const half = 6 + 2.5 * (spot.mark.label.length - 1);
    const tries = [[-13, -9], [13, -9], [-14, 12], [14, 12], [0, -17], [0, 20], [-24, 0], [24, 0]]
      .map(([dx, dy]) => [dx * (1 + 0.35 * (spot.mark.label.length - 1)), dy]);
    const free = ([dx, dy]) => {
      const x = spot.x + dx, y = spot.y + dy;
      if (x < plot.area.left + 8 || x > plot.area.right - 8 || y < plot.area.top + 8 || y > plot.area.bottom - 8) return false;
      return taken.every((t) => Math.hypot(t.x - x, t.y - y) > t.half + half);
    };
    const [dx, dy] = tries.find(free) || tries[0];
    taken.push({ x: spot.x + dx, y: spot.y + dy, half });
    node("text", { x: spot.x + dx, y: spot.y + dy + 4, class: "letter middle" }, plot.svg, spot.mark.label);
  }
}
