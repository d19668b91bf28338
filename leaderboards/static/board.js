// The headline table of a board: order, search, filters, columns, what is shown as text, and all of it in the address.
// The table is in the page already; DataTables (vendor/) enhances it, and the rest of a long one comes from <board>-rows.js.
"use strict";

const table = document.querySelector("table.rich");
const SHOWN = 50; // rows of a page of the table

const escaped = (text) => {
  const span = document.createElement("span");
  span.textContent = text;
  return span.innerHTML.replaceAll('"', "&quot;");
};

const number = (packed, signed) => {
  const sign = packed.startsWith("-") ? "−" : signed && packed !== "0" ? "+" : "";
  return sign + (Math.abs(Number(packed)) / 1000).toFixed(3);
};

const TONES = { a: "above", b: "below", s: "same", m: "missing", "-": "" };

// "a31,-2,64;4;0:712,680,744" -> what the page holds for such a cell; see `_packed` of leaderboards/render.py
function unpack(packed, words, extent) {
  const [content, order] = packed.slice(1).split("=");
  const parts = content.split(";").map((part) => {
    const [word, numbers] = part.split(":");
    return { word: words[Number(word)], numbers: numbers ? numbers.split(",") : [] };
  });
  const gain = parts[0].numbers.length && parts[0].word === "" ? parts[0].numbers : null;
  const lines = parts.map(({ word, numbers }, place) => {
    const said = numbers.map((one) => number(one, gain !== null && place === 0));
    const interval = said.length === 3 ? `${said[0]} [${said[1]}, ${said[2]}]` : said.join("");
    return [word, interval].filter(Boolean).join(" ");
  });
  const spans = lines.map((line, place) => `<span class="l${place + 1}">${escaped(line)}</span>`);
  if (gain && gain.length === 3 && extent) {
    const [value, low, high] = gain.map((one) => Math.round((76 * Number(one)) / 1000 / extent));
    spans.splice(1, 0, '<svg class="bar" viewBox="-80 -7 160 14" aria-hidden="true"><path class="zero" d="M-76 0H76M0-6V6"/>' +
      `<path class="range" d="M${low} 0H${high}"/><circle cx="${value}" r="3.5"/></svg>`);
  }
  const first = parts[0].numbers[0];
  const by = order !== undefined ? Number(order) : first !== undefined ? Number(first) / 1000 : lines[0];
  return { html: spans.join(""), by, tone: TONES[packed[0]] };
}

function later(data, extent) {
  return data.rows.map(([kind, lines, links, packed]) => {
    const row = document.createElement("tr");
    row.className = kind + (kind === "trained" ? "" : " twin");
    const spans = lines.map((line, place) => `<span class="l${place + 1}">${escaped(line)}</span>`);
    const named = links.map(([text, link]) => `<a href="${escaped(link)}">${escaped(text)}</a>`);
    const cells = packed.split("|").map((cell) => unpack(cell, data.words, extent));
    row.innerHTML =
      `<th scope="row" data-order="${escaped(lines[0])}">${spans.join("")}<span class="links">${named.join(" ")}</span></th>` +
      cells.map(({ html, by, tone }) => `<td class="${tone}" data-order="${escaped(String(by))}">${html}</td>`).join("");
    return row;
  });
}

const find = (id) => document.getElementById(id);
const tools = { search: find("search"), kind: find("kind"), where: find("where"), verdict: find("verdict") };
const said = (text) => { find("said").textContent = text; };

if (window.pretextRows) {
  const extent = Number(table.dataset.extent);
  table.tBodies[0].append(...later(window.pretextRows, extent));
}

const shown = new DataTable(table, {
  order: [],
  paging: table.tBodies[0].rows.length > SHOWN,
  pageLength: SHOWN,
  lengthMenu: [SHOWN, 200, { label: "all", value: -1 }],
  autoWidth: false,
  layout: { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: ["pageLength", "paging"] },
});

// The library's own controls stand under the table, outside the part that scrolls.
const region = table.closest(".scroll");
const around = shown.table().container();
const inner = table.parentElement;
region.before(around);
inner.append(region);
region.append(table);

shown.search.fixed("chosen", (text, data, index) => {
  const row = shown.row(index).node();
  const kind = tools.kind.value;
  if (kind && !row.classList.contains(kind)) return false;
  const verdict = tools.verdict.value;
  return !verdict || row.cells.length === 0 || cell(row, Number(tools.where.value)).classList.contains(verdict);
});

// A hidden column takes its cells out of the row, so the cell is asked of the library.
function cell(row, column) {
  return shown.cell(row, column).node();
}

// --- columns

const chooser = document.querySelector("#columns fieldset");
const heads = [...table.tHead.rows[0].cells].map((head) => head.querySelector(".l1").textContent);
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
  if (tools.verdict.value) found.set("where", tools.where.value);
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
    shown.column(Number(box.dataset.column)).visible(box.checked, false);
  });
  const sort = /^(\d+)(asc|desc)$/.exec(asked.get("sort") ?? "");
  shown.order(sort && Number(sort[1]) < heads.length ? [[Number(sort[1]), sort[2]]] : []);
  shown.search(tools.search.value).draw();
  const page = Number(asked.get("page")) - 1;
  if (page > 0 && page < shown.page.info().pages) shown.page(page).draw("page");
  reading = false;
}

tools.search.addEventListener("input", () => shown.search(tools.search.value).draw());
for (const name of ["kind", "where", "verdict"]) tools[name].addEventListener("change", () => shown.draw());
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
  const text = (node) => [...node.querySelectorAll("[class^='l']:not(.links)")].map((line) => line.textContent).join("; ");
  const rows = shown.rows({ search: "applied" }).nodes().toArray();
  return [places.map((place) => heads[place]), ...rows.map((row) => places.map((place) => text(cell(row, place))))];
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
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const rows = grid().map((row) => row.map(quoted).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([rows.join("\r\n") + "\r\n"], { type: "text/csv" }));
  link.download = `${document.title.split(" · ")[0].replace(/[^\w]+/g, "-").toLowerCase()}-shown.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
  said(`Saved ${rows.length - 1} rows.`);
});
