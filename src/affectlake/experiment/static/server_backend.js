// The study behind affectlake's server. `static_backend.js` has the same methods.

import { Refused } from "./connection.js";
import { sha256 } from "./sha256.js";

export class Backend {
  #me = {};

  constructor(connection, panel) {
    const given = new URLSearchParams(location.search);
    this.connection = connection;
    this.entry = {};
    for (const name of ["study", "link"]) if (given.has(name)) this.entry[name] = given.get(name);
    if (panel && given.has(panel)) this.entry.panel = given.get(panel);
  }

  /** A name for what the browser keeps: another study, link or panel id is another person. */
  async key() {
    const text = JSON.stringify([location.pathname, this.entry]);
    return (await sha256(new TextEncoder().encode(text).buffer)).slice(0, 16);
  }

  /** Begin, or continue as the person that the store knows. The secret is made here: joining twice is joining once. */
  async join(language, store) {
    if (!this.entry.study && !this.entry.link) throw new Refused("bad_token");
    const known = (await store.get("session", "me")) ?? { secret: random_text() };
    const me = { participant: known.participant, secret: known.secret };
    await store.put("session", "me", { ...me, language });
    this.#me = me;
    const joined = await this.connection.post("api/join", { ...this.entry, ...me, language });
    this.#me = { participant: joined.participant, secret: joined.secret ?? me.secret };
    await store.put("session", "me", { ...this.#me, language });
    return joined;
  }

  consent() {
    return this.#ask("consent");
  }

  trials(n, signal) {
    return this.#ask("trials", { n }, signal);
  }

  answers(answers) {
    return this.#ask("answers", { answers });
  }

  end(how) {
    return this.#ask("end", { how });
  }

  /** Whether the server answers at all. */
  async is_reachable() {
    try {
      return (await fetch("static/icon.svg", { cache: "no-store", signal: AbortSignal.timeout(5000) })).ok;
    } catch {
      return false;
    }
  }

  #ask(what, more = {}, signal) {
    return this.connection.post(`api/${what}`, { ...this.#me, ...more }, signal);
  }
}

function random_text() {
  const bytes = crypto.getRandomValues(new Uint8Array(33));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}
