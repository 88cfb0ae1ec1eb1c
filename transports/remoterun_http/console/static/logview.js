// Shows lines, however many: only those in view, and some around them, are in the page.

import { h } from "./dom.js";
import { appendPlain } from "./format.js";
import { Lines } from "./lines.js";

const AROUND = 40; // rows in the page above and below what is seen
const BLOCK = 512; // lines whose height is added up together
const TALLEST = 15_000_000; // pixels; browsers cannot scroll any distance, so what is taller is scrolled faster
const SLICE = 20000; // lines searched at once
const MARKS = "remoterun-found";

export class LogView {
  /** Show lines in an element; `changed` is called when `follow`, the count or the hits changed. */
  constructor(place, changed) {
    this.place = place;
    this.changed = changed;
    this.lines = new Lines();
    this.stream = null; // 0, 1, or null for both
    this.wrap = false;
    this.follow = false;
    this.hits = [];
    this.hit = -1;
    this.term = "";
    this.above = h("div", { className: "space" });
    this.rows = h("div", { className: "lines" });
    this.below = h("div", { className: "space" });
    this.probe = h("div", { className: "probe", "aria-hidden": "true" }, "0".repeat(100));
    place.append(this.above, this.rows, this.below, this.probe);
    place.addEventListener("scroll", () => this.scrolled(), { passive: true });
    place.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.measure()).observe(place);
    this.relayout();
    this.measure();
  }

  measure() {
    const box = this.probe.firstChild ? document.createRange() : null;
    box.selectNodeContents(this.probe);
    const { width, height } = box.getBoundingClientRect();
    const lineHeight = parseFloat(getComputedStyle(this.probe).lineHeight) || height || 20;
    const gutter = parseFloat(getComputedStyle(this.probe).paddingLeft) || 0;
    const columns = Math.max(20, Math.floor((this.place.clientWidth - gutter - 16) / (width / 100 || 8)));
    if (columns === this.columns && lineHeight === this.lineHeight) return;
    this.lineHeight = lineHeight;
    this.columns = columns;
    this.relayout();
  }

  /** Forget heights and places: the width, the wrapping or the choice of stream changed. */
  relayout() {
    this.shown = this.stream === null ? null : []; // absolute numbers of the lines shown, or null for all
    this.counted = this.lines.dropped; // lines before it are in `shown` and in `blocks`
    this.base = this.lines.dropped; // the absolute number that `blocks` begin with
    this.blocks = [];
    this.heights = 0;
    this.schedule();
  }

  add(text, stream) {
    this.lines.add(text, stream);
    this.schedule();
  }

  schedule() {
    if (this.waiting) return;
    this.waiting = true;
    // A page in the background gets no frames, and its output should not pile up.
    if (document.hidden) setTimeout(() => this.render(), 200);
    else requestAnimationFrame(() => this.render());
  }

  get count() {
    return this.shown === null ? this.lines.count : this.shown.length;
  }

  /** The line that stands at a place of what is shown. */
  at(place) {
    return this.shown === null ? place : this.shown[place] - this.lines.dropped;
  }

  rowsOf(line) {
    return this.wrap ? Math.max(1, Math.ceil(Math.min(this.lines.texts[line].length, 4000) / this.columns)) : 1;
  }

  /** Take the lines that came since into what is shown. */
  index() {
    if (this.base !== this.lines.dropped) return this.relayout(), this.index();
    const { lines } = this;
    let line = this.counted - lines.dropped;
    // The last one may still have been growing when it was counted.
    const end = lines.open >= 0 ? lines.count - 1 : lines.count;
    for (; line < end; line++) {
      if (this.shown !== null) {
        if (lines.streams[line] !== this.stream) continue;
        this.shown.push(line + lines.dropped);
      }
      this.count_(this.shown === null ? line : this.shown.length - 1, line);
    }
    this.counted = line + lines.dropped;
  }

  count_(place, line) {
    const block = Math.floor(place / BLOCK);
    const rows = this.rowsOf(line);
    this.blocks[block] = (this.blocks[block] ?? 0) + rows;
    this.heights += rows;
  }

  /** Give the place that a row is in, and the row with which it begins. */
  find(row) {
    if (!this.wrap) return [Math.min(row, Math.max(0, this.settledCount() - 1)), Math.min(row, Math.max(0, this.settledCount() - 1))];
    let block = 0;
    let top = 0;
    while (block < this.blocks.length - 1 && top + this.blocks[block] <= row) top += this.blocks[block++];
    let place = block * BLOCK;
    const last = this.settledCount() - 1;
    for (; place < last; place++) {
      const rows = this.rowsOf(this.at(place));
      if (top + rows > row) break;
      top += rows;
    }
    return [Math.max(0, place), top];
  }

  settledCount() {
    return this.shown === null ? this.counted - this.lines.dropped : this.shown.length;
  }

  /** The row with which a place begins. */
  rowAt(place) {
    if (!this.wrap) return place;
    const block = Math.floor(place / BLOCK);
    let top = 0;
    for (let before = 0; before < block; before++) top += this.blocks[before];
    for (let before = block * BLOCK; before < place; before++) top += this.rowsOf(this.at(before));
    return top;
  }

  /** Where a row is scrolled to. */
  pixels(row) {
    return (row * this.lineHeight) / (this.ratio ?? 1);
  }

  render() {
    this.waiting = false;
    this.index();
    const { place, lineHeight } = this;
    const open = this.lines.open >= 0 && (this.stream === null || this.lines.streams[this.lines.open] === this.stream);
    const total = this.heights + (open ? this.rowsOf(this.lines.open) : 0);
    const tall = total * lineHeight;
    const height = Math.min(tall, TALLEST);
    this.ratio = tall > height ? (tall - place.clientHeight) / (height - place.clientHeight) : 1;
    const seen = Math.ceil(place.clientHeight / lineHeight) || 40;
    const bottom = Math.max(0, total - seen);
    const from = this.follow ? bottom : Math.min(Math.floor((place.scrollTop * this.ratio) / lineHeight), bottom);
    const [first, top] = this.find(Math.max(0, from - AROUND));
    const rows = [];
    let row = top;
    let at = first;
    for (; at < this.settledCount() && row < from + seen + AROUND; at++) {
      const line = this.at(at);
      row += this.rowsOf(line);
      rows.push(this.line(line));
    }
    if (open && at >= this.settledCount()) {
      rows.push(this.line(this.lines.open));
      row += this.rowsOf(this.lines.open);
    }
    const scrolled = this.follow ? height - place.clientHeight : place.scrollTop;
    const above = Math.max(0, top * lineHeight - scrolled * (this.ratio - 1));
    this.above.style.height = `${above}px`;
    this.below.style.height = `${Math.max(0, height - above - (row - top) * lineHeight)}px`;
    this.rows.replaceChildren(...rows);
    this.first = first;
    if (this.follow) place.scrollTop = place.scrollHeight;
    this.mark();
    this.changed();
  }

  line(at) {
    const { pieces, isCut } = this.lines.pieces(at);
    const line = h("div", { className: "line", "data-n": at + this.lines.dropped + 1, "data-stream": this.lines.streams[at] ? "stderr" : "stdout" });
    for (const piece of pieces) line.append(...painted(piece));
    if (isCut) line.append(h("span", { className: "control" }, `cut here for display, at ${pieces.reduce((sum, one) => sum + one.text.length, 0)} characters`));
    return line;
  }

  /** Go to either end at once: browsers get there by and by, and give up when what they scroll through changes. */
  key(event) {
    if (event.target !== this.place || !["Home", "End"].includes(event.key) || event.shiftKey) return;
    event.preventDefault();
    this.place.scrollTop = event.key === "Home" ? 0 : this.place.scrollHeight;
    this.setFollow(event.key === "End");
  }

  scrolled() {
    const { place } = this;
    const atEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - this.lineHeight * 1.5;
    if (atEnd !== this.follow && this.count && (place.scrollTop < (this.scrolledTo ?? 0) || atEnd)) {
      this.follow = atEnd;
      this.changed();
    }
    this.scrolledTo = place.scrollTop;
    if (!this.follow) this.schedule();
  }

  setFollow(follow) {
    this.follow = follow;
    this.schedule();
    this.changed();
  }

  setWrap(wrap) {
    const at = this.first + AROUND;
    this.wrap = wrap;
    this.place.classList.toggle("wrap", wrap);
    this.relayout();
    this.index();
    if (!this.follow) this.place.scrollTop = this.pixels(this.rowAt(Math.min(at, this.settledCount())));
  }

  setStream(stream) {
    this.stream = stream;
    this.relayout();
    this.search(this.term);
  }

  /** Look for a text in all that is shown; what comes later is looked at too. */
  search(term) {
    this.term = term.toLowerCase();
    this.hits = [];
    this.hit = -1;
    this.searched = 0;
    clearTimeout(this.searching);
    if (this.term) this.searchOn();
    this.schedule();
  }

  searchOn() {
    this.index();
    const end = Math.min(this.settledCount(), this.searched + SLICE);
    for (let place = this.searched; place < end; place++) {
      if (this.lines.plain(this.at(place)).toLowerCase().includes(this.term)) this.hits.push(place);
    }
    const wasNone = this.hit < 0;
    this.searched = end;
    if (wasNone && this.hits.length) this.go(1);
    this.changed();
    const isMore = end < this.settledCount();
    this.searching = setTimeout(() => this.term && this.searchOn(), isMore ? 0 : 500);
  }

  /** Go to the next or the previous hit. */
  go(step) {
    if (!this.hits.length) return;
    this.hit = (this.hit + step + this.hits.length) % this.hits.length;
    this.follow = false;
    this.place.scrollTop = Math.max(0, this.pixels(this.rowAt(this.hits[this.hit]) - Math.floor(this.place.clientHeight / 3 / this.lineHeight)));
    this.scrolledTo = this.place.scrollTop;
    this.schedule();
    this.changed();
  }

  /** Mark hits in the lines that are in the page, without changing them. */
  mark() {
    if (!("highlights" in CSS)) return;
    CSS.highlights.delete(MARKS);
    if (!this.term) return;
    const ranges = [];
    for (const line of this.rows.children) ranges.push(...found(line, this.term));
    CSS.highlights.set(MARKS, new Highlight(...ranges));
  }
}

