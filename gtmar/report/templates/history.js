"use strict";
// Filters the timeline and puts two experiments side by side. Without it the page shows all of both.
// Text is only ever set as text.
(() => {
  const byId = (id) => document.getElementById(id);
  const comparable = JSON.parse(byId("comparable").textContent);
  const entries = [...document.querySelectorAll(".entry")];
  const form = byId("filter");
  const boxes = [...document.querySelectorAll(".entry input[type=checkbox]")];
  const picked = [];

  for (const element of document.querySelectorAll(".scripted")) element.hidden = false;

  function filter() {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of entries) {
      const text = entry.textContent.toLowerCase();
      const fits =
        ["model", "kind", "author"].every((name) => {
          const wanted = form.elements[name].value;
          return !wanted || entry.dataset[name] === wanted;
        }) && words.every((word) => text.includes(word));
      entry.hidden = !fits;
      shown += fits;
    }
    byId("shown").textContent = `${shown} of ${entries.length} shown`;
  }

  function cell(row, kind, text, exact) {
    const made = row.appendChild(document.createElement(kind));
    if (exact === undefined) made.textContent = text;
    else {
      const value = made.appendChild(document.createElement("data"));
      value.value = exact;
      value.textContent = text;
    }
    const head = row.parentNode.tagName === "THEAD";
    if (kind === "th") made.scope = head ? "col" : "row";
    if (kind === "td" || (head && text)) made.className = "n";
    return made;
  }

  const written = (value) =>
    value === null || value === undefined
      ? "–"
      : Math.abs(value) >= 100 ? value.toFixed(2) : value.toFixed(4);

  function compare() {
    const area = byId("compared");
    area.replaceChildren();
    area.hidden = picked.length !== 2;
    byId("comparison").classList.toggle("filled", picked.length > 0);
    byId("compare-hint").textContent =
      picked.length === 2 ? "Weights that differ, and the objective."
        : picked.length === 1 ? `${picked[0]} and one more.`
          : "Tick two entries or experiments below.";
    if (picked.length !== 2) return;
    const [one, two] = picked.map((name) => comparable[name]);
    const table = area.appendChild(document.createElement("table"));
    table.appendChild(document.createElement("caption")).textContent = picked.join(" and ");
    const head = table.createTHead().insertRow();
    ["", picked[0], picked[1], "Change"].forEach((text) => cell(head, "th", text));
    const body = table.createTBody();
    const same = one.objective === two.objective;
    for (const [side, name] of same ? [[null, one.objective]] : [[0, one.objective], [1, two.objective]]) {
      const row = body.insertRow();
      cell(row, "th", name ?? "not measured");
      [one, two].forEach((x, place) =>
        side === null || side === place ? cell(row, "td", written(x.value), x.value ?? "") : cell(row, "td", "–"));
      const known = same && one.value !== null && two.value !== null;
      const change = known ? two.value - one.value : null;
      cell(row, "td", known ? `${change < 0 ? "−" : "+"}${written(Math.abs(change))}` : "–");
    }
    const names = [...new Set([...Object.keys(one.weights), ...Object.keys(two.weights)])];
    for (const name of names) {
      const a = one.weights[name], b = two.weights[name];
      if (a === b) continue;
      const row = body.insertRow();
      cell(row, "th", name);
      [a, b].forEach((w) => cell(row, "td", w === undefined ? "–" : String(w), w ?? ""));
      const both = a !== undefined && b !== undefined;
      cell(row, "td", both ? `${b < a ? "−" : "+"}${Math.abs(b - a)}` : "–");
    }
  }

  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const box of boxes) {
    box.addEventListener("change", () => {
      const at = picked.indexOf(box.value);
      if (at >= 0) picked.splice(at, 1);
      if (box.checked) picked.push(box.value);
      // The third takes the place of the first. An experiment may be ticked in two places.
      const dropped = picked.length > 2 ? picked.shift() : null;
      for (const other of boxes) other.checked = other.value !== dropped && picked.includes(other.value);
      compare();
    });
  }
  const target = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
  if (target) {
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target.scrollIntoView({ behavior: "instant", block: "center" });
  }
  filter();
})();
