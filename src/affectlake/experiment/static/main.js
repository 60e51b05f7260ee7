// The page: who takes part, the timeline of jsPsych, and the end.

import { Connection, Refused } from "./connection.js";
import { element, filled, markdown } from "./dom.js";
import { OddOneOut } from "./odd_one_out.js";
import { Shell } from "./shell.js";
import { open_store } from "./store.js";
import { Study } from "./study.js";
import { take_over } from "./tabs.js";
import { TextPage, show_page } from "./text_page.js";

const PROBLEMS = ["bad_token", "used_link", "over", "full", "unknown_participant"];
const first_texts = JSON.parse(document.body.dataset.texts);
const languages = Object.keys(first_texts);

const shell = new Shell();
let study = null;

/** Run the study; `Backend` is where trials come from and answers go. */
export async function run(Backend) {
  const language = preferred();
  shell.speak(language, first_texts[language]);
  shell.main.replaceChildren(...markdown(first_texts[language].loading_page));
  try {
    const how = await begun(new Backend(new Connection(say_trouble), document.body.dataset.panel), language);
    await ((await how) === "elsewhere" ? show_elsewhere() : finish(how));
  } catch (error) {
    show_problem(error);
  }
}

/** Take part; resolves with how it ended: "done", "left", "withdrawn" or "elsewhere". */
async function begun(backend, language) {
  const key = await backend.key();
  const store = await open_store(key);
  study = new Study(backend, store, shell);
  const known = await store.get("session", "me");
  try {
    await study.join(known?.language ?? language);
  } catch (error) {
    if (error.code === "over") await study.send_rest();
    throw error;
  }
  take_over(key, () => (study.stop ? study.stop("elsewhere") : show_elsewhere()));
  stay();
  if (["done", "left", "withdrawn"].includes(study.state)) {
    await study.open_outbox();
    return study.state;
  }
  return timeline();
}

/** Run jsPsych until there is nothing left or the person stops; resolves with how it ended. */
async function timeline() {
  let how = "";
  let answered = null;
  shell.main.replaceChildren(); // jsPsych adds an element of its own
  const js_psych = initJsPsych({ display_element: shell.main });
  study.stop = (reason) => {
    how ||= reason;
    shell.stop.hidden = true;
    study.call_off();
    js_psych.abortTimelineByName("task");
    js_psych.finishTrial({});
  };
  shell.stop.hidden = false;
  shell.stop.addEventListener("click", async () => {
    const chosen = await shell.ask_to_stop();
    if (chosen) study.stop(chosen);
  });
  const is_new = study.state === "consent";
  if (!is_new) await study.open();
  const page = (show, is_shown) => ({ timeline: [{ type: TextPage, show }], conditional_function: is_shown });
  const trials = {
    timeline: [
      { type: OddOneOut, study: () => study, on_finish: (data) => (answered = data.number) },
      page(take_break, () => study.is_break(answered)),
    ],
    loop_function: () => !study.is_over,
  };
  const task = [
    page(ask_consent, () => is_new),
    page(instruct, () => study.n_done === 0),
    page(welcome_back, () => study.n_done > 0 && study.n_left > 0),
    trials,
  ];
  await js_psych.run([{ timeline: task, name: "task" }]);
  study.stop = null;
  shell.main.tabIndex = -1;
  if (study.failure && !how) throw study.failure;
  return how || "done";
}

async function ask_consent(display) {
  const pressed = await consent_page(display);
  if (pressed === "decline") study.stop("withdrawn");
  else
    try {
      await study.consent();
      await study.open();
    } catch (error) {
      study.fail(error);
      study.stop("");
    }
  return pressed;
}

async function consent_page(display) {
  for (;;) {
    const { texts, language } = study;
    const others = languages.filter((one) => one !== language);
    const body = [
      element("div", { className: "warning" }, element("h2", {}, texts.warning_title), ...markdown(texts.warning)),
      ...markdown(texts.consent),
    ];
    const buttons = [
      { text: texts.agree, value: "agree" },
      { text: texts.decline, value: "decline", className: "" },
    ];
    const above = others.map((one) => ({ text: first_texts[one].language_name, value: one, className: "quiet", lang: one }));
    const pressed = await show_page(display, { title: texts.consent_title, body, buttons, above });
    if (!others.includes(pressed)) return pressed;
    await study.join(pressed);
  }
}