/** Give where a text stands in an element; it may go over several of its pieces. */
function* found(element, term) {
  const texts = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let whole = "";
  while (walker.nextNode()) {
    texts.push([walker.currentNode, whole.length]);
    whole += walker.currentNode.data.toLowerCase();
  }
  const place = (offset) => texts.findLast(([, start]) => start <= offset);
  for (let at = whole.indexOf(term); at >= 0; at = whole.indexOf(term, at + term.length)) {
    const [from, fromStart] = place(at);
    const [to, toStart] = place(at + term.length - 1);
    const range = new Range();
    range.setStart(from, Math.min(at - fromStart, from.length));
    range.setEnd(to, Math.min(at + term.length - toStart, to.length));
    yield range;
  }
}

const colour = (value) => `rgb(${value.rgb.join(" ")})`;

/** Make the elements of a piece: colours are classes where the palette has them. */
function painted({ text, bold, faint, italic, underline, fg, bg, url }) {
  if (!bold && !faint && !italic && !underline && !fg && !bg && !url) {
    const fragment = document.createDocumentFragment();
    appendPlain(fragment, text);
    return fragment.childNodes;
  }
  const classes = [bold && "bold", faint && "faint", italic && "italic", underline && "underline"].filter(Boolean);
  const element = url && /^https?:/.test(url)
    ? h("a", { href: url, rel: "noopener noreferrer nofollow", target: "_blank", title: url })
    : h("span");
  for (const [value, kind] of [[fg, "fg"], [bg, "bg"]]) {
    if (!value) continue;
    if (value.class_name !== "truecolor") classes.push(`${value.class_name}-${kind}`);
    else element.style[kind === "fg" ? "color" : "backgroundColor"] = colour(value);
  }
  element.className = classes.join(" ");
  appendPlain(element, text);
  return [element];
}
