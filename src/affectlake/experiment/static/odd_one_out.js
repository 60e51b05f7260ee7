// A jsPsych plugin: three stimuli, and the answer which of them is the odd one out.

import { element, filled } from "./dom.js";
import { is_click, is_press } from "./keys.js";
import { ended, play, players_of, prepare, silence } from "./players.js";

const EARLIEST_MS = 200; // nobody can have seen three stimuli before: such a press was meant for something else
const LOADING_AFTER_MS = 400;
const LOADING_SLOWLY_AFTER_MS = 8000;
const NAMES = { images: "picture", videos: "clip", sounds: "sound", captions: "item" };

export class OddOneOut {
  static info = {
    name: "affectlake-odd-one-out",
    version: "1",
    parameters: { study: { type: jsPsychModule.ParameterType.FUNCTION } },
    data: {
      number: { type: jsPsychModule.ParameterType.INT },
      position: { type: jsPsychModule.ParameterType.INT },
      reason: { type: jsPsychModule.ParameterType.STRING },
      response_ms: { type: jsPsychModule.ParameterType.INT },
    },
  };

  /** `study` returns the study: jsPsych copies parameters. */
  async trial(display, parameters, on_load) {
    const study = parameters.study();
    const signal = study.begin_trial();
    const view = new View(display, study, signal);
    on_load();
    try {
      view.wait();
      const trial = await study.next(signal);
      if (!trial) return {};
      const answer = { number: trial.number, position: null, reason: null, response_ms: 0 };
      try {
        await view.show(trial);
        Object.assign(answer, await view.ask(trial));
      } catch (error) {
        if (signal.aborted) throw error;
        Object.assign(answer, { reason: "media_failed", detail: String(error.message ?? error).slice(0, 200) });
      }
      silence();
      await study.deliver(answer, signal);
      await view.conclude(trial, answer);
      return answer;
    } catch (error) {
      if (!signal.aborted) study.fail(error);
      return {};
    } finally {
      silence();
      view.close();
    }
  }
}

class View {
  #closed = new AbortController();
  #timers = [];

  constructor(display, study, signal) {
    Object.assign(this, { display, study, signal, texts: study.texts, kind: study.settings.show });
    this.heading = element("h1", { id: "question", tabIndex: -1 }, this.texts.question);
    this.kicker = element("p", { className: "kicker" });
    this.cards = [1, 2, 3].map((number) => this.#card(number));
    this.group = element(
      "div",
      { className: `cards ${this.kind}`, role: "group", "aria-labelledby": "question" },
      ...this.cards.map((one) => one.button),
    );
    this.below = element("div", { className: "buttons" });
    this.said = element("p", { className: "said", role: "status" });
    this.hint = element("p", { className: "hint", "aria-hidden": "true" }, this.texts.keys_hint);
    this.heard = element("p", { className: "unseen", "aria-live": "polite" });
    display.replaceChildren(
      element("section", { className: "trial" }, this.kicker, this.heading, this.group, this.said, this.below, this.hint, this.heard),
    );
    this.heading.focus({ preventScroll: true });
  }

  close() {
    this.#closed.abort();
    for (const one of this.#timers) clearTimeout(one);
  }

  #card(number) {
    const place = element("span", { className: "media" });
    const badge = element("span", { className: "badge", "aria-hidden": "true" }, String(number));
    const button = element("button", { type: "button", className: "card", disabled: true, value: String(number) }, badge, place);
    return { button, place, badge };
  }

  #after(milliseconds, call) {
    this.#timers.push(setTimeout(call, milliseconds));
  }

  /** Say that the trial is not there yet, if it takes long. */
  wait() {
    const say = (text) => () => {
      if (!this.group.hasAttribute("aria-busy")) return;
      this.kicker.textContent = this.heard.textContent = text;
    };
    this.group.setAttribute("aria-busy", "true");
    this.#after(LOADING_AFTER_MS, say(this.texts.loading));
    this.#after(LOADING_SLOWLY_AFTER_MS, say(this.texts.loading_slowly));
  }

