// A job's page: what it is, what it says, what it leaves; live to its end, and the same afterwards.

import { api, jobPage, scriptPage } from "./api.js";
import { artifact } from "./artifacts.js";
import { $, $$, data, h, toast, whileVisible } from "./dom.js";
import { absolute, plain, size, span, state, stateName, time, took } from "./format.js";
import { Follower } from "./follow.js";
import { LogView } from "./logview.js";
import { show, waysOf } from "./value.js";
import "./shell.js";

let job = data.job;
const { may } = data;
const FINAL = new Set(["succeeded", "failed", "timed_out", "cancelled", "lost"]);
const ended = () => FINAL.has(job.state);
const SAID = { queued: "waits for a worker", running: "runs", lost: "was lost: the node died while it ran" };

const log = new LogView($("#log"), showLog);
const decoders = [new TextDecoder(), new TextDecoder()];

function showState() {
  const place = $("#state");
  if (place.firstElementChild?.dataset.state !== job.state) place.replaceChildren(state(job.state));
  const mark = ended() ? { succeeded: "✓" }[job.state] ?? "✗" : "…";
  document.title = `${mark} ${job.script} ${stateName(job.state)} · remoterun`;
  $("#cancel").hidden = ended() || !may.cancel;
  $("#again").hidden = !ended() || !may.run;
  showElapsed();
}

function showElapsed() {
  const wait = job.started ? "" : SAID[job.state] ?? "";
  const text = job.started ? took(job) : wait;
  if ($("#elapsed").textContent !== text) $("#elapsed").textContent = text;
}

function showAbout() {
  const rows = [
    ["Created", time(job.created)], ["Started", job.started && time(job.started)], ["Ended", job.ended && time(job.ended)],
    ["Took", job.ended && took(job)], ["By", job.principal], ["Over", job.transport], ["From", job.peer], ["On", job.node],
    ["Exit code", job.exit_code ?? null], ["Attempt", job.attempt > 1 ? job.attempt : null],
    ["Version", h("code", { title: job.version }, job.version.slice(0, 12))],
    ["Key", job.key?.startsWith("page-") ? null : job.key], ["Run again of", job.rerun_of && h("a", { href: jobPage(job.rerun_of) }, job.rerun_of.slice(0, 13), "…")],
    ["Output", job.output.bytes ? `${size(job.output.bytes)}${job.output.cut ? ", cut" : ""}` : null],
  ];
  const shown = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  $("#about").replaceChildren(...shown.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, typeof value === "object" ? value : plain(String(value)))]));
}

function showParams() {
  const value = job.params ?? job.args ?? null;
  const isEmpty = value === null || Object.keys(value).length === 0;
  $("#params").replaceChildren(isEmpty ? h("p", { className: "hint" }, "None.") : show(value, waysOf(value)[0]));
}

function showError() {
  const { error } = job;
  $("#error").hidden = !error;
  if (!error) return;
  $("#error-title").replaceChildren(plain(error.type));
  $("#error-message").replaceChildren(plain(error.message));
  $("#error-fields").replaceChildren(...(error.fields ?? []).map(({ field, message }) => h("li", {}, h("code", {}, plain(field)), " ", plain(message))));
  $("#traceback").hidden = !error.traceback;
  if (error.traceback) $("#traceback pre").replaceChildren(...error.traceback.trimEnd().split("\n").map(frame));
}

/** A line of a traceback; those that name a place stand out, those of the script's own more. */
function frame(line) {
  const kind = line.startsWith("Traceback (") ? "" : /^ {2}File "/.test(line) ? (line.includes("/lib/python") || line.includes("site-packages") ? "where theirs" : "where") : /^\w[\w.]*(?:Error|Exception|Exit|Interrupt|Warning)?\b.*:/.test(line) ? "what" : "";
  return h("span", { className: kind }, plain(line), "\n");
}

let way = null;
function showResult() {
  const has = job.state === "succeeded" && job.result !== null;
  $("#result").hidden = !has;
  if (!has) return;
  const ways = waysOf(job.result);
  way = ways.includes(way) ? way : ways[0];
  $("#result-kinds").replaceChildren(...(ways.length > 1 ? ways : []).map((name) =>
    h("button", { type: "button", "aria-pressed": String(name === way), onclick: () => { way = name; showResult(); $(`#result-kinds [aria-pressed=true]`).focus(); } }, name)));
  $("#result-view").replaceChildren(show(job.result, way));
}

const files = new Set();
function showFile(info) {
  if (files.has(info.name)) return;
  files.add(info.name);
  $("#artifacts").hidden = false;
  $("#files").append(artifact(job.id, info));
}

