// A job's events from the first on, live, each exactly once: over lost connections, restarts and sleeping laptops.

import { ApiError, api, signIn } from "./api.js";

const PAUSES = [200, 500, 1000, 2000, 5000]; // milliseconds before another try
const HIDDEN = 20000; // milliseconds that a page nobody looks at keeps its connection: browsers have six for a host

export class Follower {
  /** Follow a job: `event` is called with each event, `line` with how the connection is ("live", "lost", "ended"). */
  constructor(id, { event, line }) {
    this.id = id;
    this.event = event;
    this.line = line;
    this.last = 0;
    this.tries = 0;
    this.done = false;
    this.over = false; // the job had ended when it was last asked for
    this.source = null;
    document.addEventListener("visibilitychange", () => this.seen());
    this.open();
  }

  open() {
    if (this.source || this.done) return;
    clearTimeout(this.retry);
    const source = new EventSource(`/jobs/${encodeURIComponent(this.id)}/events?after=${this.last}`);
    this.source = source;
    source.onopen = () => this.line("live");
    source.onerror = () => this.lost();
    for (const kind of ["state", "output", "progress", "artifact"]) source.addEventListener(kind, (message) => this.take(message));
    source.addEventListener("problem", (message) => {
      if (JSON.parse(message.data).code === "unauthenticated") signIn();
      else this.lost();
    });
  }

  take(message) {
    const event = JSON.parse(message.data);
    if (event.n <= this.last) return;
    if (event.n !== this.last + 1) return this.lost(); // ask again from where we are
    this.last = event.n;
    this.tries = 0;
    this.over = false;
    this.event(event);
    if (event.final) this.end();
  }

  end() {
    this.done = true;
    this.close();
    this.line("ended");
  }

  close() {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  /** The browser would try by itself, but not after every refusal, and it does not say why. */
  lost() {
    if (this.done || !this.source) return;
    this.close();
    if (this.tries > 0) this.line("lost");
    this.retry = setTimeout(() => this.again(), PAUSES[Math.min(this.tries++, PAUSES.length - 1)]);
  }

  async again() {
    try {
      const job = await api.job(this.id);
      if (this.over && job.ended) return this.conclude(job);
      this.over = Boolean(job.ended);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.line("lost");
      if (error.code === "not_found") return this.end();
      this.retry = setTimeout(() => this.again(), PAUSES[Math.min(this.tries++, PAUSES.length - 1)]);
      return;
    }
    this.open();
  }

  /** A node that was killed may have shown events that it had not yet on disk: the last one then has a number that is behind us. */
  conclude(job) {
    this.event({ kind: "state", n: this.last, time: job.ended, state: job.state, attempt: job.attempt, final: true });
    this.end();
  }

  seen() {
    clearTimeout(this.sleep);
    if (document.hidden) this.sleep = setTimeout(() => this.close(), HIDDEN);
    else if (!this.source && !this.done) this.again();
  }
}
