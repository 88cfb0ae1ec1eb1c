// "Call it from": the call that the form would make, written for other programs.

import { h, toast } from "./dom.js";
import { cli, curl, pythonCall, queue, redis } from "./quote.js";

const WAYS = ["CLI", "curl", "redis-cli", "Python", "queue"];
const KEPT = "remoterun-from";
let way = localStorage.getItem(KEPT) ?? WAYS[0];
if (!WAYS.includes(way)) way = WAYS[0];

/** Leave secrets out: what is shown here is copied into files and shell histories. */
function withoutSecrets(request, schema) {
  const properties = schema?.properties ?? {};
  const isSecret = (name) => {
    const part = properties[name] ?? {};
    return [part, ...(part.anyOf ?? [])].some((one) => one.writeOnly || one.format === "password");
  };
  if (!request.params) return request;
  const entries = Object.entries(request.params).map(([name, value]) => [name, isSecret(name) ? "…" : value]);
  return { ...request, params: Object.fromEntries(entries) };
}

const INLINE = "Files go inline here, as base64: see the README.";

function written(request, addresses, files) {
  const socket = (addresses.socket ?? []).find((url) => /^(tcp|tls):/.test(url));
  const { hostname, port } = new URL((socket ?? "tcp://127.0.0.1:7460").replace(/^\w+:/, "http:"));
  switch (way) {
    case "CLI": return [cli(request, files), "In the node's folder; elsewhere set REMOTERUN_URL and REMOTERUN_TOKEN."];
    case "curl": return [curl(request, location.origin, files), "With a token in REMOTERUN_TOKEN."];
    case "redis-cli": return [redis(request, hostname, port), files.length ? INLINE : socket ? "Any Redis client will do." : "The raw socket is off on this node."];
    case "Python": return [pythonCall(request, socket ?? location.origin), ""];
    default: return [queue(request, files), files.length ? INLINE : "The message for ZeroMQ, RabbitMQ and ActiveMQ; an answer comes where reply_to says."];
  }
}

/** Show the call in an element. */
export function callFrom(place, request, script, { transports }, files = []) {
  const shown = withoutSecrets(request, script.parameters);
  const [text, hint] = written(shown, transports ?? {}, files);
  if (!place.firstChild) build(place, () => callFrom(place, place.request, script, { transports }, place.files));
  place.request = request;
  place.files = files;
  for (const tab of place.querySelectorAll("[data-way]")) {
    const isChosen = tab.dataset.way === way;
    tab.setAttribute("aria-selected", isChosen);
    tab.tabIndex = isChosen ? 0 : -1;
  }
  place.querySelector("pre").textContent = text;
  place.querySelector(".hint").textContent = hint;
}

function build(place, again) {
  const choose = (name, focus) => {
    way = name;
    localStorage.setItem(KEPT, way);
    again();
    if (focus) place.querySelector(`[data-way="${name}"]`).focus();
  };
  const tabs = h("div", { className: "choice", role: "tablist", "aria-label": "Call it from",
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) choose(WAYS[(WAYS.indexOf(way) + step + WAYS.length) % WAYS.length], true);
    } },
    WAYS.map((name) => h("button", { type: "button", role: "tab", id: `from-${name}`, "data-way": name, "aria-controls": "from-text", onclick: () => choose(name) }, name)));
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(place.querySelector("pre").textContent);
      toast("Copied");
    } catch { toast("The browser does not let a page copy here; select the text"); }
  };
  place.append(tabs,
    h("div", { className: "code", role: "tabpanel", id: "from-text", "aria-label": "The call" },
      h("pre", { tabIndex: 0 }), h("button", { type: "button", className: "copy", onclick: copy }, "Copy")),
    h("p", { className: "hint" }));
}
