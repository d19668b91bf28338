// Two runs side by side, from the numbers in compare-data.js; the choice is in the address.
"use strict";

const { boards, runs, pairs } = window.pretextCompare;
const [first, second] = ["a", "b"].map((id) => document.getElementById(id));
const result = document.getElementById("result");

const number = (x, signed) => (signed && x > 0 ? "+" : "") + x.toFixed(3).replace("-", "−");
const interval = (one, signed) => {
  if (!one) return "–";
  const [value, low, high] = one;
  return low === null ? number(value, signed) : `${number(value, signed)} [${number(low, signed)}, ${number(high, signed)}]`;
};

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function table(caption, heads, rows) {
  const made = element("table");
  const title = element("caption");
  title.append(element("span", caption));
  made.append(title);
  const head = made.createTHead().insertRow();
  head.append(...heads.map((text) => element("th", text, { scope: "col" })));
  const body = made.createTBody();
  for (const [name, ...cells] of rows) {
    const row = body.insertRow();
    row.append(element("th", name, { scope: "row" }), ...cells.map((text) => element("td", text)));
  }
  const region = element("div", undefined, { class: "scroll", role: "region", tabindex: "0", "aria-label": caption });
  region.append(made);
  return region;
}

function difference(a, b, title) {
  const task = boards[a.board].tasks.indexOf(title);
  const found = pairs[`${a.id} ${b.id}`]?.[task];
  if (found) return found;
  const turned = pairs[`${b.id} ${a.id}`]?.[task];
  if (!turned) return null;
  const [value, low, high, verdict] = turned;
  return [-value, high === null ? null : -high, low === null ? null : -low, verdict];
}

function show() {
  const [a, b] = [first, second].map((field) => runs[Number(field.value)]);
  result.replaceChildren();
  const names = [a, b].map((one) => one.name);
  const heading = element("h2");
  [a, b].forEach((one, place) => {
    heading.append(element("a", one.name, { href: one.page }));
    if (!place) heading.append(" against ");
  });
  result.append(heading);
  const labels = [...new Set([a, b].map((one) => boards[one.board].label).filter(Boolean))];
  labels.forEach((label) => result.append(element("p", label, { class: "label", role: "note" })));
  result.append(element("p", [a, b].map((one) => `${one.name}: ${boards[one.board].title}`).join(". ") + "."));
  const tasks = Object.keys(a.scores).filter((title) => title in b.scores);
  if (tasks.length) {
    const rows = tasks.map((title) => {
      const found = difference(a, b, title);
      return [title, interval(a.scores[title]), interval(b.scores[title]), interval(a.gains[title], true),
        interval(b.gains[title], true), found ? `${interval(found, true)}, ${found[3]}` : "not stored"];
    });
    result.append(table("Scores, gains over the twin and the paired difference (first − second), 95 % intervals; those of the differences hold together over these tasks, or as on the board.",
      ["Task", names[0], names[1], `gain, ${names[0]}`, `gain, ${names[1]}`, "first − second"], rows));
  } else {
    result.append(element("p", "These two share no task."));
  }
  const command = element("p", "In a terminal: ");
  command.append(element("code", `python -m leaderboards compare ${a.id} ${b.id}`));
  result.append(command);
  result.append(table("What they cost.", ["", ...names], Object.keys(a.facts).map((what) => [what, a.facts[what], b.facts[what] ?? "–"])));
  const pictures = [a, b].flatMap((one) => one.pictures);
  if (pictures.length) {
    const both = element("div", undefined, { class: "charts" });
    for (const [source, alt, caption] of pictures) {
      const figure = element("figure");
      figure.append(element("img", undefined, { src: source, alt, loading: "lazy" }), element("figcaption", caption));
      both.append(figure);
    }
    result.append(element("h2", "What they look at"), both);
  }
  history.replaceState(null, "", `#a=${a.id}&b=${b.id}`);
}

if (runs.length > 1) {
  for (const field of [first, second]) {
    boards.forEach((board, place) => {
      const group = element("optgroup", undefined, { label: board.title });
      runs.forEach((one, index) => {
        if (one.board === place) group.append(element("option", `${one.name} (${one.id})`, { value: String(index) }));
      });
      field.append(group);
    });
    field.addEventListener("change", show);
  }
  const asked = new URLSearchParams(location.hash.slice(1));
  const at = (id, other) => { const place = runs.findIndex((one) => one.id === id); return String(place < 0 ? other : place); };
  first.value = at(asked.get("a"), 0);
  second.value = at(asked.get("b"), 1);
  document.getElementById("choose").hidden = false;
  show();
} else {
  result.append(element("p", "Fewer than two runs are stored."));
}
