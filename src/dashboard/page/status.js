// How the connection is, in words for the eye and for the ear.
//
// It never says that something is live which is not.
import { $, text } from "./dom.js";
import { kindOf, link } from "./state.js";
import { ago } from "./words.js";

const NOTICE_MS = 20e3;
const SAY_MS = 5e3; // a screen reader hears of the connection at most this often
const CLOCK_MS = 60e3; // how long a difference of clocks counts, and the most that one may grow

// How long an event takes. The two clocks differ by what the quickest of the last minutes took,
// less half of the quickest round trip. More than a minute is a clock that was set.
export const delay = { ms: NaN, least: Infinity, before: Infinity, since: 0, trip: Infinity };

export function measure(data) {
  const now = Date.now();
  const took = now - data[kindOf(data)];
  if (now - delay.since > CLOCK_MS || took - delay.least > CLOCK_MS) {
    const isSet = took - delay.least > CLOCK_MS;
    Object.assign(delay, { before: isSet ? took : delay.least, least: took, since: now });
  }
  delay.least = Math.min(delay.least, took);
  const ms = took - Math.min(delay.least, delay.before) + (delay.trip < CLOCK_MS ? delay.trip / 2 : 0);
  delay.ms = delay.ms >= 0 ? delay.ms * 0.7 + ms * 0.3 : ms;
}

export const WAYS = { sse: "SSE", ws: "WebSocket", stream: "stream", poll: "polling", iframe: "frame",
  jsonp: "script" };

function paintWay() {
  const ms = Math.max(1, Math.round(delay.ms));
  const took = ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
  const way = link.phase !== "closed" && WAYS[link.transport];
  text($("way"), way ? `${way} · ${link.open && delay.ms >= 0 ? took : "– ms"}` : "");
}

function words() {
  if (link.phase === "closed") return "Sign in to see the values";
  if (link.phase === "catching") return "Catching up";
  if (link.phase === "live") {
    if (link.isPaced) return "All places for viewers are taken: shown every 5 seconds";
    return link.transport === "poll" ? "Live, without a stream" : "Live";
  }
  const wait = Math.ceil((link.retryAt - Date.now()) / 1000);
  const again = wait > 0 ? `trying again in ${wait} s` : "trying again";
  const since = link.heard ? ` — showing values from ${ago(Date.now() - link.heard)}` : "";
  return (link.reason ? `${link.reason}, ${again}` : "Connecting…") + since;
}

let [spoken, spokenAt] = ["", 0];

export function say(words) {
  spokenAt = Date.now();
  text($("say"), words);
}

export function status() {
  // Nearly every catch-up is over at once; a word that only flashes would alarm.
  const isBrief = link.phase === "catching" || (link.phase === "connecting" && !link.reason);
  if (isBrief && Date.now() - link.opened < 300) return;
  const isPaced = link.phase === "live" && link.isPaced;
  const isLost = link.phase === "connecting" && link.reason;
  document.body.dataset.state = (isPaced && "paced") || (isLost && "lost") || link.phase;
  text($("words"), words());
  paintWay();
  // Countdowns are for the eye; the ear gets each change once, and not in a burst.
  const plain = link.reason || (isPaced && words()) || (link.open ? "Live" : "");
  if (!plain || plain === spoken || Date.now() - spokenAt < SAY_MS) return;
  spoken = plain;
  say(plain);
}

export function notice(words) {
  text($("notice"), words);
  $("notice").hidden = false;
  $("notice").dataset.until = Date.now() + NOTICE_MS;
  say(words);
}
