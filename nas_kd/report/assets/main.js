// Draws the plots from the data embedded in the page, and connects them with the tables.

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const pointsById = new Map();
  for (const point of data.points) if (!CONTROL_KINDS.has(point.kind)) pointsById.set(point.id, point);
  const plots = data.plots.map((plot) => ({ plot, holder: document.getElementById(`plot-${plot.axis}`) }));
  const curves = data.curves.map((curve, n) => ({ curve, holder: document.getElementById(`curve-${n}`) }));
  const selection = createSelection(plots, pointsById, document.getElementById("selection"));
  let view = "default";
  const draw = () => {
    for (const one of plots) one.drawn = drawFrontPlot(one.holder, one.plot, data.points, view);
    for (const { curve, holder } of curves) drawCurve(holder, curve);
    if (data.probe) drawProbe(document.getElementById("probe-plot"), data.probe);
    selection.highlight();
  };
  draw();
  for (const one of plots) listen(one, selection);
  drawLegendSymbols(document);
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  selectOnRowClick(selection.select);
  enableCopyButtons();
  const buttons = [...document.querySelectorAll("button[data-view]")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      view = button.dataset.view;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      draw();
    });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") selection.clear(); });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) { width = window.innerWidth; draw(); }
  });
}

// Pointer and keyboard events of one front plot.
function listen(one, selection) {
  const tooltip = htmlElement("div", "tooltip", one.holder);
  tooltip.hidden = true;
  const hide = () => { tooltip.hidden = true; };
  const hover = (event) => {
    const placed = nearestPoint(one.drawn, event);
    one.holder.classList.toggle("over-point", Boolean(placed));
    if (placed) showTooltip(tooltip, one.holder, placed, one.drawn.svg); else hide();
    return placed;
  };
  one.holder.addEventListener("pointermove", hover);
  one.holder.addEventListener("pointerleave", hide);
  one.holder.addEventListener("click", (event) => {
    const placed = hover(event);
    if (placed) selection.select(placed.point.id);
  });
  one.holder.addEventListener("keydown", (event) => {
    const id = event.target.dataset.id;
    if (!id || (event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    selection.select(id);
  });
  one.holder.addEventListener("focusin", (event) => {
    const placed = one.drawn.placed.find((p) => p.point.letter && p.point.id === event.target.dataset.id);
    if (placed) showTooltip(tooltip, one.holder, placed, one.drawn.svg);
  });
  one.holder.addEventListener("focusout", hide);
}

start();
