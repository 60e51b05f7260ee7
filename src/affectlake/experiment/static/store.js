// What this browser keeps: who takes part ("session"), answers that have not been acknowledged ("answers"), and, for
// studies without a server, those that have ("kept"). In IndexedDB; without it (some private windows) in the session
// storage of the tab; without that, in memory.

const STORES = ["session", "answers", "kept"];

/** Open the store of one study. */
export async function open_store(study) {
  const name = `affectlake:${study}`;
  try {
    return new Kept(await opened(name));
  } catch {
    return new Passing(name);
  }
}

function opened(name) {
  return new Promise((resolve, reject) => {
    if (!globalThis.indexedDB) throw new Error("no IndexedDB");
    const late = setTimeout(() => reject(new Error("IndexedDB does not open")), 3000);
    const asked = indexedDB.open(name, 1);
    asked.onupgradeneeded = () => {
      for (const one of STORES) asked.result.createObjectStore(one);
    };
    asked.onsuccess = () => {
      clearTimeout(late);
      resolve(asked.result);
    };
    asked.onerror = () => reject(asked.error);
    asked.onblocked = () => reject(new Error("IndexedDB is blocked"));
  });
}

/** A store on disk. If a write fails later (a full disk), what was to be written stays in memory. */
class Kept {
  is_lasting = true;

  constructor(database) {
    this.database = database;
    database.onversionchange = () => database.close();
  }

  put(store, key, value) {
    return this.#done(store, "readwrite", (one) => one.put(value, key));
  }

  get(store, key) {
    return this.#done(store, "readonly", (one) => one.get(key));
  }

  all(store) {
    return this.#done(store, "readonly", (one) => one.getAll());
  }

  remove(store, key) {
    return this.#done(store, "readwrite", (one) => one.delete(key));
  }

  async clear() {
    for (const one of STORES) await this.#done(one, "readwrite", (found) => found.clear());
  }

  #done(store, mode, ask) {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction(store, mode, { durability: "strict" });
      const asked = ask(transaction.objectStore(store));
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error ?? asked.error);
    });
  }
}

/** A store of the tab, or of the page alone. */
class Passing {
  is_lasting = false;

  constructor(name) {
    this.name = name;
    this.values = Object.fromEntries(STORES.map((one) => [one, {}]));
    try {
      Object.assign(this.values, JSON.parse(sessionStorage.getItem(name) ?? "{}"));
    } catch {} // memory is left
  }

  async put(store, key, value) {
    this.values[store][key] = value;
    this.#write();
  }

  async get(store, key) {
    return this.values[store][key];
  }

  async all(store) {
    return Object.values(this.values[store]);
  }

  async remove(store, key) {
    delete this.values[store][key];
    this.#write();
  }

  async clear() {
    for (const one of STORES) this.values[one] = {};
    this.#write();
  }

  #write() {
    try {
      sessionStorage.setItem(this.name, JSON.stringify(this.values));
    } catch {} // memory is left
  }
}
