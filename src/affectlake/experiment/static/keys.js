// Which presses count: keys that go down while a trial is shown, not those that are held down from before.

const held = new Set();
const fresh = new WeakSet();
const pointer = { down: -1, up: -1 };

const name = (event) => event.code || event.key;
addEventListener(
  "keydown",
  (event) => {
    if (!event.repeat && !held.has(name(event))) fresh.add(event);
    held.add(name(event));
  },
  true,
);
addEventListener("keyup", (event) => held.delete(name(event)), true);
addEventListener("blur", () => held.clear());
addEventListener("pointerdown", () => (pointer.down = performance.now()), true);
addEventListener("pointerup", () => (pointer.up = performance.now()), true);

/** Whether a key went down just now, without modifiers. */
export function is_press(event) {
  return fresh.has(event) && !event.ctrlKey && !event.metaKey && !event.altKey;
}

/** Whether a click is one that began after `since`, and is not the second half of a double click. */
export function is_click(event, since) {
  const began_before = pointer.down < since && pointer.up >= since;
  return event.detail < 2 && !began_before;
}
