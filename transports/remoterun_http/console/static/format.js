// How values are said: times, spans, sizes; and texts that could deceive, made plain.

import { h } from "./dom.js";

const WORDS = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "narrow" });
const WHEN = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const SHORT = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

export const absolute = (time) => WHEN.format(new Date(time));

/** A moment beside now: "3 min. ago"; after a week, the date. */
export function ago(time) {
  const seconds = (new Date(time) - Date.now()) / 1000;
  if (Math.abs(seconds) < 5) return "just now";
  if (Math.abs(seconds) > 7 * 86400) return SHORT.format(new Date(time));
  const [unit, length] = UNITS.find(([, each]) => Math.abs(seconds) >= each);
  return WORDS.format(Math.round(seconds / length), unit);
}

export const time = (value) => h("time", { dateTime: value, title: absolute(value) }, ago(value));

/** Say anew every moment in the page. */
export function refreshTimes(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const said = ago(element.dateTime);
    if (element.textContent !== said) element.textContent = said;
    if (!element.title) element.title = absolute(element.dateTime);
  }
}

export function span(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours >= 24) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

export function took(job, now = Date.now()) {
  if (!job.started) return "";
  return span(Math.max(0, (job.ended ? new Date(job.ended) : now) - new Date(job.started)) / 1000);
}

export function size(bytes) {
  for (const [unit, length] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (bytes >= length) return `${(bytes / length).toFixed(bytes / length < 10 ? 1 : 0)} ${unit}`;
  }
  return `${bytes} B`;
}

export const stateName = (state) => state.replaceAll("_", " ");
export const state = (value) =>
  h("span", { className: "state", "data-state": value }, h("span", { className: "dot" }), stateName(value));

// Controls that reorder or hide text (Unicode TR9, TR36), and those of terminals.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const NAMES = { "\u0000": "NUL", "\u0007": "BEL", "\u0008": "BS", "\u001b": "ESC", "\u007f": "DEL" };

/** Append a text to an element; what nobody would see is shown by its name. */
export function appendPlain(element, text) {
  let from = 0;
  HIDDEN.lastIndex = 0;
  for (let found = HIDDEN.exec(text); found; found = HIDDEN.exec(text)) {
    if (found.index > from) element.append(text.slice(from, found.index));
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    element.append(h("span", { className: "control" }, NAMES[found[0]] ?? `U+${code}`));
    from = found.index + 1;
  }
  if (from < text.length) element.append(from ? text.slice(from) : text);
  return element;
}

export const plain = (text, tag = "span") => appendPlain(h(tag, { className: "text" }), text);
