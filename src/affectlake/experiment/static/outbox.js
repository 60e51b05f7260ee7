// Answers on their way: each is on disk in this browser before it is sent, and stays there until it is acknowledged.

import { Refused } from "./connection.js";

const MOST_AT_ONCE = 20;

export class Outbox {
  #pending = new Map();
  #running = null;

  /** `send` takes a list of answers and returns {stored, state, n_left}. */
  constructor(store, send) {
    this.store = store;
    this.send = send;
    this.last = null;
  }

  get size() {
    return this.#pending.size;
  }

  /** Take up what an earlier page left. */
  async open() {
    for (const one of await this.store.all("answers")) this.#pending.set(one.number, one);
  }

  has(number) {
    return this.#pending.has(number);
  }

  /** Keep an answer; the first answer to a number stays. */
  async put(answer) {
    if (this.#pending.has(answer.number)) return;
    this.#pending.set(answer.number, answer);
    try {
      await this.store.put("answers", answer.number, answer);
    } catch {} // the disk is full: the answer is in memory, and the page waits until it is acknowledged
  }

  /** Send everything; resolves with the last reply when all is acknowledged. */
  flush() {
    this.#running ??= this.#send_all().finally(() => (this.#running = null));
    return this.#running;
  }

  async #send_all() {
    while (this.#pending.size) {
      const batch = [...this.#pending.values()].slice(0, MOST_AT_ONCE);
      try {
        this.last = await this.send(batch);
        await this.#drop(this.last.stored);
        await this.#drop(this.last.refused ?? []); // no answer of this person: sending it again would not help
        if (batch.every((one) => this.#pending.has(one.number))) throw new Refused("not_stored");
      } catch (error) {
        if (!(error instanceof Refused && error.code === "not_your_trial")) throw error;
        await this.#send_singly(batch);
      }
    }
    return this.last;
  }

  /** Find the answers that the server can never accept, and leave them. */
  async #send_singly(batch) {
    for (const one of batch) {
      try {
        this.last = await this.send([one]);
      } catch (error) {
        if (!(error instanceof Refused && error.code === "not_your_trial")) throw error;
      }
      await this.#drop([one.number]);
    }
  }

  async #drop(numbers) {
    for (const number of numbers) {
      this.#pending.delete(number);
      try {
        await this.store.remove("answers", number);
      } catch {} // it would be sent again, with the same number
    }
  }
}
