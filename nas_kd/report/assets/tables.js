// Tables: a click on a column's head sorts by it; a click on a row selects its candidate.

// Each candidate is a tbody, whose first row holds the figures; teachers stay on top.
function makeSortable(table) {
  table.querySelectorAll("thead button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const ascending = head.getAttribute("aria-sort") === "descending"
        || (!head.hasAttribute("aria-sort") && !head.classList.contains("number"));
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const key = (body) => body.rows[0].cells[column].dataset.key;
      const bodies = [...table.tBodies].filter((body) => !body.classList.contains("teacher"));
      bodies.sort((a, b) => compareKeys(key(a), key(b)) * (ascending ? 1 : -1));
      table.append(...bodies);
    });
  });
}

function compareKeys(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}

function selectOnRowClick(select) {
  document.querySelectorAll("table [data-id]").forEach((row) => {
    row.addEventListener("click", () => {
      if (!String(window.getSelection())) select(row.dataset.id); // a drag selects text instead
    });
  });
}

function enableCopyButtons() {
  document.querySelectorAll("button[data-copy]").forEach((button) => {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  });
}
