// What the page knows: topics, the connection, and who is asking.
//
// It never paints, and never asks the board.

// What lower layers ask of higher ones, each set by the module that does it.
export const up = {};

export const topics = new Map(); // by name
export const groups = new Map(); // by first segment: {section, list, members}
export const dirty = new Set(); // topics to paint
export const clock = new Map(); // "time" or "uptime": ms to add to get this device's time

// known: the board was asked. asked: somebody wants to sign in. over: whose time is over, said
// until somebody is let in. waitUntil: too many tokens were wrong, and the next has to wait.
export const me = { name: "", write: [], known: false, asked: false, over: "", waitUntil: 0 };

// What the library says, in the page's own words. phase: connecting, catching, live, lost, closed
// (until somebody signs in), hidden. head: where the catch-up ends, once that is known. isPaced:
// all places are taken, and values come now and then. denied: a cookie was, and is gone now. begun:
// the second of the first value.
export const link = { phase: "", open: false, id: "", head: Infinity, heard: 0, opened: 0, retryAt: 0,
  reason: "", quiet: 0, transport: "", why: "", isPaced: false, denied: false, begun: 0 };

export const kindOf = (event) => ("time" in event ? "time" : "uptime");

export const logOf = (id) => id.split("-")[0];
export const sequence = (id) => Number(id.split("-")[1]);

// When values were painted last, 0 before the first time, and whether the first are there to be seen.
export const screen = { timer: 0, painted: 0, isSeen: false };
const PAINT_MS = 100; // faster than this nobody reads

export function touch(topic) {
  dirty.add(topic);
  if (screen.timer) return;
  screen.timer = setTimeout(() => requestAnimationFrame(up.paint),
    screen.painted + PAINT_MS - Date.now());
}
