// One participant's way through the study: the next trial, where its answer goes, and the end.

import { Media } from "./media.js";
import { Outbox } from "./outbox.js";

const AHEAD = 3;
const SAVING_AFTER_MS = 1000;

export class Study {
  #known = new Set();
  #breaks = new Set();
  #queue = [];
  #refill = null;
  #trial = new AbortController();
  is_over = false;
  failure = null;

  constructor(backend, store, shell) {
    Object.assign(this, { backend, store, shell });
    this.media = new Media(() => backend.is_reachable());
    this.outbox = new Outbox(store, (answers) => backend.answers(answers));
  }

  async join(language) {
    const joined = await this.backend.join(language, this.store);
    Object.assign(this, {
      participant: joined.participant,
      state: joined.state,
      resumed: joined.resumed,
      settings: joined.settings,
      texts: joined.texts,
      language,
      n_trials: joined.n_trials,
    });
    this.n_left = joined.n_left ?? joined.n_trials;
    this.shell.speak(this.language, this.texts);
  }

  async consent() {
    this.state = (await this.backend.consent()).state;
  }

  /** Send what an earlier page left, and find out how much is left. */
  async open() {
    await this.open_outbox();
    await this.#flush();
    await this.#fill();
  }

  open_outbox() {
    return this.outbox.open();
  }

  /** Send what an earlier page left, although the person cannot continue. */
  async send_rest() {
    await this.open_outbox();
    await this.#flush();
  }

  get n_done() {
    return this.n_trials - this.n_left;
  }

  /** The signal that ends when this trial is called off. */
  begin_trial() {
    this.#trial = new AbortController();
    return this.#trial.signal;
  }

  call_off() {
    this.is_over = true;
    this.#trial.abort(new DOMException("called off", "AbortError"));
  }

  fail(error) {
    this.failure = error;
    this.is_over = true;
  }

  /** The next trial; null if there is none. */
  async next(signal) {
    if (!this.#queue.length) await Promise.race([this.#fill(), aborted(signal)]);
    if (!this.#queue.length && this.n_left > 0) {
      this.#known.clear(); // what was given and not answered
      await Promise.race([this.#fill(), aborted(signal)]);
    }
    signal.throwIfAborted();
    const trial = this.#queue.shift() ?? null;
    if (!trial) this.is_over = true;
    else if (this.#queue.length < AHEAD) this.#fill().catch(() => {}); // told when the queue is empty
    return trial;
  }

  #fill() {
    this.#refill ??= this.#fetch().finally(() => (this.#refill = null));
    return this.#refill;
  }

  async #fetch() {
    const given = await this.backend.trials(this.#queue.length + AHEAD + 1);
    this.#count(given);
    if (given.break_after) this.#breaks.add(given.trials.at(-1).number);
    for (const trial of given.trials) {
      if (this.#known.has(trial.number) || this.outbox.has(trial.number)) continue;
      this.#known.add(trial.number);
      this.#queue.push(trial);
      for (const { media } of trial.stimuli) if (media) this.media.load(media);
    }
  }

  /** Keep an answer and wait until it is acknowledged. */
  async deliver(answer, signal) {
    await this.outbox.put(answer);
    const late = setTimeout(() => this.shell.say(this.texts.saving), SAVING_AFTER_MS);
    try {
      await Promise.race([this.#flush(), aborted(signal)]);
    } finally {
      clearTimeout(late);
      if (this.shell.notice.textContent === this.texts.saving) this.shell.say("");
    }
  }

  async #flush() {
    do {
      const reply = await this.outbox.flush();
      if (reply) this.#count(reply);
    } while (this.outbox.size);
  }

  #count({ state, n_left, n_trials }) {
    this.state = state ?? this.state;
    this.n_trials = n_trials ?? this.n_trials;
    this.n_left = n_left ?? this.n_left;
    if (!this.texts) return;
    this.shell.count(this.n_done, this.n_trials);
  }

  /** Whether a break follows the trial that was just answered. */
  is_break(number) {
    return this.#breaks.has(number) && !this.is_over && this.n_left > 0;
  }

  /** Send everything, then say that this is the end; resolves with {state, return_url}. */
  async end(how) {
    if (how !== "withdrawn") await this.#flush();
    const said = await this.backend.end(how);
    if (how === "withdrawn") await this.store.clear();
    return said;
  }
}

function aborted(signal) {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
