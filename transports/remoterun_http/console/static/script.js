// A script's page: its form, its last runs, and how to call it from elsewhere.

import { api, jobPage } from "./api.js";
import { callFrom } from "./from.js";
import { $, data, h, whileVisible } from "./dom.js";
import { plain, state, time, took } from "./format.js";
import { ScriptForm } from "./form.js";
import "./shell.js";

const { script, former } = data;
const isPlain = script.kind === "plain";

const REQUEST = "application/vnd.remoterun.job-request+json";

/** Give what is posted: a job request, in a form where files go with it. */
function posted(asked) {
  const files = form.attachments();
  if (!files.length) return asked;
  // By hand: a browser's own form says that each part with a type of its own is a file.
  const boundary = `remoterun${newKey()}`;
  const quoted = (text) => `"${text.replace(/["\r\n]/g, (one) => `%${one.charCodeAt(0).toString(16).padStart(2, "0").toUpperCase()}`)}"`;
  const part = (name, more, kind) => `--${boundary}\r\nContent-Disposition: form-data; name=${quoted(name)}${more}\r\nContent-Type: ${kind}\r\n\r\n`;
  const parts = files.flatMap(([path, file]) => [part(path, `; filename=${quoted(file.name)}`, "application/octet-stream"), file, "\r\n"]);
  return new Blob([part("request", "", REQUEST), JSON.stringify(asked), "\r\n", ...parts, `--${boundary}--\r\n`], { type: `multipart/form-data; boundary=${boundary}` });
}

function request() {
  const values = form.value();
  const asked = { script: script.name };
  if (isPlain) {
    if (values.args?.length) asked.args = values.args;
    if (values.stdin) asked.stdin = values.stdin;
  } else asked.params = values;
  const timeout = $("#timeout").value;
  if (timeout) asked.timeout = Number(timeout);
  return asked;
}

function refresh() {
  try {
    const files = form.attachments().map(([path, file]) => [path, file.name]);
    callFrom($("#from"), request(), script, data, files);
  } catch (error) {
    if (!error.fields) throw error;
  }
}

function tell(error) {
  const rest = form.showErrors(error.fields ?? []);
  const problem = $("#problem");
  const lines = rest.map(({ field, message }) => (field ? `${field}: ${message}` : message));
  const shown = (error.fields ?? []).length > rest.length;
  problem.hidden = shown && !lines.length;
  problem.replaceChildren(plain(lines.join("; ") || error.message));
  if (error.retryAfter) problem.append(` Try again in ${error.retryAfter} s.`);
}

async function run(event) {
  event.preventDefault();
  const button = $("#run");
  if (button.disabled) return;
  form.clearErrors();
  $("#problem").hidden = true;
  button.disabled = true;
  try {
    // A second click, or an answer that got lost, is the same job.
    const job = await api.submit(posted({ ...request(), key: key ??= newKey() }));
    location.href = jobPage(job.id);
  } catch (error) {
    if (error.code !== "unavailable") key = null;
    button.disabled = false;
    if (!error.code && !error.fields) throw error;
    tell(error);
  }
}

let key = null;
const newKey = () => `page-${[...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;

async function showRuns() {
  const { jobs } = await api.jobs({ script: script.name, limit: 8 });
  $("#last-runs").replaceChildren(...jobs.map((job) => h("li", {}, h("a", { href: jobPage(job.id) }, state(job.state), " ", time(job.created)), h("span", { className: "took" }, took(job)))));
  $("#no-runs").hidden = jobs.length > 0;
}

/** What a docstring says of each parameter stands beside its field already. */
function shortenDoc() {
  const doc = $("#doc");
  if (!doc || !script.parameters) return;
  doc.textContent = doc.textContent.replace(/\n+[ \t]*(?:Args|Arguments|Parameters|Params):[ \t]*\n(?:[ \t]+\S.*(?:\n|$)|[ \t]*\n(?=[ \t]+\S))+/, "\n").trim();
}

let form;
shortenDoc();
if (!script.broken) {
  const values = former ? (isPlain ? { args: former.args ?? [], stdin: "" } : former.params ?? {}) : undefined;
  form = new ScriptForm($("#fields"), script.parameters, values, () => { key = null; refresh(); });
  $("#call").addEventListener("submit", run);
  $("#timeout").addEventListener("input", refresh);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("#call").requestSubmit();
  });
  if (!Object.keys(form.schema.properties).length) $("#fields").append(h("p", { className: "hint" }, "It takes no parameters."));
  refresh();
}
$("#all-runs").href = `/console/history?script=${encodeURIComponent(script.name)}`;
whileVisible(5000, showRuns);