  /** Put the three stimuli in place; resolves when all are visible, throws which of them is not and why. */
  async show(trial) {
    const { signal, texts } = this;
    const ready = await Promise.all(
      trial.stimuli.map((one, at) =>
        this.#prepared(one, at).catch((error) => {
          throw signal.aborted ? error : new Error(`${at + 1}: ${error.message ?? error}`);
        }),
      ),
    );
    this.cards.forEach((card, at) => {
      card.place.replaceChildren(ready[at]);
      const caption = trial.stimuli[at].caption ?? "";
      const name = filled(texts[NAMES[this.kind]], { number: at + 1 });
      card.button.setAttribute("aria-label", caption ? `${name}: ${caption}` : name);
    });
    if (this.kind === "videos" || this.kind === "sounds") await this.#start();
    this.kicker.textContent = trial.kind === "practice" ? texts.practice : "";
    this.group.classList.add("ready");
    this.group.removeAttribute("aria-busy");
    for (const { button } of this.cards) button.disabled = false;
    await frame();
    await frame();
    this.since = performance.now();
    this.display.firstElementChild.dataset.number = trial.number;
    const captions = trial.stimuli.map((one, at) => `${at + 1}: ${one.caption || ""}`);
    if (trial.stimuli.some((one) => one.caption)) this.heard.textContent = captions.join(". ");
  }

  async #prepared(stimulus, at) {
    if (this.kind === "captions") {
      if (!stimulus.caption) throw new Error("has no caption");
      return element("span", { className: "caption" }, stimulus.caption);
    }
    if (!stimulus.media) throw new Error("has no file");
    const found = await this.study.media.load(stimulus.media);
    this.signal.throwIfAborted();
    if (found.failed) throw new Error(found.failed);
    if (this.kind === "images") {
      const image = element("img", { src: found.url, alt: "" });
      await image.decode().catch(() => {
        throw new Error("cannot be decoded");
      });
      return image;
    }
    const player = players_of(this.kind)[at];
    await prepare(player, found.url, this.signal);
    if (this.kind === "videos") return player;
    return element("span", { className: "speaker" }, "♪", player);
  }

  /** Play what is to be played; if the browser wants a tap, or the person no motion, behind a button. */
  async #start() {
    const { signal, texts } = this;
    const players = players_of(this.kind);
    const is_video = this.kind === "videos";
    const all = async () => {
      if (is_video) {
        await Promise.all(players.map((one, at) => named(play(one, signal), at)));
        return;
      }
      const others = Promise.all(players.slice(1).map(bless)).catch(() => {}); // within the tap
      for (const [at, one] of players.entries()) {
        this.cards[at].button.classList.add("sounding");
        try {
          await named(play(one, signal), at);
          await others;
          await named(ended(one, signal), at);
        } finally {
          this.cards[at].button.classList.remove("sounding");
        }
      }
    };
    if (is_video && matchMedia("(prefers-reduced-motion: reduce)").matches) await this.#by_tap(all, texts.tap_to_play);
    else {
      try {
        await all();
      } catch (error) {
        if (error.name !== "NotAllowedError") throw error;
        for (const one of players) one.pause();
        await this.#by_tap(all, is_video ? texts.tap_to_play : texts.play_sounds);
      }
    }
    const again = element("button", { type: "button", className: "quiet" }, texts.play_again);
    again.addEventListener("click", () => all().catch(() => {}), { signal: this.#closed.signal });
    this.below.replaceChildren(again);
  }

  #by_tap(all, text) {
    const button = element("button", { type: "button", className: "primary" }, text);
    this.group.removeAttribute("aria-busy");
    this.kicker.textContent = "";
    this.below.replaceChildren(button);
    button.focus({ preventScroll: true });
    return new Promise((resolve, reject) => {
      this.signal.addEventListener("abort", () => reject(this.signal.reason), { once: true });
      button.addEventListener("click", () => {
        button.disabled = true;
        all().then(resolve, (error) => {
          if (error.name !== "NotAllowedError") return reject(error);
          button.disabled = false;
          return undefined;
        });
      });
    });
  }

  /** Wait for the answer: {position, response_ms} or {reason, response_ms}. */
  ask(trial) {
    const { settings } = this.study;
    const asked = new AbortController();
    const { signal } = asked;
    return new Promise((resolve, reject) => {
      const finish = (answer) => {
        asked.abort();
        const response_ms = Math.round(performance.now() - this.since);
        for (const { button } of this.cards) button.disabled = true;
        if (answer.position) {
          this.cards[answer.position - 1].button.classList.add("chosen");
          this.heard.textContent = filled(this.texts.chosen, { number: answer.position });
        }
        resolve({ ...answer, response_ms });
      };
      const is_early = () => performance.now() - this.since < EARLIEST_MS;
      const choose = (position) => finish({ position });
      this.signal.addEventListener("abort", () => reject(this.signal.reason), { signal });
      this.cards.forEach(({ button }, at) => {
        button.addEventListener("click", (event) => !is_early() && is_click(event, this.since) && choose(at + 1), { signal });
      });
      document.addEventListener("keydown", (event) => this.#key(event, is_early, choose), { signal });
      if (settings.cannot_tell) {
        const button = element("button", { type: "button", className: "quiet" }, this.texts.cannot_tell);
        this.below.append(button);
        const unsure = (event) => !is_early() && is_click(event, this.since) && finish({ reason: "cannot_tell" });
        button.addEventListener("click", unsure, { signal });
      }
      if (settings.time_limit_s) this.#limit(1000 * settings.time_limit_s, signal, () => finish({ reason: "timed_out" }));
      if (this.kind === "videos") {
        players_of("videos").forEach((one, at) => {
          const failed = () => {
            asked.abort();
            reject(new Error(`${at + 1}: ${one.error?.message || "stopped playing"}`));
          };
          one.addEventListener("error", failed, { signal });
        });
      }
      this.trial = trial;
    });
  }

  #key(event, is_early, choose) {
    if (document.querySelector("dialog[open]")) return;
    const buttons = this.cards.map((one) => one.button);
    const at = buttons.indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      buttons[at < 0 ? (step > 0 ? 0 : 2) : (at + step + 3) % 3].focus();
      return;
    }
    const number = { 1: 1, 2: 2, 3: 3 }[event.key] ?? (["Enter", " "].includes(event.key) && at >= 0 ? at + 1 : 0);
    if (!number) return;
    event.preventDefault(); // Enter that is held down would click again and again
    if (is_press(event) && !is_early()) choose(number);
  }

  #limit(milliseconds, signal, over) {
    const shown = element("span", { className: "time", "aria-hidden": "true" });
    this.below.append(shown);
    const look = () => {
      if (signal.aborted) return shown.remove();
      const left = milliseconds - (performance.now() - this.since);
      if (left <= 0) return over();
      shown.textContent = filled(this.texts.time_left, { seconds: Math.ceil(left / 1000) });
      return this.#after(Math.min(left, 200), look);
    };
    look();
  }

  /** After the answer: feedback in practice, and what could not be shown. */
  async conclude(trial, answer) {
    const failed = answer.reason === "media_failed";
    if (trial.kind !== "practice" && !failed) return;
    if (failed) {
      this.group.classList.add("failed");
      this.heading.textContent = this.texts.media_failed_title;
      this.heading.focus();
    }
    const right = trial.right;
    if (right && !failed) this.cards[right - 1].button.classList.add("right");
    const key = failed
      ? "media_failed"
      : answer.reason === "timed_out"
        ? "feedback_timed_out"
        : !right
          ? "feedback_free"
          : right === answer.position
            ? "feedback_right"
            : "feedback_other";
    this.said.replaceChildren(filled(this.texts[key], { number: right ?? "" }));
    const button = element("button", { type: "button", className: "primary" }, this.texts.continue);
    this.below.replaceChildren(button);
    if (!failed) button.focus({ preventScroll: true });
    const shown = performance.now();
    await new Promise((resolve) => {
      button.addEventListener("click", (event) => is_click(event, shown) && resolve());
      // Enter that is still held from the answer
      button.addEventListener("keydown", (event) => is_press(event) || event.key === "Tab" || event.preventDefault());
      this.signal.addEventListener("abort", resolve, { once: true });
    });
  }
}

function named(promise, at) {
  return promise.catch((error) => {
    if (error.name !== "NotAllowedError" && error.name !== "AbortError") error = new Error(`${at + 1}: ${error.message}`);
    throw error;
  });
}

/** Let an element play later without another tap. */
async function bless(player) {
  const muted = player.muted;
  player.muted = true;
  try {
    await player.play();
    player.pause();
    player.currentTime = 0;
  } finally {
    player.muted = muted;
  }
}

function frame() {
  return new Promise((resolve) => requestAnimationFrame(resolve));
}
