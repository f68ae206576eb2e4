// The score on validation by epoch in a recipe probe: one line a setting, with its mark where it was stopped.

function drawProbe(holder, probe) {
  const axes = {
    x: probe.x, y: probe.y, logarithmic: false, maxHeight: 340, top: 26, xTitle: "epochs", yTitle: probe.y_title,
  };
  const plot = createPlot(holder, probe.alt_text, axes);
  drawAxes(plot, axes);
  const inside = svgElement("g", { "clip-path": plot.clip }, plot.svg);
  const drawn = probe.lines.map((line) => ({ line, pixels: line.points.map(([epoch, v]) => [plot.x(epoch), plot.y(v)]) }));
  for (const { line, pixels } of drawn) {
    const d = pixels.map(([x, y], n) => `${n ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
    svgElement("path", { d, class: `setting-line ${line.symbol}` }, inside);
  }
  const ends = drawn.map(({ line, pixels }) => ({ line, x: pixels[pixels.length - 1][0], y: pixels[pixels.length - 1][1] }));
  const visible = ends.filter((end) => end.y <= plot.area.bottom + 1);
  for (const { line, x, y } of visible) svgElement("path", { d: SHAPES[line.symbol](x, y), class: `point ${line.symbol}` }, plot.svg);
  labelLines(plot, visible.filter((end) => end.line.label));
}

// Beside the ends of the lines that have a label: the upper of two above its mark, others below if they have room; of a
// setting that is a mark alone, on its left.
function labelLines(plot, ends) {
  const top = Math.min(...ends.map((end) => end.y));
  for (const { line, x, y } of ends) {
    const alone = line.points.length === 1;
    const above = (ends.length > 1 && y === top) || y > plot.area.bottom - 24;
    const atEdge = x > plot.area.right - 60;
    const at = alone ? { x: x - 12, y: y + 4 } : { x: x + (atEdge ? 4 : -4), y: above ? y - 12 : y + 21 };
    svgElement("text", { ...at, class: `letter ${alone || atEdge ? "end" : ""}` }, plot.svg, line.label);
  }
}
