// A form made from a script's JSON Schema by Jedison, with the node's own words beside its fields.

import { $, $$, h } from "./dom.js";
import { intoForm, outOfForm, prepare } from "./schema.js";

const words = { en: { arrayDelete: "Remove", arrayAdd: "Add" } };

const TYPED = "input:not([type=checkbox], [type=radio], [type=file]), textarea";
const TEXTS = new Set(["text", "search", "url", "tel", "password", "textarea"]);

export class ScriptForm {
  /** Show a form in an element; `changed` is called with every change. */
  constructor(place, parameters, former, changed) {
    this.place = place;
    this.changed = changed;
    this.schema = prepare(parameters);
    this.files = new Map(); // chosen files by parameter
    const { Create, Theme } = window.Jedison;
    this.form = new Create({
      container: place,
      theme: new Theme(),
      schema: this.schema,
      switcherInput: "select-inline",
      objectAdd: false,
      showErrors: "never",
      purifyData: false,
      btnIcons: false,
      arrayDeleteConfirm: false,
      arrayMove: false,
      enforceRequired: false,
      enforceEnum: false,
      enablePropertiesToggle: false,
      translations: words,
      id: "p",
    });
    place.removeAttribute("aria-busy");
    this.pristine = JSON.parse(JSON.stringify(this.form.getValue()));
    if (former !== undefined) this.form.setValue({ ...this.pristine, ...intoForm(former, this.schema, this.pristine) });
    this.finish();
    this.form.on("change", () => { this.finish(); changed(); });
    // The library takes a value when its field is left, and then builds lists anew: a button that is being pressed
    // would be gone before it is let go. So each value is taken as it is typed, and not once more afterwards.
    place.addEventListener("input", (event) => { if (event.target.matches(TYPED)) this.take(event.target); });
    place.addEventListener("change", (event) => {
      if (event.isTrusted && event.target.matches(TYPED)) event.stopImmediatePropagation();
    }, true);
  }

  /** Let the library take what stands in a field now. */
  take(field) {
    const { value } = field;
    const [start, end] = TEXTS.has(field.type) ? [field.selectionStart, field.selectionEnd] : [null, null];
    const hadFocus = document.activeElement === field;
    field.dispatchEvent(new Event("change", { bubbles: true }));
    if (field.value !== value) field.value = value; // half a number is none yet
    // The library puts its fields into the page anew, and the focus back a moment later: the next key would be lost.
    if (hadFocus && document.activeElement !== field) field.focus({ preventScroll: true });
    if (start !== null && hadFocus) field.setSelectionRange(start, end);
  }

  /** Give the parameters, without what was left empty. Throws an error with `fields` where JSON is expected and is none. */
  value() {
    const chosen = (path) => this.form.getInstance(["#", ...path].join("/"))?.index ?? 0;
    return outOfForm(this.form.getValue(), this.schema, this.pristine, chosen);
  }

  /** Say what is wrong, each message beside its field; give those that no field is there for. */
  showErrors(fields) {
    this.clearErrors();
    const homeless = [];
    let first = null;
    for (const { field, message } of fields) {
      const place = this.find(field);
      if (!place) { homeless.push({ field, message }); continue; }
      const input = $("input:not([type=hidden]), select, textarea, button", place);
      const id = `problem-${field.replace(/[^A-Za-z0-9_-]/g, "_")}`;
      const said = h("p", { className: "problem", id }, message);
      ($(":scope .jedi-messages-slot", place) ?? place).append(said);
      if (input) {
        input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-describedby", `${input.getAttribute("aria-describedby") ?? ""} ${id}`.trim());
      }
      first ??= input;
    }
    first?.focus();
    return homeless;
  }

  clearErrors() {
    for (const said of $$(".problem", this.place)) said.remove();
    for (const input of $$("[aria-invalid]", this.place)) input.removeAttribute("aria-invalid");
  }

  /** Give the element of a field, or of the nearest one around it. */
  find(field) {
    const steps = field.split(".");
    while (steps.length) {
      const place = $(`[data-path="${CSS.escape(`#/${steps.join("/")}`)}"]`, this.place);
      if (place) return place;
      steps.pop();
    }
    return null;
  }

  /** Add what the library leaves out: which fields must be filled, and how they are called by those who cannot see. */
  finish() {
    for (const place of $$("[data-path]", this.place)) {
      const part = this.part(place.dataset.path);
      if (!part || place.dataset.finished) continue;
      place.dataset.finished = "1";
      place.dataset.required = part["x-required"] ? "1" : "0";
      if (part["x-upload"]) this.takeFiles(place, part);
      const input = $("input:not([type=hidden]), select, textarea", place);
      if (input && part["x-required"] && !["object", "array"].includes(place.dataset.type)) input.setAttribute("aria-required", "true");
    }
  }

  /** Put a chooser of files in the place of a text field. */
  takeFiles(place, part) {
    const path = place.dataset.path.slice(2).replaceAll("/", ".");
    const text = $("input", place);
    const chooser = h("input", { type: "file", id: text.id, multiple: part["x-several"], "aria-describedby": text.getAttribute("aria-describedby") });
    chooser.addEventListener("change", (event) => {
      event.stopPropagation();
      this.files.set(path, [...chooser.files]);
      this.changed();
    });
    const kept = this.files.get(path);
    if (kept) { const list = new DataTransfer(); for (const file of kept) list.items.add(file); chooser.files = list.files; }
    text.removeAttribute("id");
    text.hidden = true;
    text.after(chooser);
  }

  /** Give the chosen files, each under the path of its parameter. */
  attachments() {
    return [...this.files].flatMap(([path, files]) => {
      const several = this.part(`#/${path.replaceAll(".", "/")}`)?.["x-several"];
      return files.map((file, at) => [several ? `${path}.${at}` : path, file]);
    });
  }

  part(path) {
    let part = this.schema;
    for (const step of path.split("/").slice(1)) part = part?.properties?.[step] ?? part?.prefixItems?.[step] ?? part?.items;
    return part;
  }
}