let firstProgress = null;
function showProgress(progress, at) {
  $("#progress").hidden = !progress || ended();
  if (!progress || ended()) return;
  const { done, total, message } = progress;
  firstProgress ??= { done: job.started ? 0 : done, at: job.started ? new Date(job.started) : at };
  const bar = $("#bar");
  if (total) { bar.max = total; bar.value = done; } else bar.removeAttribute("value");
  const passed = (at - firstProgress.at) / 1000;
  const left = total && done > firstProgress.done && done < total ? (passed * (total - done)) / (done - firstProgress.done) : null;
  const count = total ? `${done} of ${total} (${Math.floor((100 * done) / total)} %)` : `${done}`;
  $("#progress-text").replaceChildren(plain([message, count, left !== null ? `about ${span(left)} left` : null].filter(Boolean).join(" · ")));
}

function showLog() {
  const { lines } = log;
  $("#follow").setAttribute("aria-pressed", log.follow);
  $("#hits").textContent = log.term ? `${log.hit + 1} of ${log.hits.length}` : "";
  const note = [];
  if (!log.count) note.push(ended() ? "It wrote nothing." : "Nothing yet.");
  else note.push(`${log.count.toLocaleString()} ${log.count === 1 ? "line" : "lines"}`);
  if (lines.dropped) note.push(`the first ${lines.dropped.toLocaleString()} lines are in the download only`);
  if (job.output.cut) note.push("the node kept less than the script wrote");
  const text = note.join("; ");
  if ($("#log-note").textContent !== text) $("#log-note").textContent = text;
  $("#log").hidden = !log.count;
}

function take(event) {
  if (event.kind === "output") {
    const number = event.stream === "stderr" ? 1 : 0;
    const bytes = event.data_base64 === undefined ? null : Uint8Array.from(atob(event.data_base64), (one) => one.charCodeAt(0));
    log.add(bytes ? decoders[number].decode(bytes, { stream: true }) : decoders[number].decode() + event.data, number);
  } else if (event.kind === "progress") showProgress(event, new Date(event.time));
  else if (event.kind === "artifact") showFile(event);
  else takeState(event);
}

function takeState(event) {
  if (FINAL.has(job.state)) return;
  job = { ...job, state: event.state, attempt: event.attempt };
  if (event.state === "running") job.started ??= event.time;
  if (event.final) job.ended ??= event.time;
  showState();
}

async function finished() {
  for (const [number, decoder] of decoders.entries()) { const rest = decoder.decode(); if (rest) log.add(rest, number); }
  job = await api.job(job.id);
  showAll();
}

function showAll() {
  showState();
  showAbout();
  showParams();
  showError();
  showResult();
  showProgress(job.progress, new Date());
  job.artifacts.forEach(showFile);
  showLog();
}

function showLine(how) {
  const line = $("#line");
  line.hidden = how !== "lost";
  line.textContent = how === "lost" ? "The connection is lost; what comes meanwhile is not. Trying again …" : "";
  document.body.dataset.line = how;
  if (how === "ended") finished().catch((error) => toast(error.message, "bad"));
}

async function act(button, work) {
  button.disabled = true;
  try { await work(); } catch (error) { if (!error.code) throw error; toast(error.message, "bad"); } finally { button.disabled = false; }
}

$("#cancel").addEventListener("click", (event) => act(event.target, () => api.cancel(job.id)));
$("#again").addEventListener("click", (event) => act(event.target, async () => {
  try { location.href = jobPage((await api.rerun(job.id, false)).id); }
  catch (error) { if (error.code !== "not_found" && error.code !== "conflict") throw error; location.href = jobPage((await api.rerun(job.id, true)).id); }
}));
for (const button of $$("#streams button")) {
  button.addEventListener("click", () => {
    for (const other of $$("#streams button")) other.setAttribute("aria-pressed", other === button);
    log.setStream({ stdout: 0, stderr: 1 }[button.dataset.stream] ?? null);
    const only = button.dataset.stream;
    $("#download").href = `/jobs/${encodeURIComponent(job.id)}/output${only ? `?stream=${only}` : ""}`;
  });
}
$("#wrap").addEventListener("click", ({ target }) => { target.setAttribute("aria-pressed", !log.wrap); log.setWrap(!log.wrap); });
$("#follow").addEventListener("click", () => log.setFollow(!log.follow));
let typing;
$("#find").addEventListener("input", ({ target }) => { clearTimeout(typing); typing = setTimeout(() => log.search(target.value), 150); });
$("#find").addEventListener("keydown", (event) => {
  if (event.key === "Enter") { event.preventDefault(); log.go(event.shiftKey ? -1 : 1); }
});

log.setFollow(!ended());
showAll();
new Follower(job.id, { event: take, line: showLine });
whileVisible(200, () => { if (!ended()) showElapsed(); });
