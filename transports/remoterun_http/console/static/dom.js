// Elements without markup: every text is a text node.

/** Make an element: h("a", {href}, "text", child). Properties that begin with "on" are listeners; data- and aria- are attributes. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-") && name !== "list") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** The values that the server put into the page. */
export const data = JSON.parse(document.getElementById("data")?.textContent ?? "{}");

let fading;
/** Say something in passing, to eyes and ears. */
export function toast(text, kind = "") {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.dataset.kind = kind;
  clearTimeout(fading);
  fading = setTimeout(() => { place.textContent = ""; }, 6000);
}

/** Call a function at once and then each so many milliseconds, while the page is looked at. */
export function whileVisible(milliseconds, work) {
  let timer;
  const round = async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    try { await work(); } catch (error) { if (error.code === undefined) throw error; }
    timer = setTimeout(round, milliseconds);
  };
  document.addEventListener("visibilitychange", round);
  round();
  return round;
}
