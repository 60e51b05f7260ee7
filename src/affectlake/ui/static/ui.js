// What pages do beyond showing: read collections again and say when that fails, wait for an index, and run SQL from the keyboard.
"use strict";

const waiting = document.querySelector("[data-again]");
if (waiting) setTimeout(() => location.reload(), Number(waiting.dataset.again));

const live = document.querySelector("[data-refresh]");
if (live) {
  const stale = document.querySelector("[data-stale]");
  const refresh = async () => {
    if (!document.hidden) {
      let answered = false;
      try {
        const answer = await fetch(live.dataset.refresh);
        if (answer.ok) live.innerHTML = await answer.text();
        answered = answer.ok;
      } catch { /* the server was stopped, or starts again */ }
      stale.hidden = answered;
    }
    setTimeout(refresh, Number(live.dataset.every));
  };
  setTimeout(refresh, Number(live.dataset.every));
}

const cell = document.querySelector(".cell textarea");
if (cell) cell.addEventListener("keydown", (pressed) => {
  if (pressed.key === "Enter" && (pressed.ctrlKey || pressed.metaKey)) cell.form.requestSubmit();
});
