// Draws what the page holds as data and connects it.

const GREY = new Set(["finished", "pruned", "failed", "infeasible"]);

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = new Map();
  for (const mark of data.marks) if (!mark.kind.startsWith("no_")) byId.set(mark.id, mark);
  let view = "near";
  const pictures = data.pictures.map((picture) => ({ picture, holder: document.getElementById(`plot-${picture.axis}`) }));
  const curves = data.curves.map((curve, n) => ({ curve, holder: document.getElementById(`curve-${n}`) }));
  const following = follow(pictures, byId, document.getElementById("chosen"));
  const draw = () => {
    for (const one of pictures) one.drawn = drawPicture(one.holder, one.picture, data.marks, view);
    for (const { curve, holder } of curves) drawCurve(holder, curve);
    following.mark();
  };
  draw();
  for (const one of pictures) listen(one, following);
  drawSymbols(document);
  document.querySelectorAll("table.sortable").forEach(sortable);
  followRows(following.choose);
  copyButtons();
  for (const button of document.querySelectorAll("button[data-view]")) {
    button.addEventListener("click", () => {
      view = button.dataset.view;
      document.querySelectorAll("button[data-view]").forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
      draw();
    });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") following.clear(); });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) { width = window.innerWidth; draw(); }
  });
}

function listen(one, following) {
  const tip = html("div", "tip", one.holder);
  tip.hidden = true;
  const hide = () => { tip.hidden = true; };
  const at = (event) => {
    const spot = nearest(one.drawn, event);
    one.holder.classList.toggle("over", Boolean(spot));
    if (spot) showTip(tip, one.holder, spot, one.drawn.svg); else hide();
    return spot;
  };
  one.holder.addEventListener("pointermove", at);
  one.holder.addEventListener("pointerleave", hide);
  one.holder.addEventListener("click", (event) => {
    const spot = at(event);
    if (spot) following.choose(spot.mark.id);
  });
  one.holder.addEventListener("keydown", (event) => {
    const id = event.target.dataset.id;
    if (!id || (event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    following.choose(id);
  });
  one.holder.addEventListener("focusin", (event) => {
    const spot = one.drawn.placed.find((p) => p.mark.letter && p.mark.id === event.target.dataset.id);
    if (spot) showTip(tip, one.holder, spot, one.drawn.svg);
  });
  one.holder.addEventListener("focusout", hide);
}

start();
