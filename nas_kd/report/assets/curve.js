// Hypervolume against time: a line that only rises at the end of a trial.

function drawCurve(holder, curve) {
  const axes = { x: curve.x, y: curve.y, logarithmic: false, tallest: 260, top: 26, xTitle: curve.x_title, yTitle: "hypervolume" };
  const plot = frame(holder, curve.alternative, axes);
  drawAxes(plot, axes);
  const steps = curve.points.map(([time, volume], n) =>
    n ? `H${plot.x(time).toFixed(1)}V${plot.y(volume).toFixed(1)}` : `M${plot.x(time).toFixed(1)},${plot.y(volume).toFixed(1)}`);
  node("path", { d: steps.join(""), class: "step" }, plot.svg);
  const [time, volume] = curve.points[curve.points.length - 1];
  node("circle", { cx: plot.x(time), cy: plot.y(volume), r: 4, class: "mark finalist on" }, plot.svg);
}
