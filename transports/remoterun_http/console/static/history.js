// The history: filters, pages by key, live at its top, and two jobs side by side.

import { api, jobPage } from "./api.js";
import { $, $$, h, whileVisible } from "./dom.js";
import { plain, state, time, took } from "./format.js";
import "./shell.js";

const SIZE = 100; // jobs of a page
const FIELDS = ["text", "script", "state", "principal", "span"];
const SPANS = { hour: 3600, day: 86400, week: 7 * 86400 };

const rows = new Map(); // id → its row
const picked = new Set();
let next = null;
let oldest = null; // how far back was looked, where that is further than what was found
let asking = null;

function wanted() {
  const query = { limit: SIZE };
  for (const name of ["text", "script", "state", "principal"]) query[name] = $(`#${name}`).value.trim();
  const seconds = SPANS[$("#span").value];
  if (seconds) query.since = new Date(Date.now() - seconds * 1000).toISOString();
  return query;
}

function brief(job) {
  if (job.error) return `${job.error.type}: ${job.error.message}`;
  if (job.args) return job.args.join(" ");
  return Object.entries(job.params ?? {}).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ");
}

function row(job) {
  const box = h("input", { type: "checkbox", checked: picked.has(job.id), "aria-label": `Compare ${job.script}, ${job.id.slice(0, 13)}`,
    onchange: ({ target }) => pick(job.id, target.checked) });
  const made = h("li", { className: "row job-row", "data-id": job.id }, box, state(job.state),
    h("a", { className: "stretch name", href: jobPage(job.id) }, job.script),
    h("span", { className: "brief" }, plain(brief(job).slice(0, 200))),
    h("span", { className: "by" }, job.principal), h("span", { className: "when" }, time(job.created)),
    h("span", { className: "took" }, job.ended ? took(job) : ""));
  made.shown = job.state + (job.ended ?? "");
  return made;
}

function put(jobs, place) {
  const list = $("#jobs");
  const fresh = [];
  for (const job of jobs) {
    const known = rows.get(job.id);
    if (!known) {
      const made = row(job);
      rows.set(job.id, made);
      fresh.push(made);
    } else if (known.shown !== job.state + (job.ended ?? "")) {
      const made = row(job);
      const hadFocus = known.contains(document.activeElement);
      rows.set(job.id, made);
      known.replaceWith(made);
      if (hadFocus) $("a", made).focus();
    }
  }
  if (place === "top") list.prepend(...fresh); else list.append(...fresh);
}

function pick(id, isPicked) {
  if (isPicked) picked.add(id); else picked.delete(id);
  if (picked.size > 2) {
    const [first] = picked;
    picked.delete(first);
    const box = $("input", rows.get(first) ?? document.createElement("i"));
    if (box) box.checked = false;
  }
  const bar = $("#picked");
  bar.hidden = !picked.size;
  $("#picked-text").textContent = picked.size === 1 ? "Choose a second one to compare" : "Two jobs chosen";
  const link = $("#compare");
  link.hidden = picked.size !== 2;
  link.href = `/console/compare?${[...picked].map((one) => `job=${encodeURIComponent(one)}`).join("&")}`;
}

async function ask(query) {
  asking?.abort();
  asking = new AbortController();
  return api.jobs(query, asking.signal);
}

async function fresh() {
  remember();
  rows.clear();
  $("#jobs").replaceChildren();
  next = null;
  await older(true);
}

/** Get the next page; of a search, as many as it takes until something is found. */
async function older(isFirst = false) {
  const query = wanted();
  const before = rows.size;
  if (!isFirst) query.before = next;
  $("#more").disabled = true;
  $("#jobs").setAttribute("aria-busy", "true");
  try {
    do {
      const page = await ask(query);
      put(page.jobs, "bottom");
      next = query.before = page.next;
      oldest = next;
      say(Boolean(next && query.text));
    } while (next && query.text && rows.size < before + 20);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!error.code) throw error;
    $("#note").textContent = error.message;
    return;
  } finally {
    $("#more").disabled = false;
  }
  $("#jobs").removeAttribute("aria-busy");
  say(false);
}

const bornAt = (id) => new Date(parseInt(id.replace("-", "").slice(0, 12), 16)); // a UUIDv7 begins with its time

function say(isLooking) {
  const count = `${rows.size} ${rows.size === 1 ? "job" : "jobs"}`;
  const back = next && oldest ? `, back to ${bornAt(oldest).toLocaleString()}` : "";
  $("#note").textContent = isLooking ? `Looking further${back} …` : rows.size ? `${count}${next ? "" : ", no more"}` : "No job matches.";
  $("#more").hidden = !next || isLooking;
}

/** Keep the filters in the address. */
function remember() {
  const given = FIELDS.map((name) => [name, $(`#${name}`).value]).filter(([, value]) => value);
  history.replaceState(null, "", given.length ? `?${new URLSearchParams(given)}` : location.pathname);
}

async function newest() {
  if ($("#jobs").hasAttribute("aria-busy")) return;
  const page = await api.jobs({ ...wanted(), limit: 50 });
  if ($("#jobs").hasAttribute("aria-busy")) return;
  put(page.jobs, "top");
  if (rows.size && !next) say(false);
}

const given = new URLSearchParams(location.search);
for (const name of FIELDS) $(`#${name}`).value = given.get(name) ?? "";
let typing;
for (const name of FIELDS) {
  $(`#${name}`).addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(fresh, 250); });
}
$("#filters").addEventListener("submit", (event) => { event.preventDefault(); fresh(); });
$("#more").addEventListener("click", () => older());
$("#unpick").addEventListener("click", () => { for (const id of [...picked]) { pick(id, false); } for (const box of $$("#jobs input:checked")) box.checked = false; });
new IntersectionObserver(([entry]) => { if (entry.isIntersecting && next && !$("#more").hidden && !$("#more").disabled) older(); }, { rootMargin: "600px" }).observe($("#more"));
await fresh();
whileVisible(2000, newest);
