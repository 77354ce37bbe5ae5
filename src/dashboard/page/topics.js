// Topics: what the stream and /topics tell of them.
//
// It never trusts this device's clock against the board's.
import { SECONDS, remember } from "./chart.js";
import { ask } from "./dom.js";
import { clock, kindOf, link, logOf, screen, sequence, topics, touch, up } from "./state.js";
import { delay } from "./status.js";
import { turned } from "./switches.js";

const LEAVE_MS = 6e3; // how long a topic that is gone stays to be seen
const TOPICS_MS = 5e3; // between two looks at /topics

function found(name) {
  if (!topics.has(name)) {
    topics.set(name, { name, unit: "", label: "", limits: {}, value: null, state: "ok", id: "",
      at: 0, stamp: 0, pace: 0, decimals: 0, listed: false, visible: true, leave: 0, tile: null,
      parts: null, turn: null, own: false, second: 0,
      values: new Float64Array(SECONDS).fill(NaN) });
    wantTopics(1000);
  }
  return topics.get(name);
}

// Local time of an event. It is now, unless the board's own time says that it is from the past,
// as in a replay: so the chart has no gap. A board whose clock was set meanwhile is asked anew.
function timeOf(event, now) {
  if (!clock.has(kindOf(event))) return now;
  const guess = Math.min(now, event[kindOf(event)] + clock.get(kindOf(event)));
  if (link.phase !== "live" || now - guess < 60e3) return guess;
  wantTopics(0);
  return now;
}

export function take(event) {
  const topic = found(event.topic);
  const now = Date.now();
  const step = event[kindOf(event)] - topic.stamp;
  if (topic.stamp && step > 0 && step < 864e5) {
    topic.pace = topic.pace ? topic.pace * 0.8 + step * 0.2 : step;
  }
  topic.stamp = event[kindOf(event)];
  topic.id = event.id;
  topic.value = event.value;
  topic.state = event.state || "ok";
  topic.at = timeOf(event, now);
  topic.leave = topic.state === "gone" ? topic.leave || now + LEAVE_MS : 0;
  if (topic.state === "ok" && /^(number|boolean)$/.test(typeof topic.value)) remember(topic);
  turned(topic);
  touch(topic);
}

// /topics knows units, labels, limits, ages, and which topics are gone. Not asked before the
// stream runs: the first picture needs only the document and the stream.
export const lists = { timer: 0, last: 0, busy: false };

export function wantTopics(wait) {
  if (lists.timer || lists.busy) return;
  lists.timer = setTimeout(readTopics, Math.max(wait, lists.last + TOPICS_MS - Date.now()));
}

// How long the board took to answer, by the browser's own record: a page that has much to do hears
// of it late.
function tripOf(asked) {
  const [{ requestStart: from, responseStart: to }] = performance.getEntriesByType("resource")
    .filter(({ name }) => /\/topics$/.test(name)).slice(-1).concat({});
  return to > from ? to - from : performance.now() - asked;
}

function readTopics() {
  lists.timer = 0;
  // The next hello asks again.
  if (!link.open) return undefined;
  if (!screen.isSeen && link.phase === "catching") return wantTopics(50);
  lists.busy = true;
  lists.last = Date.now();
  const { opened } = link;
  const asked = performance.now();
  ask("topics")
    .catch(({ status, reason }) => status === 401 && link.open && up.denied(reason))
    .then((list) => {
      lists.busy = false;
      if (list) delay.trip = Math.min(delay.trip, tripOf(asked));
      // What was asked before may have been asked with other rights.
      const isOurs = list && link.open && link.opened === opened;
      if (isOurs && logOf(list.id) === logOf(link.id)) listed(list);
      else wantTopics(0);
    });
}

function listed(list) {
  const now = Date.now();
  const present = new Set();
  clock.clear();
  for (const { event, unit, label, limits, age, writable, measured } of list.topics) {
    const topic = found(event.topic);
    const kind = kindOf(event);
    const shift = now - age * 1000 - event[kind];
    // Ages are cut and answers late, never early: the smallest is the nearest.
    clock.set(kind, Math.min(shift, clock.has(kind) ? clock.get(kind) : Infinity));
    present.add(topic);
    if (topic.id === "") take(event);
    if (topic.id === event.id) topic.at = now - age * 1000;
    Object.assign(topic, { unit: unit || "", label: label || "", limits: limits || {},
      own: writable || !measured });
    topic.listed = true;
    touch(topic);
  }
  for (const topic of topics.values()) {
    const isNewer = logOf(topic.id) === logOf(list.id) && sequence(topic.id) > sequence(list.id);
    if (isNewer && !topic.listed) wantTopics(1000);
    if (isNewer || present.has(topic) || topic.leave) continue;
    topic.state = "gone"; // deleted, or forgotten in a restart, while we were away
    topic.leave = now + LEAVE_MS;
    touch(topic);
  }
  link.head = sequence(list.id);
  if (sequence(link.id) >= link.head) up.caughtUp();
}
