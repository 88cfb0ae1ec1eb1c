// A result as a tree, a table or text.

import { h } from "./dom.js";
import { plain } from "./format.js";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isFlat = (value) => value === null || typeof value !== "object";
const MOST = 500; // entries of one level; the text has them all

export const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

/** Give the ways in which a value can be shown, the best first. */
export function waysOf(value) {
  if (isFlat(value)) return ["text"];
  return isTable(value) ? ["table", "tree", "text"] : ["tree", "text"];
}

const isTable = (value) =>
  (Array.isArray(value) && value.length > 0 && value.every((row) => isObject(row) && Object.values(row).every(isFlat))) ||
  (isObject(value) && Object.keys(value).length > 0 && Object.values(value).every(isFlat));

/** Show a value in one of its ways. */
export function show(value, way) {
  if (way === "table") return table(value);
  if (way === "tree") return h("div", { className: "tree" }, tree(value, 0));
  const text = asText(value);
  const cut = text.length > 200_000;
  return h("pre", { tabIndex: 0 }, plain(cut ? text.slice(0, 200_000) : text), cut ? h("span", { className: "control" }, "cut here for display") : null);
}

/** A value that is no list and no object. */
export function leaf(value) {
  const kind = value === null ? "null" : typeof value;
  const text = typeof value === "string" ? value : typeof value === "bigint" ? value.toString() : JSON.stringify(value);
  return h("span", { className: `leaf ${kind}` }, plain(text.length > 2000 ? `${text.slice(0, 2000)}…` : text));
}

function tree(value, depth) {
  if (isFlat(value)) return leaf(value);
  const entries = Array.isArray(value) ? value.map((item, index) => [index, item]) : Object.entries(value);
  if (!entries.length) return h("span", { className: "leaf null" }, Array.isArray(value) ? "empty list" : "empty object");
  return h("ul", {}, entries.slice(0, MOST).map(([key, item]) => h("li", {}, branch(key, item, depth))), more(entries.length));
}

function branch(key, item, depth) {
  const name = h("span", { className: "key" }, plain(String(key)));
  if (isFlat(item)) return [name, " ", leaf(item)];
  const count = Array.isArray(item) ? item.length : Object.keys(item).length;
  const details = h("details", { open: depth < 2 && count <= 50 }, h("summary", {}, name, " ", h("span", { className: "sum" }, Array.isArray(item) ? `${count} items` : `${count} fields`)));
  const fill = () => { if (details.open && details.children.length < 2) details.append(tree(item, depth + 1)); };
  details.addEventListener("toggle", fill);
  fill();
  return details;
}

const more = (count) => (count > MOST ? h("li", { className: "hint" }, `${count - MOST} more; the text has them all`) : null);

function table(value) {
  if (!Array.isArray(value)) {
    const rows = Object.entries(value).map(([key, item]) => h("tr", {}, h("th", { scope: "row" }, plain(key)), h("td", {}, leaf(item))));
    return scrolled(h("table", { className: "pairs" }, h("tbody", {}, rows)));
  }
  const columns = [...new Set(value.slice(0, MOST).flatMap(Object.keys))];
  return grid(columns, value.map((row) => columns.map((column) => row[column])));
}

/** A table of leaves under headings. */
export function grid(columns, rows) {
  const isNumber = columns.map((_, at) => rows.slice(0, 50).every((row) => row[at] === undefined || row[at] === "" || !Number.isNaN(Number(row[at] ?? NaN))));
  const head = h("tr", {}, columns.map((column, at) => h("th", { scope: "col", className: isNumber[at] ? "number" : "" }, plain(String(column)))));
  const body = rows.slice(0, MOST).map((row) => h("tr", {}, row.map((item, at) => h("td", { className: isNumber[at] ? "number" : "" }, item === undefined ? "" : leaf(item)))));
  return h("div", {}, scrolled(h("table", {}, h("thead", {}, head), h("tbody", {}, body))),
    rows.length > MOST ? h("p", { className: "hint" }, `${rows.length - MOST} more rows`) : null);
}

const scrolled = (element) => h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Table" }, element);
