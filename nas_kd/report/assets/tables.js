// Tables: sorted by a click on a column's head; a click on a row follows its candidate.

function sortable(table) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const rising = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && !head.classList.contains("number"));
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const rows = [...body.rows].filter((row) => row.dataset.id !== "teacher");
      rows.sort((a, b) => compare(a.cells[column].dataset.key, b.cells[column].dataset.key) * (rising ? 1 : -1));
      body.append(...rows);
    });
  });
}

function compare(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}

function followRows(choose) {
  document.querySelectorAll("tbody tr[data-id]").forEach((row) => {
    row.addEventListener("click", () => {
      if (!String(window.getSelection())) choose(row.dataset.id);
    });
  });
}

function copyButtons() {
  document.querySelectorAll("button[data-copy]").forEach((button) => {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  });
}
