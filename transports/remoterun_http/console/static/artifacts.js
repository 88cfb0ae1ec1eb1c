// The files that a job left, shown in place where that is harmless.

import { artifactPath } from "./api.js";
import { h } from "./dom.js";
import { plain, size } from "./format.js";
import { asText, grid } from "./value.js";

const MOST = 300_000; // bytes read of a text
const frames = window.trustedTypes?.createPolicy("sandboxed-frame", { createHTML: (html) => html });

/** Make the figure of a file. */
export function artifact(id, { name, size: bytes, media_type: kind }) {
  const path = artifactPath(id, name);
  const figure = h("figure", { className: "file", "data-kind": kind },
    h("figcaption", {}, h("span", { className: "name" }, plain(name)), h("span", { className: "hint" }, `${kind}, ${size(bytes)}`),
      h("a", { href: path, download: name.split("/").pop() }, "Download")));
  const view = viewOf(kind, name);
  if (view) view(figure, path, name, bytes);
  return figure;
}

function viewOf(kind, name) {
  if (/^image\/(png|jpeg|gif|webp|avif|bmp|svg\+xml)$/.test(kind)) return picture;
  if (kind === "text/csv" || /\.(csv|tsv)$/.test(name)) return csv;
  if (kind === "text/html") return page;
  if (/^text\/|[/+](json|xml|yaml|toml)$/.test(kind)) return text;
  return null;
}

// As an image nothing of a file runs, an SVG's scripts neither.
function picture(figure, path, name) {
  const image = h("img", { src: path, alt: `Picture ${name}`, loading: "lazy" });
  image.addEventListener("error", () => image.replaceWith(h("p", { className: "hint" }, "It cannot be shown as a picture.")));
  figure.append(h("a", { href: path, className: "picture" }, image));
}

async function start(figure, path, bytes) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`the node answered ${response.status}`);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let read = 0;
  let found = "";
  while (read < MOST) {
    const { done, value } = await reader.read();
    if (done) break;
    read += value.length;
    found += decoder.decode(value, { stream: true });
  }
  reader.cancel();
  if (bytes > read) figure.append(h("p", { className: "hint" }, `The first ${size(read)} of ${size(bytes)} are shown.`));
  return found;
}

const shown = (make) => async (figure, path, name, bytes) => {
  const place = h("div", { className: "view" });
  figure.append(place);
  try {
    place.append(make(await start(figure, path, bytes), name));
  } catch (error) {
    place.append(h("p", { className: "hint" }, `It cannot be shown: ${error.message}`));
  }
};

const csv = shown((content, name) => {
  const rows = parsed(content, name.endsWith(".tsv") ? "\t" : separator(content));
  const columns = rows.shift() ?? [];
  return grid(columns, rows);
});

const text = shown((content, name) => {
  let said = content;
  if (name.endsWith(".json")) try { said = asText(JSON.parse(content)); } catch { /* then as it is */ }
  return h("pre", { tabIndex: 0 }, plain(said));
});

// No scripts, no forms, no origin: what is in it can look like anything and do nothing.
const page = shown((content, name) => {
  const frame = h("iframe", { sandbox: "", title: `File ${name}` });
  frame.srcdoc = frames ? frames.createHTML(content) : content;
  return frame;
});

const separator = (content) => {
  const line = content.slice(0, content.indexOf("\n") + 1 || undefined);
  return [",", ";", "\t"].reduce((best, one) => (line.split(one).length > line.split(best).length ? one : best));
};

/** Rows of comma-separated values (RFC 4180). */
export function parsed(content, comma = ",") {
  const rows = [];
  let row = [];
  let field = "";
  let quoted = false;
  for (let at = 0; at < content.length; at++) {
    const one = content[at];
    if (quoted) {
      if (one !== '"') field += one;
      else if (content[at + 1] === '"') field += content[++at];
      else quoted = false;
    } else if (one === '"' && field === "") quoted = true;
    else if (one === comma) { row.push(field); field = ""; }
    else if (one === "\n") { row.push(field.replace(/\r$/, "")); rows.push(row); row = []; field = ""; }
    else field += one;
  }
  if (field || row.length) rows.push([...row, field]);
  return rows;
}
