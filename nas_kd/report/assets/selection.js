// Hovering shows a candidate; a click selects it and highlights it in both plots and in the tables.

const HOVER_RADIUS = 26; // pixels within which the pointer means a point
const TRIAL_PENALTY = 4; // pixels by which finalists are preferred to trials

function nearestPoint(drawn, event) {
  const box = drawn.svg.getBoundingClientRect();
  const factor = drawn.svg.viewBox.baseVal.width / box.width;
  const x = (event.clientX - box.left) * factor;
  const y = (event.clientY - box.top) * factor;
  let nearest = null;
  let least = HOVER_RADIUS;
  for (const placed of drawn.placed) {
    const distance = Math.hypot(placed.x - x, placed.y - y) + (placed.isTrial ? TRIAL_PENALTY : 0);
    if (distance < least) [nearest, least] = [placed, distance];
  }
  return nearest;
}

function showTooltip(tooltip, holder, placed, svg) {
  tooltip.replaceChildren();
  htmlElement("strong", "", tooltip, placed.point.title);
  for (const line of placed.point.lines) htmlElement("span", "", tooltip, line);
  const factor = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  const x = placed.x * factor;
  const y = placed.y * factor;
  tooltip.hidden = false;
  const width = tooltip.offsetWidth;
  const left = Math.min(Math.max(0, x - width / 2), Math.max(0, holder.clientWidth - width));
  const above = y - tooltip.offsetHeight - 16;
  tooltip.style.left = `${left}px`;
  tooltip.style.top = `${above > -40 ? above : y + 18}px`;
}

// Opens the table of trials if no other table shows the candidate, and scrolls inside that table only.
function scrollToRow(row) {
  const holder = row.closest("details");
  if (!holder) return;
  if (!document.querySelector(`#finalist-table [data-id="${row.dataset.id}"]`)) holder.open = true;
  const scroll = row.closest(".scroll");
  scroll.scrollTop = row.offsetTop - scroll.clientHeight / 2;
}

// The state of the selection: `select` a candidate (or, again, none), `clear` it, `highlight` it after a redraw.
function createSelection(plots, pointsById, panel) {
  let selected = null;
  const highlight = () => {
    for (const { drawn } of plots) moveRing(drawn, selected);
    for (const row of document.querySelectorAll("table [data-id]")) {
      const isSelected = row.dataset.id === selected;
      row.classList.toggle("selected", isSelected);
      if (isSelected) row.setAttribute("aria-current", "true"); else row.removeAttribute("aria-current");
      if (isSelected) scrollToRow(row);
    }
    if (panel) describeSelection(panel, selected === null ? null : pointsById.get(selected));
  };
  const select = (id) => {
    selected = id === selected ? null : id;
    highlight();
  };
  return { select, highlight, clear: () => select(selected) };
}

function moveRing(drawn, id) {
  const placed = [...drawn.placed].reverse().find((p) => p.point.id === id);
  drawn.ring.setAttribute("visibility", placed ? "visible" : "hidden");
  if (!placed) return;
  drawn.ring.setAttribute("cx", placed.x);
  drawn.ring.setAttribute("cy", placed.y);
}

function describeSelection(panel, point) {
  panel.replaceChildren();
  if (!point) {
    htmlElement("span", "hint", panel, panel.dataset.hint);
    return;
  }
  htmlElement("strong", "", panel, point.title);
  htmlElement("code", "", panel, point.id);
  for (const line of point.lines) htmlElement("span", "", panel, line);
}
