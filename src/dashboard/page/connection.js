// The connection: follows every topic of the board by the library (src/dashboard/encke), which
// stands before this in the page.
//
// It never tries again by itself: that is the library's.
import { capital, here } from "./dom.js";
import { clock, link, me, sequence, up } from "./state.js";
import { measure, notice, status } from "./status.js";
import { paintFooter } from "./tiles.js";
import { lists, take, wantTopics } from "./topics.js";
import { plural } from "./words.js";

const QUIET_MS = 400; // catch-up is over when nothing follows for this long

export function connect() {
  if (link.board) link.board.close();
  // Only this name has the cookie of who is signed in.
  const home = me.name ? { push: here } : {};
  const mine = new window.Encke(here, home);
  Object.assign(link, { board: mine, phase: "connecting", open: false, opened: Date.now() });
  const hear = (type, act) => mine.addEventListener(type, ({ detail }) => {
    if (link.board === mine) act(detail);
  });
  hear("state", changed);
  hear("hello", hello);
  hear("event", event);
  hear("heartbeat", heartbeat);
  hear("reset", () => {
    clock.clear();
    notice("The board restarted");
  });
  hear("lost", lost);
  hear("error", ({ reason }) => up.denied(reason));
  status();
}

export function disconnect() {
  clearTimeout(link.quiet);
  if (link.board) link.board.close();
  Object.assign(link, { board: null, phase: "closed", open: false, retryAt: 0 });
}

const REASONS = [[/silent/, "Connection went silent"], [/cut off/, "Disconnected"],
  [/refused/, "Disconnected"], [/trying/, ""]];

function changed({ state, transport, why, retryAt }) {
  const isOpen = state === "live" || state === "busy";
  Object.assign(link, { retryAt, transport, isPaced: state === "busy", why: isOpen ? why : "" });
  if (isOpen) return;
  clearTimeout(link.quiet);
  if (link.open || !retryAt) link.opened = Date.now();
  const [, words] = REASONS.find(([sign]) => sign.test(why)) || [0, capital(why.split(/[:;]/)[0])];
  // What stands behind a colon is for whoever configures the board.
  if (!link.isPaced && why) link.reason = words;
  link.open = false;
  link.phase = { asleep: "hidden", waiting: "lost" }[state] || "connecting";
  status();
}

// A frame's id is how far we have seen.
function frame(id) {
  link.heard = Date.now();
  if (id) link.id = id;
}

function hello(data) {
  frame(data.id);
  Object.assign(link, { open: true, phase: "catching", head: Infinity,
    denied: false });
  up.admitted();
  clearTimeout(lists.timer);
  Object.assign(lists, { timer: 0, last: 0 });
  wantTopics(50);
  settle();
}

function lost({ count, exact }) {
  const how = link.open ? "on a slow connection" : "while away";
  notice(`Missed ${exact ? "" : "up to "}${plural(count, "event")} ${how}`);
}

function event(data) {
  frame(data.id);
  if (link.phase === "live") measure(data);
  link.begun = link.begun || Math.floor(link.heard / 1000);
  take(data);
  if (link.phase === "catching") settle();
}

function heartbeat(data) {
  frame(data.id);
  caughtUp();
}

// Catch-up has no end mark: it is over at the head that /topics named, or when it is quiet.
function settle() {
  clearTimeout(link.quiet);
  if (sequence(link.id) >= link.head) return caughtUp();
  link.quiet = setTimeout(caughtUp, QUIET_MS);
  return status();
}

function caughtUp() {
  clearTimeout(link.quiet);
  if (link.phase !== "catching") return;
  Object.assign(link, { phase: "live", reason: "" });
  paintFooter();
  status();
  up.arrived();
}
up.caughtUp = caughtUp;
