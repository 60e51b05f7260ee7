// Files of stimuli: downloaded in full and compared with their size and SHA-256 before a trial counts.

import { sha256 } from "./sha256.js";

const TRIES = 3; // of a file that the server does not have, or that is another one
const TRIES_OF_NETWORK = 5; // of a file that does not arrive although the server answers
const AT_ONCE = 3;
const MOST_KEPT = 36;

export class Media {
  #found = new Map();
  #running = 0;
  #queue = [];

  constructor(is_reachable) {
    this.is_reachable = is_reachable;
  }

  /** Return {url} of a verified copy in this page's memory, or {failed: why}. */
  load(file) {
    const known = this.#found.get(file.sha256);
    if (known) {
      this.#found.delete(file.sha256); // the order of the map is that of the last use
      this.#found.set(file.sha256, known);
      return known;
    }
    const promise = this.#turn()
      .then(() => fetched(file, this.is_reachable))
      .finally(() => this.#next());
    this.#found.set(file.sha256, promise);
    promise.then((found) => found.failed && this.#found.delete(file.sha256));
    this.#forget_oldest();
    return promise;
  }

  async #turn() {
    if (this.#running >= AT_ONCE) await new Promise((resolve) => this.#queue.push(resolve));
    this.#running++;
  }

  #next() {
    this.#running--;
    this.#queue.shift()?.();
  }

  #forget_oldest() {
    for (const [key, promise] of this.#found) {
      if (this.#found.size <= MOST_KEPT) return;
      this.#found.delete(key);
      promise.then((found) => found.url && URL.revokeObjectURL(found.url));
    }
  }
}

async function fetched(file, is_reachable) {
  let wrong = 0;
  let unheard = 0;
  for (let wait = 300; ; wait = Math.min(2 * wait, 8000)) {
    let why;
    try {
      // after a failure past every cache, which may hold a broken copy
      const answer = await fetch(file.url, {
        cache: wrong + unheard ? "reload" : "default",
        signal: AbortSignal.timeout(60000),
      });
      if (answer.ok) {
        const content = await answer.arrayBuffer();
        why = await difference(content, file);
        if (!why) return { url: URL.createObjectURL(new Blob([content], { type: file.type })) };
      } else why = `HTTP ${answer.status}`;
      if (answer.status < 500 && answer.status !== 429 && ++wrong >= TRIES) return { failed: why };
    } catch {
      if (navigator.onLine !== false && (await is_reachable()) && ++unheard >= TRIES_OF_NETWORK) {
        return { failed: "did not arrive" };
      }
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function difference(content, file) {
  if (content.byteLength !== file.size) return `${content.byteLength} bytes instead of ${file.size}`;
  return (await sha256(content)) === file.sha256 ? "" : "another SHA-256";
}