function instruct(display) {
  const { texts, settings } = study;
  const lines = [texts.instructions, texts.how_to_answer];
  if (settings.practice) lines.push(filled(texts.instructions_practice, { n: settings.practice }));
  if (settings.break_every && settings.break_every < study.n_trials) lines.push(texts.instructions_breaks);
  const buttons = [{ text: texts.begin, value: "begin" }];
  return show_page(display, { title: texts.instructions_title, body: lines.flatMap(markdown), buttons });
}

function welcome_back(display) {
  const { texts } = study;
  return passing(display, texts.resumed_title, texts.resumed);
}

function take_break(display) {
  const { texts, n_done, n_trials } = study;
  return passing(display, texts.break_title, filled(texts.break_text, { done: n_done, total: n_trials }));
}

function passing(display, title, text) {
  const buttons = [{ text: study.texts.continue, value: "continue" }];
  return show_page(display, { title, body: markdown(text), buttons });
}

/** Send what is left; only then show the way back. */
async function finish(how) {
  const { texts } = study;
  shell.stop.hidden = true;
  show_page(shell.main, { title: texts.end_title, body: markdown(texts.finishing) });
  const said = await study.end(how);
  shell.count(0, null);
  const body = markdown(texts[`end_${how}`]);
  if (how !== "withdrawn") body.push(...markdown(filled(texts.your_code, { code: study.participant })));
  if (said.download) {
    const href = URL.createObjectURL(new Blob([said.download.content], { type: "application/json" }));
    body.push(...markdown(texts.end_download));
    body.push(element("p", {}, element("a", { href, download: said.download.name, className: "button" }, texts.download)));
  }
  if (/^https?:\/\//.test(said.return_url ?? "")) {
    body.push(element("p", {}, element("a", { href: said.return_url, className: "button", id: "return" }, texts.return)));
  } else body.push(...markdown(texts.close));
  shell.say("");
  show_page(shell.main, { title: texts.end_title, body });
}

async function show_elsewhere() {
  const { texts } = study;
  const buttons = [{ text: texts.continue_here, value: "here" }];
  await show_page(shell.main, { title: texts.elsewhere_title, body: markdown(texts.elsewhere), buttons });
  location.reload();
}

function show_problem(error) {
  const texts = study?.texts ?? shell.texts;
  const code = error instanceof Refused ? error.code : String(error);
  const text = PROBLEMS.includes(code) ? texts[`problem_${code}`] : filled(texts.problem_other, { code });
  shell.stop.hidden = true;
  show_page(shell.main, { title: texts.problem_title, body: [element("p", {}, text)] });
}

function say_trouble(is_in_trouble) {
  const texts = study?.texts;
  if (!texts) return;
  if (!is_in_trouble) shell.say(texts.connected, { passing: true, kind: "good" });
  else shell.say(study.store.is_lasting ? texts.offline : texts.offline_memory, { kind: "warn" });
}

/** The back button stays on the page; a page with an answer that has not arrived asks before it closes. */
function stay() {
  const guard = () => history.pushState({ affectlake: true }, "");
  addEventListener("pointerdown", guard, { once: true }); // browsers skip entries that nobody caused
  addEventListener("keydown", guard, { once: true });
  addEventListener("popstate", guard);
  addEventListener("beforeunload", (event) => {
    if (study.outbox.size && shell.notice.classList.contains("warn")) event.preventDefault();
  });
}

function preferred() {
  const asked = new URLSearchParams(location.search).get("lang");
  const wanted = [asked, ...navigator.languages].filter(Boolean).map((one) => one.slice(0, 2).toLowerCase());
  return wanted.find((one) => languages.includes(one)) ?? languages[0];
}
