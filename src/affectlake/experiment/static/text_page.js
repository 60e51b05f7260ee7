// A jsPsych plugin: a page of text with buttons; the trial's result has the value of the one that was pressed.

import { element } from "./dom.js";

/** Show a page; resolves with the value of the pressed button, and never if there is none. `above` are languages. */
export function show_page(display, { title, body = [], buttons = [], above = [] }) {
  const heading = element("h1", { tabIndex: -1 }, title);
  const [top, bottom] = [above, buttons].map((row) =>
    row.map(({ text, value, className = "primary", lang }) => element("button", { type: "button", className, value, lang }, text)),
  );
  const made = [...top, ...bottom];
  const languages = top.length ? element("div", { className: "buttons languages" }, ...top) : null;
  const below = element("div", { className: "buttons" }, ...bottom);
  display.replaceChildren(element("section", { className: "page" }, languages, heading, ...body, below));
  scrollTo(0, 0);
  heading.focus({ preventScroll: true });
  return new Promise((resolve) => {
    for (const one of made) one.addEventListener("click", () => resolve(one.value), { once: true });
  });
}

export class TextPage {
  static info = {
    name: "affectlake-page",
    version: "1",
    parameters: { show: { type: jsPsychModule.ParameterType.FUNCTION } },
    data: { pressed: { type: jsPsychModule.ParameterType.STRING } },
  };

  /** `show` is called with the display and returns the value that was pressed. */
  async trial(display, { show }, on_load) {
    const shown = show(display);
    on_load();
    return { pressed: await shown };
  }
}

