// The headline table of a board: order, search, filters, columns, what is shown as text, and all of it in the address.
// The table is in the page already; DataTables (vendor/) enhances it, and the rest of a long one comes from <board>-rows.js.
"use strict";

const table = document.querySelector("table.rich");
const SHOWN = 50; // rows of a page of the table

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escaped = (text) => text.replace(/[&<>"']/g, (character) => ENTITIES[character]);

const number = (packed, signed) => {
  const sign = packed.startsWith("-") ? "−" : signed && packed !== "0" ? "+" : "";
  return sign + (Math.abs(Number(packed)) / 1000).toFixed(3);
};

const TONES = { a: "above", b: "below", s: "same", m: "missing", "-": "" };

// A cell of a later row, in the shape in which DataTables keeps those that it read from the page. It holds what `_packed`
// of leaderboards/render.py wrote, "a31,-2,64;4;0:712,680,744", and becomes HTML when somebody looks.
class Cell {
  constructor(packed, words, extent) {
    Object.assign(this, { packed, words, extent, tone: TONES[packed[0]] });
  }

  get parts() {
    return this.packed.slice(1).split("=")[0].split(";").map((part) => {
      const [word, numbers] = part.split(":");
      return { word: this.words[Number(word)], numbers: numbers ? numbers.split(",") : [] };
    });
  }

  get display() {
    const parts = this.parts;
    const gain = parts[0].word === "" ? parts[0].numbers : [];
    const spans = parts.map(({ word, numbers }, place) => {
      const said = numbers.map((one) => number(one, place === 0 && gain.length > 0));
      const interval = said.length === 3 ? `${said[0]} [${said[1]}, ${said[2]}]` : said.join("");
      return `<span class="l${place + 1}">${escaped([word, interval].filter(Boolean).join(" "))}</span>`;
    });
    if (gain.length === 3 && this.extent) {
      const [value, low, high] = gain.map((one) => Math.round((76 * Number(one)) / 1000 / this.extent));
      spans.splice(1, 0, '<svg class="bar" viewBox="-80 -7 160 14" aria-hidden="true">' +
        `<path class="zero" d="M-76 0H76M0-6V6"/><path class="range" d="M${low} 0H${high}"/><circle cx="${value}" r="3.5"/></svg>`);
    }
    return spans.join("");
  }

  get "@data-order"() {
    const [content, order] = this.packed.slice(1).split("=");
    const [word, first] = content.split(/[:;,]/);
    return order ?? (content[word.length] === ":" ? String(Number(first) / 1000) : this.words[Number(word)]);
  }
}

// Rows of the script file: a name with its other lines and links, then cells.
function later({ words, rows }, extent) {
  return rows.map(([kind, name, about, links, packed]) => {
    const head = {
      kind,
      "@data-order": name,
      get display() {
        const lines = [name, ...about.map((place) => words[place])];
        const spans = lines.map((line, place) => `<span class="l${place + 1}">${escaped(line)}</span>`);
        const named = [];
        for (let at = 0; at < links.length; at += 2) {
          named.push(`<a href="${escaped(links[at + 1])}">${escaped(words[links[at]])}</a>`);
        }
        return `${spans.join("")}<span class="links">${named.join(" ")}</span>`;
      },
    };
    return [head, ...packed.split("|").map((cell) => new Cell(cell, words, extent))];
  });
}

const find = (id) => document.getElementById(id);
const tools = { search: find("search"), kind: find("kind"), where: find("where"), verdict: find("verdict") };
const said = (text) => { find("said").textContent = text; };

const added = window.pretextRows ? later(window.pretextRows, Number(table.dataset.extent)) : [];

const heads = [...table.tHead.rows[0].cells].map((head) => head.querySelector(".l1").textContent);
const numeric = heads.map((_, place) => place).filter((place) => !("words" in table.tHead.rows[0].cells[place].dataset));

const shown = new DataTable(table, {
  order: [],
  paging: table.tBodies[0].rows.length + added.length > SHOWN,
  pageLength: SHOWN,
  lengthMenu: [SHOWN, 200, { label: "all", value: -1 }],
  autoWidth: false,
  columnDefs: [{ targets: 0, cellType: "th" }, { targets: numeric, searchable: false }],
  createdRow(row, cells) {
    if (cells[0].kind === undefined) return; // it was in the page
    row.className = cells[0].kind === "trained" ? "trained" : `${cells[0].kind} twin`;
    row.cells[0].scope = "row";
    cells.forEach((one, place) => { if (one.tone) shown.cell(row, place).node().classList.add(one.tone); });
  },
  layout: { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: ["pageLength", "paging"] },
});

// The library's own controls stand under the table, outside the part that scrolls.
const region = table.closest(".scroll");
const around = shown.table().container();
const inner = table.parentElement;
region.before(around);
inner.append(region);
region.append(table);

if (added.length) shown.rows.add(added);

// A later row has no nodes until it is looked at, and a hidden column takes its cells out of the row.
const tone = (index, column) => shown.cell(index, column).node()?.className ?? shown.row(index).data()[column].tone;
const kind = (index) => shown.row(index).data()[0].kind ?? shown.row(index).node().className;

shown.search.fixed("chosen", (text, data, index) => {
  const asked = { kind: tools.kind.value, verdict: tools.verdict.value };
  return (!asked.kind || kind(index).split(" ")[0] === asked.kind) &&
    (!asked.verdict || tone(index, Number(tools.where.value)).split(" ").includes(asked.verdict));
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
