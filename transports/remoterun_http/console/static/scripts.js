// The list of scripts: search as one types, and what each did last.

import { api, jobPage } from "./api.js";
import { $, $$, data, h } from "./dom.js";
import { state, time } from "./format.js";
import "./shell.js";

const find = $("#find");
const rows = $$(".row");

function filter() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    row.hidden = !words.every((word) => row.dataset.text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  for (const folder of $$(".folder")) folder.hidden = !$(".row:not([hidden])", folder);
  $("#none").hidden = shown > 0 || !rows.length;
  const address = new URL(location.href);
  if (find.value) address.searchParams.set("q", find.value); else address.searchParams.delete("q");
  history.replaceState(null, "", address);
}

find.value = new URLSearchParams(location.search).get("q") ?? "";
find.addEventListener("input", filter);
find.addEventListener("keydown", (event) => {
  const first = $(".row:not([hidden]) a.stretch");
  if (event.key === "Enter" && first) first.click();
  if (event.key === "ArrowDown" && first) first.focus();
});
$("#clear").addEventListener("click", () => { find.value = ""; filter(); find.focus(); });
if (find.value) filter();

// A script that none of the newest jobs ran: ask for its last one when it comes into view.
const asked = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    asked.unobserve(target);
    api.jobs({ script: target.dataset.name, limit: 1 }).then(({ jobs: [last] }) => {
      if (last) $(".last", target).append(h("a", { href: jobPage(last.id) }, state(last.state), " ", time(last.created)));
    }, () => {});
  }
});
if (!data.complete) for (const row of $$("[data-last=unknown]")) asked.observe(row);
