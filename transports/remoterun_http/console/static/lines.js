// A job's output as lines, as a terminal would show them: carriage returns go over what stands, colours go on.

import { AnsiUp } from "./vendor/ansi_up.js";

export const LONGEST = 4000; // characters of a line that are shown; the download has the rest
export const MOST = 1_000_000; // lines kept; of more, the oldest go

// What moves a cursor or does more than colour has no meaning here; ESC [ … m is left to the painter.
const STRIP = /\u001b(?:\[[0-?]*[ -/]*[@-ln-~]|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -/]+[0-~]|[0-OQ-WYZ\\`-~])/g;
const COLOURS = /\u001b\[[0-9;]*m/g;

/** The colours in force at the beginning of a line, kept only where there are any. */
class Pen extends AnsiUp {
  constructor() {
    super();
    this.pieces = [];
  }
  transform_to_html(piece) {
    if (piece.text) this.pieces.push(piece);
    return "";
  }
  process_hyperlink({ text, url }) {
    this.pieces.push({ ...this.with_state({ text }), url });
    return "";
  }
  get state() {
    const { bold, faint, italic, underline, fg, bg } = this;
    return bold || faint || italic || underline || fg || bg ? { bold, faint, italic, underline, fg, bg } : null;
  }
  set state(kept) {
    Object.assign(this, kept ?? { bold: false, faint: false, italic: false, underline: false, fg: null, bg: null });
  }
  /** Give the pieces of a line, each with its colours. */
  paint(text) {
    this.pieces = [];
    this._buffer = "";
    this.ansi_to_html(text);
    if (this._buffer) this.pieces.push({ ...this.with_state({ text: this._buffer }) });
    this._buffer = "";
    return this.pieces;
  }
}

export class Lines {
  constructor() {
    this.pen = new Pen();
    this.clear();
  }

  clear() {
    this.texts = []; // each line as it came, colours and all
    this.streams = []; // 0: stdout, 1: stderr
    this.pens = new Map(); // line → the colours at its beginning, where there are any
    this.dropped = 0; // lines that went
    this.open = -1; // the line that is not at its end, or -1
    this.state = null;
  }

  get count() {
    return this.texts.length;
  }

  /** Add a piece of one stream; a line is one stream's. */
  add(text, stream) {
    if (this.open >= 0 && this.streams[this.open] !== stream) this.close();
    let from = 0;
    while (from < text.length) {
      const end = text.indexOf("\n", from);
      this.write(end < 0 ? text.slice(from) : text.slice(from, end), stream);
      if (end < 0) break;
      this.close();
      from = end + 1;
    }
    if (this.count > MOST) this.drop(this.count - MOST);
  }

  write(part, stream) {
    if (this.open < 0) {
      this.open = this.texts.push("") - 1;
      this.streams.push(stream);
      if (this.state) this.pens.set(this.open + this.dropped, this.state);
    }
    let whole = this.texts[this.open];
    if (whole.length > LONGEST && whole.includes("\r")) whole = settled(whole) + (whole.endsWith("\r") ? "\r" : "");
    if (whole.length < LONGEST * 4 || part.includes("\r")) whole += part.length > LONGEST * 4 ? shortened(part) : part;
    this.texts[this.open] = whole;
  }

  /** A line is at its end: say what a terminal would be left with. */
  close() {
    const at = this.open;
    const text = settled(this.texts[at]);
    this.texts[at] = text;
    if (text.includes("\u001b")) {
      this.pen.state = this.state;
      this.pen.paint(text);
      this.state = this.pen.state;
    }
    this.open = -1;
  }

  drop(count) {
    const gone = Math.max(count, 1000);
    this.texts.splice(0, gone);
    this.streams.splice(0, gone);
    this.dropped += gone;
    for (const line of this.pens.keys()) {
      if (line >= this.dropped) break;
      this.pens.delete(line);
    }
    this.open = this.open < 0 ? -1 : this.open - gone;
  }

  /** Give a line's text without colours. */
  plain(at) {
    const text = settled(this.texts[at]);
    return text.includes("\u001b") ? text.replace(COLOURS, "") : text;
  }

  /** Give a line's pieces, with colours, cut to what can be shown. */
  pieces(at) {
    let text = settled(this.texts[at]);
    const isCut = text.length > LONGEST;
    if (isCut) text = text.slice(0, LONGEST);
    if (!text.includes("\u001b") && !this.pens.has(at + this.dropped)) return { pieces: [{ text }], isCut };
    this.pen.state = this.pens.get(at + this.dropped) ?? null;
    return { pieces: this.pen.paint(text), isCut };
  }
}

// Of a piece that is longer than anything shown, what comes after its last carriage return counts.
const shortened = (part) => part.slice(part.lastIndexOf("\r") + 1).slice(0, LONGEST * 4) + "…";

const ERASES = /\u001b\[[02]?K/;

/** Give what a terminal would be left with after a line's carriage returns; cursor movements have no meaning here. */
export function settled(text) {
  if (text.endsWith("\r")) text = text.slice(0, -1);
  if (!text.includes("\r")) return text.includes("\u001b") ? text.replace(STRIP, "") : text;
  let left = "";
  let erased = false;
  for (const raw of text.split("\r")) {
    const part = raw.includes("\u001b") ? raw.replace(STRIP, "") : raw;
    const over = !erased && !ERASES.test(raw) && left.length > part.length && !left.includes("\u001b") && !part.includes("\u001b");
    left = over ? part + left.slice(part.length) : part || (erased ? "" : left);
    erased = raw.includes("\u001b[2K");
  }
  return left;
}
