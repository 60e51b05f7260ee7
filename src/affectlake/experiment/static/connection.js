// Asking again until it works: a request ends with an answer, with a refusal of the server, or when it is called off.

const FIRST_MS = 300;
const LONGEST_MS = 8000;
const PATIENCE_MS = 15000;
const TROUBLE_AFTER_MS = 2500;

/** A refusal by the server, which asking again does not change. */
export class Refused extends Error {
  constructor(code, message, status) {
    super(message || code);
    this.code = code;
    this.status = status;
  }
}

/** Says whether requests get through: `trouble` is called with true when none did for some seconds, then with false. */
export class Connection {
  #failing_since = null;
  #in_trouble = false;
  #wakers = new Set();

  constructor(trouble = () => {}) {
    this.trouble = trouble;
    const wake = () => this.#wake();
    addEventListener("online", wake);
    addEventListener("pageshow", wake);
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake());
  }

  /** POST JSON and return the JSON of the answer; ask again while the network or the server fails. */
  async post(path, body, signal) {
    const answer = await this.persist(
      () =>
        fetch(path, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify(body),
          cache: "no-store",
          signal: AbortSignal.timeout(PATIENCE_MS),
        }).then(read),
      signal,
    );
    return answer;
  }

  /** Call `ask` until it does not fail for a passing reason. */
  async persist(ask, signal) {
    for (let wait = FIRST_MS; ; wait = Math.min(2 * wait, LONGEST_MS)) {
      signal?.throwIfAborted();
      try {
        const found = await ask();
        this.#succeeded();
        return found;
      } catch (error) {
        if (error instanceof Refused) {
          this.#succeeded();
          throw error;
        }
        this.#failed();
      }
      await this.#pause(wait * (0.75 + Math.random() / 2), signal);
    }
  }

  #succeeded() {
    this.#failing_since = null;
    if (this.#in_trouble) this.trouble(false);
    this.#in_trouble = false;
  }

  #failed() {
    this.#failing_since ??= performance.now();
    const long = performance.now() - this.#failing_since > TROUBLE_AFTER_MS || navigator.onLine === false;
    if (long && !this.#in_trouble) {
      this.#in_trouble = true;
      this.trouble(true);
    }
  }

  #pause(milliseconds, signal) {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#wakers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, milliseconds);
      this.#wakers.add(wake);
      signal?.addEventListener("abort", wake, { once: true });
    });
  }

  #wake() {
    for (const one of [...this.#wakers]) one();
  }
}

async function read(answer) {
  if (answer.ok) return answer.json();
  let said = {};
  try {
    said = await answer.json();
  } catch {} // not JSON: a proxy's page
  if (answer.status >= 500 || answer.status === 429 || answer.status === 408) throw new Error(`HTTP ${answer.status}`);
  throw new Refused(said.error ?? `HTTP ${answer.status}`, said.message, answer.status);
}
