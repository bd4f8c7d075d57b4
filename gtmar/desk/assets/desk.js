"use strict";
// Sends weights to the desk as they move and puts its answers, which are HTML, in their places.
// It has no logic of scores: what is shown was computed and written by the server.
(() => {
  const byId = (id) => document.getElementById(id);
  const main = document.querySelector("main");
  const rows = [...document.querySelectorAll(".weight")];
  const page = main.dataset.page;
  const start = Object.fromEntries(rows.map((row) => [row.dataset.name, Number(row.dataset.start)]));
  const past = [], ahead = [];
  let sent = 0, lasted = 0, measuring = false, moved = false, settling = 0, mover = null, details = null, kept = null, events = null, wrong = "";

  const slider = (row) => row.querySelector("input[type=range]");
  const box = (row) => row.querySelector("input[type=number]");
  const locked = (row) => row.querySelector(".lock").getAttribute("aria-pressed") === "true";
  const current = () => Object.fromEntries(rows.map((row) => [row.dataset.name, Number(slider(row).value)]));
  let before = current();

  // ---- asking ----

  // What failed stays in sight until the same is answered, or something else is said.
  function say(text, failed = "") {
    byId("status").textContent = text;
    byId("status").classList.toggle("failed", failed !== "");
    wrong = failed;
  }

  // Each element of an answer takes the place of the one with its id. What a person unfolded stays so.
  function swap(text) {
    const answer = new DOMParser().parseFromString(text, "text/html");
    for (const fresh of [...answer.body.children]) {
      if (fresh.id === "followed") for (const row of rows) show(row, JSON.parse(fresh.dataset.weights)[row.dataset.name]);
      const old = fresh.id && byId(fresh.id);
      if (!old) continue;
      const focus = old.contains(document.activeElement) ? document.activeElement.id : "";
      for (const part of old.querySelectorAll("details[id]")) {
        const same = fresh.querySelector(`#${CSS.escape(part.id)}`);
        if (same) same.open = part.open;
      }
      old.replaceWith(fresh);
      if (focus) byId(focus)?.focus({ preventScroll: true });
    }
  }

  async function ask(path, body, signal) {
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ page, number: ++sent, ...body }),
        signal,
      });
      const text = await answer.text();
      // 204: a newer request has come, and answers instead.
      if (answer.status === 204) return false;
      if (!answer.ok) {
        say(text.trim() || `The desk answers ${answer.status}.`, path);
        return false;
      }
      if (wrong === path) say("");
      swap(text);
      return true;
    } catch (error) {
      if (error.name !== "AbortError")
        say("The desk doesn't answer: it was stopped. The address above keeps these weights; start it again.", path);
      return false;
    }
  }

  // One measurement is under way at most; of the moves that come meanwhile the last one is measured next.
  async function measure(name) {
    moved = true;
    mover = name;
    clearTimeout(settling);
    details?.abort();
    byId("details").setAttribute("aria-busy", "true");
    if (measuring) return;
    measuring = true;
    while (moved) {
      moved = false;
      const follow = mover && main.dataset.follows ? { moved: mover, before } : {};
      await ask("measure", { weights: current(), ...follow });
    }
    measuring = false;
    // What follows may take long on many accounts: then it waits until the hand has rested longer.
    settling = setTimeout(settle, Math.min(1000, Math.max(60, 2 * lasted)));
  }

  async function settle() {
    const began = performance.now();
    details = new AbortController();
    const link = new URL(location.href);
    link.search = "";
    for (const [name, weight] of Object.entries(current()))
      if (weight !== start[name]) link.searchParams.append("set", `${name}=${weight}`);
    if (link.search) link.searchParams.set("spec", main.dataset.spec);
    history.replaceState(null, "", link);
    const asked = [ask("details", { weights: current(), account: byId("account-name")?.value ?? "" }, details.signal)];
    if (kept) asked.push(ask("compare", { weights: current(), other: kept }, details.signal));
    if (!(await Promise.all(asked))[0]) return;
    lasted = performance.now() - began;
    // Said once the hand rests: what moves with every step would drown the slider's own value.
    byId("spoken").textContent = byId("sentence").innerText;
  }

  // ---- moving weights ----

  function show(row, weight) {
    slider(row).value = weight;
    box(row).value = weight;
    const off = weight - start[row.dataset.name];
    row.classList.toggle("changed", off !== 0);
    row.querySelector(".off").textContent = off ? `${off > 0 ? "+" : "\u2212"}${Math.abs(off)}` : "";
  }

  function set(weights) {
    for (const row of rows)
      if (Object.hasOwn(weights, row.dataset.name)) show(row, weights[row.dataset.name]);
    measure();
  }

  const same = (one, two) => rows.every(({ dataset }) => one[dataset.name] === two[dataset.name]);
  const shelf = `gtmar-desk ${main.dataset.spec}`;

  // In this tab alone, for a page that is loaded anew.
  function store() {
    try {
      sessionStorage.setItem(shelf, JSON.stringify({ past, ahead, kept }));
    } catch { /* A browser that keeps nothing goes on without. */ }
  }

  function restore() {
    try {
      const stored = JSON.parse(sessionStorage.getItem(shelf) ?? "{}");
      past.push(...(stored.past ?? []));
      ahead.push(...(stored.ahead ?? []));
      kept = stored.kept ?? null;
    } catch { /* As above. */ }
    if (kept) ask("compare", { weights: current(), other: kept });
  }

  function remember() {
    const now = current();
    if (same(now, before)) return;
    past.push(before);
    before = now;
    ahead.length = 0;
    buttons();
  }

  function step(from, to) {
    if (!from.length) return;
    to.push(before);
    before = from.pop();
    set(before);
    buttons();
  }

  function buttons() {
    byId("undo").disabled = !past.length;
    byId("redo").disabled = !ahead.length;
    store();
  }

  function take(weights) {
    set(weights);
    remember();
  }

  for (const row of rows) {
    slider(row).addEventListener("input", () => { show(row, Number(slider(row).value)); measure(row.dataset.name); });
    slider(row).addEventListener("change", remember);
    box(row).addEventListener("input", () => {
      const weight = box(row).valueAsNumber;
      if (!Number.isInteger(weight) || !box(row).validity.valid) return;
      show(row, weight);
      measure(row.dataset.name);
    });
    box(row).addEventListener("change", () => {
      // Beyond a bound it is the bound.
      show(row, Number.isNaN(box(row).valueAsNumber) ? before[row.dataset.name] : (slider(row).value = box(row).value, Number(slider(row).value)));
      remember();
      measure(row.dataset.name);
    });
    row.addEventListener("focusin", () => {
      if (byId("tried").dataset.weight === row.dataset.name) return;
      byId("tried").dataset.weight = row.dataset.name;
      setTimeout(() => {
        if (byId("tried").dataset.weight === row.dataset.name) ask("tried", { weight: row.dataset.name });
      }, 200);
    });
  }

  // ---- what buttons do ----

  const fields = (form) => Object.fromEntries(new FormData(form));
  const locks = () => rows.filter(locked).map((row) => row.dataset.name);
  const acts = {
    undo: () => step(past, ahead),
    redo: () => step(ahead, past),
    back: () => take(start),
    lock: (button) => button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true"),
    "lock-all": () => {
      const to = !rows.every(locked);
      for (const row of rows) row.querySelector(".lock").setAttribute("aria-pressed", to);
    },
    keep: () => {
      kept = current();
      store();
      ask("compare", { weights: current(), other: kept });
      say("Kept. Move weights, and they are compared with these.");
    },
    swap: () => {
      const now = current();
      take(kept);
      kept = now;
      store();
    },
    copy: async () => {
      await settle();
      try {
        await navigator.clipboard.writeText(location.href);
        say("Copied: whoever has this desk open finds these weights behind the link.");
      } catch {
        say("The browser doesn't let the link be copied; it is in the address bar.");
      }
    },
    take: (button) => take(JSON.parse(button.dataset.weights)),
    front: () => ask("front", {}),
    "ask-look": async () => { if (await ask("look", { weights: current() })) byId("look-now")?.focus(); },
    look: () => ask("look", { weights: current(), sure: true, ...(byId("record-form") ? fields(byId("record-form")) : {}) }),
    stop: () => ask("stop", {}),
    search: async () => { if (await ask("search", { weights: current(), locked: locks(), author: byId("record-form").elements.author.value, ...fields(byId("search-form")) })) listen(); },
    record: () => ask("record", { weights: current(), ...fields(byId("record-form")) }),
    promote: (button) => ask("promote", { experiment: button.dataset.experiment, ...fields(byId("record-form")) }),
    account: () => ask("account", { weights: current(), account: byId("account-name").value }),
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    if (button && button.type !== "submit") acts[button.dataset.act](button);
  });
  document.addEventListener("submit", (event) => {
    event.preventDefault();
    acts[event.target.dataset.act](event.submitter);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=range]), textarea");
    if (typing || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    acts[event.shiftKey ? "redo" : "undo"]();
  });

  // ---- a search that is going on ----

  function listen() {
    events?.close();
    events = new EventSource("progress");
    events.addEventListener("progress", (event) => swap(event.data));
    events.addEventListener("end", (event) => { swap(event.data); events.close(); });
  }

  // What the browser kept of a page that was left.
  for (const row of rows) show(row, Number(slider(row).value));
  if (byId("found")?.dataset.going) listen();
  if (!same(before, JSON.parse(main.dataset.weights))) measure();
  restore();
  buttons();
})();
