// Two jobs side by side: what they were asked, and what became of them.

import { jobPage, scriptPage } from "./api.js";
import { $, data, h } from "./dom.js";
import { absolute, plain, state, took } from "./format.js";
import { asText, leaf } from "./value.js";
import "./shell.js";

const { jobs } = data;
const MISSING = Symbol("missing");

const cell = (value) => {
  if (value === MISSING || value === undefined) return h("td", { className: "hint" }, "–");
  if (value instanceof Node) return h("td", {}, value);
  return h("td", {}, value !== null && typeof value === "object" ? h("pre", {}, plain(asText(value))) : leaf(value));
};

function row(name, values) {
  const isSame = JSON.stringify(values[0]) === JSON.stringify(values[1]) && typeof values[0] === typeof values[1];
  return h("tr", { className: isSame ? "same" : "changed" }, h("th", { scope: "row" }, plain(name), isSame ? null : h("span", { className: "hidden" }, " differs")), values.map(cell));
}

const named = (job) => job.params ?? Object.fromEntries((job.args ?? []).map((word, at) => [`argument ${at + 1}`, word]));
const [one, other] = jobs.map(named);
const names = [...new Set([...Object.keys(one), ...Object.keys(other)])];
$("#params tbody").append(...names.map((name) => row(name, [one, other].map((given) => (name in given ? given[name] : MISSING)))));
$("#none").hidden = names.length > 0;

const facts = {
  Script: (job) => job.script, Version: (job) => job.version.slice(0, 12), By: (job) => job.principal, Over: (job) => job.transport,
  Created: (job) => absolute(job.created), Took: (job) => (job.ended ? took(job) : ""), "Exit code": (job) => job.exit_code ?? "",
  Error: (job) => (job.error ? `${job.error.type}: ${job.error.message}` : ""), Result: (job) => job.result,
};
for (const [at, job] of jobs.entries()) {
  for (const head of document.querySelectorAll(`[data-job="${at}"]`)) head.append(h("a", { href: jobPage(job.id) }, `${job.id.slice(0, 13)}…`), " ", state(job.state));
}
$("#facts tbody").append(...Object.entries(facts).map(([name, fact]) => row(name, jobs.map(fact))));
const edit = $("#edit");
edit.href = `${scriptPage(jobs[0].script)}?from=${encodeURIComponent(jobs[0].id)}`;
