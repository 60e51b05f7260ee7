// A page whose scripts did not all arrive says so, waits for the server, and loads itself again.

const AGAIN_MS = 1500;
let is_waiting = false;

addEventListener(
  "error",
  (event) => {
    if (event.target instanceof HTMLScriptElement && !is_waiting) {
      is_waiting = true;
      setTimeout(again, AGAIN_MS);
    }
  },
  true,
);

async function again() {
  try {
    if ((await fetch("static/icon.svg", { cache: "no-store" })).ok) return location.reload();
  } catch {} // not yet
  return setTimeout(again, AGAIN_MS);
}
