// One candidate followed through both pictures and the tables: hover shows it, a click keeps it.

function nearest(drawn, event) {
  const box = drawn.svg.getBoundingClientRect();
  const factor = drawn.svg.viewBox.baseVal.width / box.width;
  const x = (event.clientX - box.left) * factor;
  const y = (event.clientY - box.top) * factor;
  let best = null;
  let least = NEAREST;
  for (const spot of drawn.placed) {
    const distance = Math.hypot(spot.x - x, spot.y - y) + (spot.grey ? 4 : 0);
    if (distance < least) [best, least] = [spot, distance];
  }
  return best;
}

function showTip(tip, holder, spot, svg) {
  tip.replaceChildren();
  html("strong", "", tip, spot.mark.title);
  for (const line of spot.mark.lines) html("span", "", tip, line);
  const factor = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  const x = spot.x * factor;
  const y = spot.y * factor;
  tip.hidden = false;
  const width = tip.offsetWidth;
  const left = Math.min(Math.max(0, x - width / 2), Math.max(0, holder.clientWidth - width));
  const above = y - tip.offsetHeight - 16;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > -40 ? above : y + 18}px`;
}

// Opens the long table on a candidate that no other table shows, and scrolls inside the table only.
function reveal(row) {
  const holder = row.closest("details");
  if (!holder) return;
  if (!document.querySelector(`#finalist-table tr[data-id="${row.dataset.id}"]`)) holder.open = true;
  const scroll = row.closest(".scroll");
  scroll.scrollTop = row.offsetTop - scroll.clientHeight / 2;
}

function follow(pictures, byId, note) {
  let chosen = null;
  const mark = () => {
    for (const { drawn } of pictures) {
      const spot = [...drawn.placed].reverse().find((p) => p.mark.id === chosen);
      drawn.ring.setAttribute("visibility", spot ? "visible" : "hidden");
      if (spot) {
        drawn.ring.setAttribute("cx", spot.x);
        drawn.ring.setAttribute("cy", spot.y);
      }
    }
    for (const row of document.querySelectorAll("tr[data-id]")) {
      const same = row.dataset.id === chosen;
      row.classList.toggle("chosen", same);
      if (same) row.setAttribute("aria-current", "true"); else row.removeAttribute("aria-current");
      if (same) reveal(row);
    }
    const shown = chosen === null ? null : byId.get(chosen);
    if (!note) return;
    note.replaceChildren();
    if (!shown) {
      html("span", "hint", note, note.dataset.hint);
      return;
    }
    html("strong", "", note, shown.title);
    html("code", "", note, shown.id);
    for (const line of shown.lines) html("span", "", note, line);
  };
  const choose = (id) => {
    chosen = id === chosen ? null : id;
    mark();
  };
  return { choose, mark, clear: () => choose(chosen) };
}
