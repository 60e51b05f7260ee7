// What surrounds the timeline: progress, the button to stop, and the line that says how the connection is.

import { element, filled, markdown } from "./dom.js";

const SAID_FOR_MS = 4000;

export class Shell {
  #hide = 0;

  constructor() {
    this.bar = document.getElementById("bar");
    this.progress = document.getElementById("progress");
    this.stop = document.getElementById("stop");
    this.notice = document.getElementById("notice");
    this.main = document.getElementById("experiment");
  }

  speak(language, texts) {
    document.documentElement.lang = language;
    document.title = texts.title;
    this.texts = texts;
    this.stop.textContent = texts.stop;
  }

  count(done, total) {
    const words = total === null ? "" : filled(this.texts.progress, { done, total });
    const bar = total === null ? null : element("progress", { max: Math.max(total, 1), value: done, "aria-hidden": "true" });
    this.progress.replaceChildren(...[bar, words].filter(Boolean));
  }

  /** Show a line; `passing` lines vanish, the others stay until the next. */
  say(text, { passing = false, kind = "" } = {}) {
    clearTimeout(this.#hide);
    this.notice.textContent = text;
    this.notice.className = kind;
    if (passing) this.#hide = setTimeout(() => this.say(""), SAID_FOR_MS);
  }

  /** Ask whether to stop; resolves with "left", "withdrawn", or "" to continue. */
  ask_to_stop() {
    const { texts } = this;
    const option = (value, text, className) => element("button", { value, className, type: "submit" }, text);
    const dialog = element(
      "dialog",
      { "aria-labelledby": "stop-title" },
      element(
        "form",
        { method: "dialog" },
        element("h2", { id: "stop-title" }, texts.stop_title),
        ...markdown(texts.stop_text),
        option("", texts.stop_cancel, "primary"),
        option("left", texts.stop_keep, ""),
        option("withdrawn", texts.stop_delete, ""),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => {
        dialog.remove();
        resolve(dialog.returnValue);
      });
    });
  }
}
