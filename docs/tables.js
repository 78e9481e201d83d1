// Long tables are sorted by a click, or Enter, on a heading: up, down, and as they were. Rows in bold, which are sums, stay
// last. Those longer still have a field that leaves the rows in which its words are.
const LONG = 12, LONGER = 40;

function numberOf(text) {
  const found = /^[-−]?[\d,]*\.?\d+/.exec(text.replace(/^[<>~≤≥]\s*/, ""));
  return found ? Number(found[0].replaceAll(",", "").replace("−", "-")) : null;
}

function compared(column, down) {
  const text = (row) => row.cells[column]?.textContent.trim() ?? "";
  return (a, b) => {
    const [x, y] = [text(a), text(b)], [m, n] = [numberOf(x), numberOf(y)];
    if ((m === null) !== (n === null)) return m === null ? 1 : -1; // dashes stand behind numbers, either way
    const order = m === null ? x.localeCompare(y, "en", { numeric: true }) : m - n;
    return down ? -order : order;
  };
}

function sorted(rows, column, way) {
  return way === "none" ? rows : [...rows].sort(compared(column, way === "descending"));
}

function makeSortable(table) {
  const body = table.tBodies[0], headings = [...(table.tHead?.rows[0]?.cells ?? [])];
  const every = [...body.rows], sums = every.filter((row) => row.cells[0]?.querySelector("strong"));
  const rows = every.filter((row) => !sums.includes(row));
  const ways = { none: "ascending", ascending: "descending", descending: "none" };
  for (const [column, heading] of headings.entries()) {
    if (!heading.textContent.trim()) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const way = ways[heading.getAttribute("aria-sort")];
      for (const other of headings) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", way);
      body.replaceChildren(...sorted(rows, column, way), ...sums);
    });
  }
  if (rows.length >= LONGER) addFilter(table, rows);
}

function addFilter(table, rows) {
  const label = document.createElement("label"), field = document.createElement("input"), count = document.createElement("output");
  label.className = "filter";
  field.type = "search";
  count.setAttribute("aria-live", "polite");
  label.append("Rows with ", field);
  const box = document.createElement("p");
  box.append(label, " ", count);
  (table.closest(".md-typeset__scrollwrap") ?? table).before(box);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    count.value = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
  });
}

document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("article table:not(.highlighttable)")) {
    if (table.tBodies[0]?.rows.length >= LONG) makeSortable(table);
  }
});
