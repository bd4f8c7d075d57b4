// Tables without caption or scope, images without a text, controls without a name, ids given
// twice, links to nowhere.
const faults = [];
const all = (s) => [...document.querySelectorAll(s)];
for (const t of all("table")) if (!t.caption || !t.caption.textContent.trim()) faults.push("no caption");
for (const h of all("th")) if (!h.scope) faults.push("no scope: " + h.textContent);
for (const s of all("svg")) if (s.getAttribute("role") !== "img" || !s.getAttribute("aria-label")) faults.push("no alt");
for (const c of all("input, select, button"))
  if (!c.labels?.length && !c.getAttribute("aria-label") && !c.textContent.trim()) faults.push("no name: " + c.outerHTML);
for (const r of all(".scroll")) if (r.tabIndex !== 0 || !r.getAttribute("aria-label")) faults.push("no keyboard");
for (const a of all("nav a")) if (!document.querySelector(a.getAttribute("href"))) faults.push("dead link " + a.href);
const ids = all("[id]").map((e) => e.id);
if (new Set(ids).size !== ids.length) faults.push("an id twice");
return faults;
