"use strict";
// Sorting and downloads. Without this script the page still shows everything.

const announce = (words) => { document.getElementById("announce").textContent = words; };

// Numbers before texts before gaps; gaps stay last in both directions.
function compare(a, b, direction) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const x = Number(a), y = Number(b);
  const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  return direction * order;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].querySelector(".words").textContent;
      const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b), ascending ? 1 : -1));
      table.tBodies[0].append(...rows);
      announce(`Sorted by ${head.textContent.trim()}, ${ascending ? "ascending" : "descending"}`);
    });
  });
}

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function figureSvg(figure) {
  const svg = figure.querySelector("svg").cloneNode(true);
  const style = document.createElementNS("http://www.w3.org/2000/svg", "style");
  style.textContent = document.getElementById("figure-style").textContent;
  svg.prepend(style);
  return new XMLSerializer().serializeToString(svg);
}

// A field that a spreadsheet would run as a formula gets an apostrophe in front.
function field(text) {
  const plain = /^[=+\-@]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text;
  return /[",\n\r]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

function figureCsv(figure) {
  const rows = [...figure.querySelectorAll(".data tr")];
  return rows.map((row) => [...row.cells].map((cell) => field(cell.textContent)).join(",")).join("\n") + "\n";
}

for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", () => {
    const figure = button.closest("figure");
    if (button.dataset.download === "svg") save(figure.dataset.name + ".svg", "image/svg+xml", figureSvg(figure));
    else save(figure.dataset.name + ".csv", "text/csv", figureCsv(figure));
  });
}
