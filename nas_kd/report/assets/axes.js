// An empty plot: its area, scales, axes and ticks.

function createPlot(holder, label, axes) {
  holder.querySelector("svg")?.remove();
  const width = Math.max(280, holder.clientWidth);
  const height = Math.round(Math.min(axes.maxHeight, Math.max(axes.maxHeight * 0.75, width * 0.74)));
  const area = { left: 58, right: width - 14, top: axes.top, bottom: height - 44 };
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });
  holder.prepend(svg);
  const id = `${holder.id}-area`;
  const box = { x: area.left, y: area.top, width: area.right - area.left, height: area.bottom - area.top };
  svgElement("rect", box, svgElement("clipPath", { id }, svgElement("defs", {}, svg)));
  const x = makeScale(axes.x, area.left, area.right, axes.logarithmic);
  const y = makeScale(axes.y, area.bottom, area.top, false);
  return { svg, area, box, x, y, clip: `url(#${id})`, width, height };
}

function drawAxes(plot, axes) {
  const { svg, area, x, y } = plot;
  const grid = svgElement("g", { class: "grid" }, svg);
  for (const tick of ticksThatFit(axes.y.ticks, y, 24)) {
    const at = y(tick.value);
    svgElement("line", { x1: area.left, x2: area.right, y1: at, y2: at }, grid);
    svgElement("text", { x: area.left - 8, y: at + 4, class: "tick end" }, svg, tick.label);
  }
  for (const tick of ticksThatFit(axes.x.ticks, x, 52)) {
    const at = x(tick.value);
    svgElement("line", { x1: at, x2: at, y1: area.top, y2: area.bottom }, grid);
    svgElement("text", { x: at, y: area.bottom + 18, class: "tick middle" }, svg, tick.label);
  }
  svgElement("path", { d: `M${area.left},${area.top}V${area.bottom}H${area.right}`, class: "axis" }, svg);
  svgElement("text", { x: (area.left + area.right) / 2, y: plot.height - 6, class: "middle" }, svg, axes.xTitle);
  svgElement("text", { x: 4, y: 13 }, svg, axes.yTitle);
}
