// What every page has: the clock, the load, the menu, the keyboard.

import { api } from "./api.js";
import { $, $$, data, whileVisible } from "./dom.js";
import { refreshTimes } from "./format.js";

const GO = { s: "/", h: "/console/history", n: "/console/now" };

export function showLoad(info) {
  const { running, queued } = info.load;
  $("#load-text").textContent = `${running} running${queued ? `, ${queued} queued` : ""}`;
  $("#load .dot").dataset.busy = running ? 1 : 0;
}

const isTyping = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;

function move(step) {
  const links = $$(".row:not([hidden]) a.stretch");
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  links[Math.min(Math.max(at + step, 0), links.length - 1)].focus();
}

let leader = 0;
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.key === "Escape" && isTyping(event.target)) event.target.blur();
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  const led = Date.now() - leader < 1500;
  leader = 0;
  if (event.key === "g") leader = Date.now();
  else if (led && GO[event.key]) location.href = GO[event.key];
  else if (event.key === "/" && $("#find")) $("#find").focus();
  else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "f" && $("#follow")) $("#follow").click();
  else if (event.key === "?") $("#keys").showModal();
  else return;
  event.preventDefault();
}

function closeMenus(event) {
  for (const menu of $$("details.menu[open]")) {
    if (event.type === "keydown" ? event.key === "Escape" : !menu.contains(event.target)) menu.open = false;
  }
}

document.addEventListener("keydown", onKey);
document.addEventListener("keydown", closeMenus);
document.addEventListener("click", closeMenus);
$("#show-keys")?.addEventListener("click", () => $("#keys").showModal());
whileVisible(10000, () => refreshTimes());
if (data.principal) setTimeout(() => whileVisible(5000, async () => showLoad(await api.info())), 5000);
