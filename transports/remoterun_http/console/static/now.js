// What goes on now: load, jobs that run and wait, addresses, limits, refused calls.

import { api, jobPage } from "./api.js";
import { $, data, h, whileVisible } from "./dom.js";
import { plain, span, state, stateName, time, took } from "./format.js";
import { showLoad } from "./shell.js";

let before = null; // the counters of the last look, for the pace

const tile = (name, figure, of, max) =>
  h("div", { className: "card tile" }, h("h2", { className: "hint" }, name), h("span", { className: "figure" }, figure.toLocaleString(), of ? h("span", { className: "of" }, ` ${of}`) : null),
    max ? h("meter", { min: 0, max, value: figure, "aria-label": `${name}: ${figure} of ${max}` }) : null);

function showInfo(info) {
  showLoad(info);
  const { running, queued, workers, queue } = info.load;
  const ended = ["succeeded", "failed", "timed_out", "cancelled", "lost"].reduce((sum, name) => sum + (info.counters[`jobs_${name}`] ?? 0), 0);
  const refused = Object.entries(info.counters).reduce((sum, [name, count]) => sum + (name.startsWith("refused_") ? count : 0), 0);
  const moment = Date.now();
  const pace = before ? Math.max(0, ((ended - before.ended) * 1000) / (moment - before.moment)) : 0;
  before = { ended, moment };
  $("#tiles").replaceChildren(
    tile("Running", running, `of ${workers}`, workers), tile("Queued", queued, `of ${queue.toLocaleString()}`, queue),
    tile("Ended", ended, pace >= 0.05 ? `${pace.toFixed(1)} a second` : ""), tile("Refused", refused, ""),
    tile("Scripts", info.scripts, ""), h("div", { className: "card tile" }, h("h2", { className: "hint" }, "Up"), h("span", { className: "figure" }, span(Math.max(60, (Date.now() - new Date(info.started)) / 1000)).replace(/ 0 s$/, ""))));
  pairs("#addresses", Object.entries(info.transports).map(([name, urls]) => [name, [...urls, ...(info.brokers[name] ? [info.brokers[name]] : [])].join("\n")]));
  pairs("#limits", Object.entries(info.enforced));
  pairs("#counters", Object.entries(info.counters).sort().map(([name, count]) => [name.startsWith("refused_") ? `refused: ${stateName(name.slice(8))}` : stateName(name), count.toLocaleString()]));
}

function pairs(place, entries) {
  $(place).replaceChildren(...entries.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, plain(name)), h("td", {}, plain(String(value))))));
}

function showJobs(place, jobs) {
  $(place).replaceChildren(...jobs.map((job) => h("li", {}, h("a", { href: jobPage(job.id) }, state(job.state), " ", h("span", { className: "name" }, job.script)),
    h("span", { className: "took" }, job.principal, " · ", job.started ? took(job) : time(job.created)))));
  $(`${place}-none`).hidden = jobs.length > 0;
}

function showRefusals(refusals) {
  $("#refusals tbody").replaceChildren(...refusals.map((one) => h("tr", {}, h("td", {}, time(one.time)), h("td", {}, one.principal ?? "nobody"), h("td", {}, one.transport),
    h("td", {}, one.operation, one.script ? [" ", h("code", {}, plain(one.script))] : null), h("td", {}, h("strong", {}, stateName(one.code)), " ", plain(one.message)))));
  $("#refusals-none").hidden = refusals.length > 0;
}

showInfo(data.info);
whileVisible(2000, async () => showInfo(await api.info()));
if (data.read) {
  whileVisible(2000, async () => {
    const [running, queued] = await Promise.all(["running", "queued"].map((wanted) => api.jobs({ state: wanted, limit: 20 })));
    showJobs("#running", running.jobs);
    showJobs("#queued", queued.jobs);
  });
}
if (data.read_all) whileVisible(4000, async () => showRefusals((await api.refusals(50)).refusals));
