// One tab at a time: the one that was opened last takes over, and the others say so.

/** Take over; `lost` is called when another tab does. */
export function take_over(key, lost) {
  if (!globalThis.BroadcastChannel) return; // the server takes the first answer to each trial in any case
  const channel = new BroadcastChannel(`affectlake:${key}`);
  channel.onmessage = () => {
    channel.close();
    lost();
  };
  channel.postMessage("here");
}
