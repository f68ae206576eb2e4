// Hypervolume against time: a step line that rises whenever a trial finishes.

function drawCurve(holder, curve) {
  const axes = {
    x: curve.x, y: curve.y, logarithmic: false, maxHeight: 260, top: 26, xTitle: curve.x_title, yTitle: "hypervolume",
  };
  const plot = createPlot(holder, curve.alt_text, axes);
  drawAxes(plot, axes);
  const pixels = curve.points.map(([time, volume]) => [plot.x(time), plot.y(volume)]);
  const steps = pixels.map(([x, y], n) => (n ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)},${y.toFixed(1)}`));
  svgElement("path", { d: steps.join(""), class: "front-line" }, plot.svg);
  const [x, y] = pixels[pixels.length - 1];
  svgElement("circle", { cx: x, cy: y, r: 4, class: "point finalist on-front" }, plot.svg);
}
