// Who is asking: signing in and out, and what the board says of a token.
//
// It never keeps a token: that is the cookie's, which no script can read.
import { connect, disconnect } from "./connection.js";
import { $, ask, capital, here, text } from "./dom.js";
import { link, me, topics, touch, up } from "./state.js";
import { notice, say, status } from "./status.js";
import { forget } from "./tiles.js";

const ANSWER_MS = 10e3; // weak Wi-Fi with power saving takes seconds
const SIGN_TRIES = 5; // to hand over the token of a link, where the network does not answer
const SIGN_MS = 2e3; // between two of them

// Who signs in or out does so for all tabs, of which one has the connection.
const others = window.BroadcastChannel && new BroadcastChannel("encke session");
if (others) others.onmessage = () => again({});

function again(session) {
  forget();
  met(session);
  me.known = session.name !== undefined;
  connect();
}

// Asked once, and after the first picture: most boards want no token, and need no more than this.
export function meet() {
  if (me.known) return;
  me.known = true;
  ask("session").then((session) => {
    met(session);
    if (session.name && /encke_push=/.test(document.cookie)) connect();
  }, ({ status }) => { me.known = status === 401; });
}

function met(session) {
  me.known = true;
  $("who").hidden = false;
  call(session);
}

export function call({ name, until, write }) {
  Object.assign(me, { name: name || "", write: write || [] });
  topics.forEach(touch);
  const end = until && new Date(until * 1000).toLocaleString("en", { dateStyle: "medium",
    timeStyle: "short" });
  text($("me"), name ? `Signed in as ${name}${end ? ` until ${end}` : ""}` : "");
  text($("session"), name ? "Sign out" : "Sign in");
  const by = name ? `-u ${name}:SECRET ` : ""; // in HTTP's own way: any name, and the secret
  text($("curl"), `curl -N ${by}${here}events/stream`);
  for (const place of ["publish", "own"]) text($(place), `curl -d true ${by}${here}topics/demo/lamp`);
}

// 401. If it was for a token, the answer took the cookie back: perhaps none is needed.
up.denied = (reason) => {
  const isOver = reason.startsWith("this token");
  if (me.name) me.over = `The token ${me.name} has ended.`;
  else if (isOver) me.over = me.over || plainly(reason);
  forget();
  met({});
  if (isOver && !link.denied) {
    link.denied = true;
    notice(me.over);
    return connect();
  }
  disconnect();
  status();
  $("notice").hidden = true;
  // What was said to a token that was just tried stays.
  return offer((me.asked && $("why").textContent) || (me.over && `${me.over} Sign in again.`)
    || "This board shows its values to those who have a token.");
};

up.admitted = () => {
  me.over = "";
  if (!me.asked) $("sign").hidden = true;
};

const plainly = (reason) => `${capital(reason).replace(/`([^`]*)`/g, "“$1”")}.`;

export function offer(words) {
  text($("why"), words);
  $("sign").hidden = false;
  say(words);
}

// The token goes to the board, and is nowhere in the page when the board has it. A whole link may
// be pasted, too.
export function signIn(given, tries) {
  const token = given.trim().replace(/^.*#token=/, "");
  const abort = new AbortController();
  const patience = setTimeout(() => abort.abort(), ANSWER_MS);
  $("enter").disabled = true;
  text($("why"), "Signing in…");
  ask("session", { method: "POST", body: token, signal: abort.signal }).then((session) => {
    $("token").value = "";
    me.asked = false;
    again(session);
    if (others) others.postMessage("");
  }, (error) => {
    me.asked = true;
    if (!link.phase) connect();
    if (!error.status && tries > 1) {
      offer("No answer yet. Trying again.");
      setTimeout(signIn, SIGN_MS, token, tries - 1);
      return;
    }
    if (error.status) $("token").value = "";
    turnedDown(error);
  }).finally(() => {
    clearTimeout(patience);
    $("enter").disabled = me.waitUntil > 0;
  });
}

function turnedDown({ status, reason, retry }) {
  if (status === 429) me.waitUntil = Date.now() + retry;
  if (status === 400) offer("This is no token. One looks like NAME.SECRET, and has no spaces.");
  else offer(reason ? plainly(reason) : "The board does not answer. Try again.");
  countDown();
}

export function countDown() {
  if (!me.waitUntil) return;
  const wait = Math.ceil((me.waitUntil - Date.now()) / 1000);
  text($("why"), wait <= 0 ? "Now you can try again."
    : `Too many wrong tokens came from this address. Try again in ${wait} s.`);
  if (wait <= 0) me.waitUntil = 0;
  $("enter").disabled = wait > 0;
}

export function signOut() {
  fetch("session", { method: "DELETE" }).then(({ ok }) => {
    if (!ok) return notice("The board did not sign you out");
    again({ name: "" });
    if (others) others.postMessage("");
    return notice("Signed out");
  }, () => notice("No answer: you are still signed in"));
}

// The secret of a link: taken out of the address bar before anything else.
export function fromLink() {
  const [isOne, token] = /^#token=(.*)/.exec(location.hash) || [];
  if (isOne) history.replaceState(null, "", location.pathname + location.search);
  if (token) signIn(token, SIGN_TRIES);
  return token;
}
