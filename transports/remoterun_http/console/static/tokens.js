// Tokens: made, shown once, revoked.

import { api } from "./api.js";
import { $, $$, data, h, toast } from "./dom.js";
import { time } from "./format.js";
import "./shell.js";

async function list() {
  const { tokens } = await api.tokens();
  $("#tokens tbody").replaceChildren(...tokens.map((token) => h("tr", {},
    h("th", { scope: "row", className: "name" }, token.name), h("td", {}, token.scopes.join(", ")), h("td", {}, time(token.created)),
    h("td", {}, token.expires ? time(token.expires) : "never"),
    h("td", { className: "number" }, h("button", { type: "button", className: "danger", "aria-label": `Revoke ${token.name}`, onclick: () => ask(token) }, "Revoke")))));
}

let asked = null;
function ask(token) {
  asked = token.name;
  $("#revoke-text").textContent = token.name === data.principal
    ? `${token.name} is the token that you are signed in with: you will be signed out.`
    : `Whoever uses ${token.name} is cut off within a second, on open connections too.`;
  $("#revoke").showModal();
}

$("#revoke").addEventListener("close", async ({ target }) => {
  if (target.returnValue !== "revoke") return;
  try { await api.revokeToken(asked); toast(`${asked} is revoked`); await list(); } catch (error) { if (!error.code) throw error; toast(error.message, "bad"); }
});

const SCRIPTS = $("#run-globs");
function scopes() {
  const chosen = $$("#scopes input:checked").map((box) => box.value);
  const globs = SCRIPTS.value.split(/[\s,]+/).filter(Boolean);
  return chosen.flatMap((scope) => (scope === "run" && globs.length ? globs.map((glob) => `run:${glob}`) : [scope]));
}

$("#make").addEventListener("submit", async (event) => {
  event.preventDefault();
  const problem = $("#problem");
  problem.hidden = true;
  const days = Number($("#days").value);
  try {
    const { token } = await api.newToken({ name: $("#name").value.trim(), scopes: scopes(), expires: days ? days * 86400 : null });
    $("#once code").textContent = token;
    $("#once").hidden = false;
    $("#once").focus();
    event.target.reset();
    await list();
  } catch (error) {
    if (!error.code) throw error;
    problem.hidden = false;
    problem.textContent = error.message;
    $("#name").focus();
  }
});
$("#copy").addEventListener("click", async () => {
  try { await navigator.clipboard.writeText($("#once code").textContent); toast("Copied"); } catch { toast("The browser does not let a page copy here; select the text"); }
});
await list();
