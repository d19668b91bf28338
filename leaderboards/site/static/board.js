// The table of a page: order, search, filters, columns, what is shown as text, and all of it in the address.
// The table is in the page already; DataTables (vendor/) enhances it.
"use strict";

const table = document.querySelector("table.rich");
const SHOWN = 50; // rows of a page of the table

const find = (id) => document.getElementById(id);
const facets = [...document.querySelectorAll("#tools select[data-facet]")]; // of rows, by their data- attributes
const where = find("where"); // the column that a verdict is asked of, where there is a choice
const tools = { search: find("search"), verdict: find("verdict") };
for (const facet of facets) tools[facet.id] = facet;
if (where) tools.where = where;
const said = (text) => { find("said").textContent = text; };

const heads = [...table.tHead.rows[0].cells].map((head) => head.querySelector(".l1").textContent);
const numeric = heads.map((_, place) => place).filter((place) => !("words" in table.tHead.rows[0].cells[place].dataset));

const shown = new DataTable(table, {
  order: [],
  paging: table.tBodies[0].rows.length > SHOWN,
  pageLength: SHOWN,
  lengthMenu: [SHOWN, 200, { label: "all", value: -1 }],
  autoWidth: false,
  columnDefs: [{ targets: 0, cellType: "th" }, { targets: numeric, searchable: false }],
  layout: { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: ["pageLength", "paging"] },
});

// The library's own controls stand under the table, outside the part that scrolls.
const region = table.closest(".scroll");
const around = shown.table().container();
const inner = table.parentElement;
region.before(around);
inner.append(region);
region.append(table);

const tone = (index, column) => shown.cell(index, column).node().className;
const asked = () => Number(where ? where.value : tools.verdict.dataset.column);

shown.search.fixed("chosen", (text, data, index) => {
  const row = shown.row(index).node().dataset;
  return facets.every((facet) => !facet.value || row[facet.dataset.facet] === facet.value) &&
    (!tools.verdict.value || tone(index, asked()).split(" ").includes(tools.verdict.value));
});

// --- columns

const chooser = document.querySelector("#columns fieldset");
heads.forEach((head, place) => {
  if (place === 0) return;
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = true;
  box.dataset.column = place;
  label.append(box, ` ${head}`);
  chooser.append(label);
});
const boxes = [...chooser.querySelectorAll("input")];

// --- state, in the part of the address after #

function state() {
  const found = new URLSearchParams();
  const [order] = shown.order();
  if (order && order[1]) found.set("sort", `${order[0]}${order[1]}`);
  for (const [name, field] of Object.entries(tools)) {
    if (name !== "where" && field.value) found.set(name, field.value);
  }
  if (where && tools.verdict.value) found.set("where", where.value);
  const hidden = boxes.filter((box) => !box.checked).map((box) => box.dataset.column);
  if (hidden.length) found.set("hide", hidden.join("."));
  if (shown.page() > 0) found.set("page", String(shown.page() + 1));
  return found.toString();
}

let reading = true;

function write() {
  if (!reading) history.replaceState(null, "", state() ? `#${state()}` : location.pathname + location.search);
}

function read() {
  reading = true;
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const [name, field] of Object.entries(tools)) {
    const value = asked.get(name) ?? (name === "where" ? "1" : "");
    if (field.tagName !== "SELECT" || [...field.options].some((option) => option.value === value)) field.value = value;
  }
  const hidden = (asked.get("hide") ?? "").split(".");
  boxes.forEach((box) => {
    box.checked = !hidden.includes(box.dataset.column);
    const column = shown.column(Number(box.dataset.column));
    if (column.visible() !== box.checked) column.visible(box.checked, false);
  });
  const sort = /^(\d+)(asc|desc)$/.exec(asked.get("sort") ?? "");
  shown.order(sort && Number(sort[1]) < heads.length ? [[Number(sort[1]), sort[2]]] : []);
  shown.search(tools.search.value).draw();
  const page = Number(asked.get("page")) - 1;
  if (page > 0 && page < shown.page.info().pages) shown.page(page).draw("page");
  reading = false;
}

tools.search.addEventListener("input", () => shown.search(tools.search.value).draw());
for (const [name, field] of Object.entries(tools)) {
  if (name !== "search") field.addEventListener("change", () => shown.draw());
}
boxes.forEach((box) => box.addEventListener("change", () => {
  shown.column(Number(box.dataset.column)).visible(box.checked);
  write();
}));
shown.on("draw", write);
window.addEventListener("hashchange", read);
read();
find("tools").hidden = false;

// --- what is shown, as text

function grid() {
  const places = heads.map((_, place) => place).filter((place) => shown.column(place).visible());
  const lines = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    return [...holder.content.querySelectorAll("span:not(.links)")].map((line) => line.textContent).join("; ");
  };
  const rows = shown.rows({ search: "applied", order: "applied" }).data().toArray();
  return [places.map((place) => heads[place]), ...rows.map((row) => places.map((place) => lines(row[place].display)))];
}

find("copy").addEventListener("click", async () => {
  const rows = grid();
  try {
    await navigator.clipboard.writeText(rows.map((row) => row.join("\t")).join("\n"));
    said(`Copied ${rows.length - 1} rows.`);
  } catch {
    said("The browser does not let this page copy; use CSV.");
  }
});

find("save").addEventListener("click", () => {
  const inert = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text); // no formula for a spreadsheet
  const quoted = (text) => `"${inert(text).replaceAll('"', '""')}"`;
  const rows = grid().map((row) => row.map(quoted).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([rows.join("\r\n") + "\r\n"], { type: "text/csv" }));
  link.download = `${document.title.split(" · ")[0].replace(/[^\w]+/g, "-").toLowerCase()}-shown.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
  said(`Saved ${rows.length - 1} rows.`);
});
