// Videos and sounds. The elements are made once and used again in every trial: a phone that wants a tap before an element
// may play wants it once, for all of them.

import { element } from "./dom.js";

const PATIENCE_MS = 15000;
const LOOK_EVERY_MS = 250;
const players = { videos: [], sounds: [] };

/** Return the three players of a kind. */
export function players_of(kind) {
  const made = players[kind];
  while (made.length < 3) {
    const one = element(kind === "videos" ? "video" : "audio", { preload: "auto", playsInline: true, "aria-hidden": "true" });
    one.setAttribute("playsinline", "");
    one.muted = kind === "videos";
    one.defaultMuted = one.muted;
    one.disablePictureInPicture = true;
    one.tabIndex = -1;
    made.push(one);
  }
  return made;
}

/** Wait until a player knows a file; throws why it does not. (Phones decode the first picture only when it plays.) */
export async function prepare(player, url, signal) {
  player.src = url;
  player.load();
  await until(player, ["loadedmetadata"], () => player.readyState >= 1, signal);
}

/** Play from the start; resolves when it moves; throws an error named NotAllowedError if a tap is needed. */
export async function play(player, signal) {
  if (player.currentTime > 0) player.currentTime = 0;
  const moves = until(player, ["playing", "timeupdate", "ended"], () => !player.paused && player.readyState >= 3, signal);
  await Promise.all([player.play(), moves]);
}

/** Wait until a player has come to its end. */
export function ended(player, signal) {
  const limit = PATIENCE_MS + 1000 * (Number.isFinite(player.duration) ? player.duration : 60);
  return until(player, ["ended"], () => player.ended, signal, limit);
}

function until(player, events, is_true, signal, limit = PATIENCE_MS) {
  return new Promise((resolve, reject) => {
    const over = new AbortController();
    const finish = (settle, value) => {
      over.abort();
      clearInterval(timer);
      settle(value);
    };
    let waited = 0; // while the page is visible: a hidden page may not play
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") waited += LOOK_EVERY_MS;
      if (is_true()) finish(resolve);
      else if (waited > limit) finish(reject, new Error("does not play"));
    }, LOOK_EVERY_MS);
    const failed = () => finish(reject, new Error(player.error?.message || "cannot be decoded"));
    const options = { signal: over.signal };
    player.addEventListener("error", failed, options);
    for (const one of events) player.addEventListener(one, () => finish(resolve), options);
    signal.addEventListener("abort", () => finish(reject, signal.reason), options);
    if (is_true()) finish(resolve);
  });
}

/** Stop all players and let go of their files. */
export function silence() {
  for (const one of [...players.videos, ...players.sounds]) {
    one.pause();
    if (one.hasAttribute("src")) {
      one.removeAttribute("src");
      one.load();
    }
  }
}
