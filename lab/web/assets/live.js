// The lab as it happens, by server-sent events. The browser comes back by
// itself when the stream breaks.

import { byId, element } from "./dom.js";

const shown = 50; // events on the page

export function follow(onLab, onAway) {
  const stream = new EventSource("/lab/live");
  stream.addEventListener("lab", (e) => {
    const s = JSON.parse(e.data);
    if (s.error) onAway(s.error);
    else onLab(s);
  });
  const seen = new Set(); // of the last events: a stream that begins anew repeats them
  stream.addEventListener("log", (e) => {
    const event = JSON.parse(e.data);
    const key = `${event.seq} ${event.at}`;
    if (!seen.has(key)) {
      seen.add(key);
      if (seen.size > 2 * shown) seen.delete(seen.values().next().value);
      note(event);
    }
  });
  stream.addEventListener("error", () => onAway("flix open does not answer"));
  return stream;
}

function note(e) {
  const log = byId("log");
  const at = new Date(e.at);
  log.prepend(element("li", {}, element("time", { datetime: e.at }, at.toLocaleTimeString()), e.text));
  while (log.children.length > shown) log.lastChild.remove();
}
