// The study from files alone: trials from lists/list_N.json, answers in this browser until the end. The methods are those
// of `server_backend.js`.

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

export class Backend {
  constructor(connection) {
    this.connection = connection;
    this.given = new URLSearchParams(location.search);
  }

  async key() {
    return `files:${location.pathname}`;
  }

  async join(language, store) {
    this.store = store;
    this.study ??= await this.#file("study.json");
    this.me = (await store.get("session", "me")) ?? {
      participant: random_code(16),
      list: this.#list(),
      state: "consent",
    };
    await this.#note({ language });
    const { trials, breaks } = await this.#file(`lists/list_${this.me.list}.json`);
    this.list = trials;
    this.breaks = new Set(breaks);
    this.kept = new Map((await store.all("kept")).map((one) => [one.number, one]));
    return {
      participant: this.me.participant,
      state: this.me.state,
      resumed: this.kept.size > 0,
      n_trials: this.list.length,
      n_left: this.#left().length,
      settings: this.study.settings,
      texts: this.study.texts[language],
    };
  }

  async consent() {
    await this.#note({ state: "running" });
    return { state: "running" };
  }

  async trials(n) {
    const left = this.#left();
    const end = left.findIndex((one) => this.breaks.has(one.number));
    const trials = left.slice(0, end < 0 ? n : Math.min(n, end + 1));
    return {
      trials: trials.map(({ right, ...one }) => (one.kind === "practice" ? { ...one, right } : one)),
      n_left: left.length,
      n_trials: this.list.length,
      break_after: trials.length > 0 && this.breaks.has(trials.at(-1).number),
    };
  }

  async answers(answers) {
    for (const one of answers) {
      if (this.kept.has(one.number)) continue;
      await this.store.put("kept", one.number, one);
      this.kept.set(one.number, one);
    }
    return { stored: answers.map((one) => one.number), state: this.me.state, n_left: this.#left().length };
  }

  async end(how) {
    if (how === "done" && this.#left().length) return { state: this.me.state };
    await this.#note({ state: how });
    const { return_url } = this.study;
    if (how === "withdrawn" || this.me.is_sent || !this.kept.size) return { state: how, return_url };
    const content = JSON.stringify(this.rows());
    if (await this.#sent(content)) {
      await this.#note({ is_sent: true });
      return { state: how, return_url };
    }
    return { state: how, return_url, download: { name: `${this.study.agent}-${this.me.participant}.json`, content } };
  }

  async is_reachable() {
    try {
      return (await fetch("static/icon.svg", { cache: "no-store", signal: AbortSignal.timeout(5000) })).ok;
    } catch {
      return false;
    }
  }

  /** The answers as `affectlake import` reads them, in the layout of jsPsych. */
  rows() {
    const trials = this.list.filter((one) => one.kind !== "practice" && this.kept.has(one.number));
    return trials.map(({ number, kind, stimuli, right }) => {
      const { position, reason, detail, response_ms } = this.kept.get(number);
      const ids = stimuli.map((one) => one.id);
      return {
        trial_type: OF_TRIALS,
        participant: this.me.participant,
        session: "1",
        trial_index: number,
        stimuli: ids,
        response: position ? ids[position - 1] : null,
        rt: response_ms,
        catch: kind === "catch",
        right_answer: kind === "catch" ? ids[right - 1] : null,
        reason: reason ?? null,
        detail: detail ?? null,
      };
    });
  }

  /** Hand the answers to JATOS, or to the address of the study; false if there is neither, or it refuses them. */
  async #sent(content) {
    if (globalThis.jatos) {
      if (jatos.onLoad) await new Promise((resolve) => jatos.onLoad(resolve));
      await this.connection.persist(() => jatos.submitResultData(content));
      return true;
    }
    if (!this.study.post_url) return false;
    const headers = { "Content-Type": "application/json" };
    const said = await this.connection.persist(async () => {
      const answer = await fetch(this.study.post_url, { method: "POST", headers, body: content });
      if (answer.status >= 500 || answer.status === 429) throw new Error(`HTTP ${answer.status}`);
      return answer;
    });
    return said.ok;
  }

  #left() {
    return this.list.filter((one) => !this.kept.has(one.number));
  }

  #list() {
    const asked = Number(this.given.get("list"));
    if (Number.isInteger(asked) && asked >= 1 && asked <= this.study.n_lists) return asked;
    return 1 + (crypto.getRandomValues(new Uint32Array(1))[0] % this.study.n_lists);
  }

  #file(path) {
    return this.connection.persist(async () => {
      const answer = await fetch(path, { cache: "no-cache" });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      return answer.json();
    });
  }

  async #note(more) {
    Object.assign(this.me, more);
    await this.store.put("session", "me", this.me);
  }
}

const OF_TRIALS = "affectlake-odd-one-out";

function random_code(n) {
  return Array.from(crypto.getRandomValues(new Uint8Array(n)), (one) => ALPHABET[one % 32]).join("");
}
