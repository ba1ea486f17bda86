// Sorts a table by the column whose heading is pressed: numbers from the largest, names from A.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const isNumber = head.classList.contains("number");
      const sorted = head.getAttribute("aria-sort");
      const down = sorted ? sorted === "ascending" : isNumber;
      const value = (row) => row.cells[column].dataset.value;
      const compare = (a, b) => (isNumber ? value(a) - value(b) : value(a).localeCompare(value(b)));
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? compare(b, a) : compare(a, b)));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...rows);
    });
  });
}
