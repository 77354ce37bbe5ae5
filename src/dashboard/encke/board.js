// What a page has of a board: listeners by topic, the newest event of each, publishing, and events
// that say in plain words what became of the connection.
//
//   const board = new Encke("http://pi.local:8080", { topics: "cpu/#", token: "NAME.SECRET" });
//   board.on("cpu/+/usage", (event) => console.log(event.topic, event.value));
//   board.addEventListener("state", () => console.log(board.state, board.transport, board.why));
//   board.publish("lamp", true).then(({ id }) => ..., ({ status, message }) => ...);
//
// It never shows an event twice, never leaves one out unsaid, and never keeps a token: that is a
// cookie, or this object's.
import { call, fitting, isPast, kindOf, list, logOf, matches, none, now, request, root, soon, uneven } from "./common.js";
import { ANSWER_MS, HIDDEN_MS, RETRY_MAX_MS } from "./link.js";
import { Tabs } from "./tabs.js";
import { WAYS, answered, load } from "./ways.js";

// A timer of one second that comes so late: the device slept.
const ASLEEP_MS = 5e3;
// Who waits for what it missed keeps so many messages, and asks again for more.
const PENDING_MAX = 1000;
const MISSED_MS = 1e3;
// What may mean that the device or the page slept, or woke.
const SIGNS = ["visibilitychange", "freeze", "resume", "pagehide", "pageshow", "online"];

const isHeard = ({ act }) => act !== none;

// An EventTarget, also where none can be made.
const Target = (() => {
  try {
    return new EventTarget() && EventTarget;
  } catch (_) {
    return function Node() {
      const node = document.createTextNode("");
      ["addEventListener", "removeEventListener", "dispatchEvent"].forEach((name) => {
        this[name] = node[name].bind(node);
      });
    };
  }
})();

export class Encke extends Target {
  // options: topics (patterns; those of `on` else, and everything if there are none), transport
  // (one or more of Encke.transports, in the order to try), interval (seconds; only the newest
  // values then), token, silence (ms), push (the address of the streams, if another), share
  // (false: no connection shared with other tabs).
  constructor(url, options) {
    super();
    this.options = options || {};
    this.base = new URL(url || "/", location.href).href.replace(/[?#].*$/, "").replace(/\/?$/, "/");
    const { origin, protocol } = location;
    const { push } = this.options;
    this.isForeign = new URL(push || this.base).origin !== origin;
    // The board's other name, if it has one; see push_host.
    const [, host] = (!push && !this.isForeign && /\bencke_push=([^;]+)/.exec(document.cookie)) || [];
    this.spare = host;
    this.push = (push || (host ? this.base.replace(origin, `${protocol}//${host}`) : this.base))
      .replace(/\/?$/, "/");
    this.bearer = this.isForeign && this.options.token;
    Object.assign(this, { state: "connecting", transport: "", why: "", retryAt: 0, id: "",
      listeners: [], values: new Map(), news: [], pending: null, hiddenAt: 0, beat: now(),
      slept_ms: 0, isBehind: false, isAsleep: false, isListening: false });
    this.tabs = new Tabs(this);
    this.timer = setInterval(() => this.tick(), 1000);
    this.notice = ({ type }) => this.noticed(type);
    // What is said to `on` in this turn is known by then.
    soon(() => this.begin());
  }

  begin() {
    const { token } = this.options;
    if (this.state === "closed") return;
    if (!token || this.bearer) return this.listen();
    request(this, "POST", "session", { body: token, patience: ANSWER_MS, type: "text/plain" },
      ({ status, reason, retry }) => {
        if (this.state === "closed") return;
        if (status === 200) return this.listen();
        if (/^4(?!29)/.test(status)) return this.refuse(status, reason);
        setTimeout(() => this.begin(), retry || uneven(RETRY_MAX_MS));
      });
  }

  listen() {
    SIGNS.forEach((type) => root.addEventListener(type, this.notice, true));
    if (document.hidden) this.hiddenAt = now();
    this.isListening = true;
    this.tabs.begin();
  }

  // The patterns that are listened to; none is everything.
  get topics() {
    const all = list(this.options.topics).concat(this.listeners.map(({ pattern }) => pattern));
    return all.indexOf("#") < 0 ? Array.from(new Set(all)).sort() : [];
  }

  // Whether this tab has the connection.
  get leads() {
    return Boolean(this.tabs.link);
  }

  // Calls `act(event)` for the newest event of each topic, and for all that come; what is
  // returned ends that.
  on(pattern, act) {
    const listener = { pattern, act };
    const before = this.topics;
    const isFirst = !before.length && !this.listeners.length;
    const isKnown = !isFirst && this.isIn(before, pattern);
    this.listeners = this.listeners.filter(isHeard).concat(listener);
    this.values.forEach((event) => matches(pattern, event.topic) && call(act, event));
    if (!isKnown) {
      if (this.id || this.pending) this.news.push({ pattern, before });
      this.tabs.want();
    }
    return () => {
      listener.act = none;
      const rest = this.listeners.filter(isHeard);
      // Nothing at all would be everything: then the last one's topic stays, unheard.
      if (rest.length || this.options.topics) this.listeners = rest;
      this.tabs.want();
      this.values.forEach((_, topic) => this.hasTopic(topic) || this.values.delete(topic));
    };
  }

  // Whether what a pattern stands for is among others; none are everything.
  isIn(patterns, pattern) {
    return !patterns.length || patterns.some((one) => one === pattern || matches(one, pattern));
  }

  // The connection has another set of topics: it may be that of new listeners.
  widen() {
    const { set } = this.tabs;
    const hasAll = this.topics.length ? this.topics.every((one) => this.isIn(set, one)) : !set.length;
    if (hasAll && (!this.id || this.isBehind) && !this.tabs.link) this.catchUp();
    this.news = this.news.filter(({ pattern, before }) => {
      // What is asked for now may be past an event of theirs.
      if (this.pending || !this.isIn(set, pattern)) return true;
      this.more(pattern, before);
      return false;
    });
  }

  // Topics that were not listened to before: their newest events by a request of its own, for the
  // connection goes on behind what it has seen.
  more(pattern, before) {
    this.ask(pattern, "", ({ events }) => events.forEach((event) =>
      // What is newer comes by the connection, with all that was before it.
      !this.hasTopic(event.topic) || before.some((one) => matches(one, event.topic))
        || !isPast(event.id, this.id) || this.show(event)));
  }

  // Whatever was not passed on to this tab: asked for, and until then the rest has to wait.
  catchUp(...pending) {
    // One that was asked for before a sleep may have been answered by others than lead now.
    if (this.pending && !this.isBehind) return;
    const { id } = this;
    const since = id && `&since=${id}${this.slept_ms < HIDDEN_MS ? "" : "&interval=1"}`;
    this.pending = pending;
    this.isBehind = false;
    this.ask("", since, (answer) => {
      // What was asked for before counts no more.
      if (this.pending !== pending) return;
      this.pending = null;
      if (!answer.hello) this.take({ hello: { id: this.id, lost: 0 } });
      answered((message) => this.take(message), answer);
      pending.forEach(([message, before]) => {
        const { hello } = message;
        const isSame = !before || logOf(before) === logOf(this.id);
        // What is left is of a log that the answer was past already.
        if (isSame) this.hear(message, before);
        else if (hello && hello.reset && logOf(hello.id) !== logOf(this.id)) this.take(message);
      });
      if (this.tabs.set) this.widen();
    });
  }

  // An answer at once, and again later and later where there is none; of all topics that are
  // listened to by then, unless one is named.
  ask(topic, since, done, tries = 0) {
    const topics = encodeURIComponent(topic || fitting(this.topics).join() || "#");
    const query = `?timeout=0&topics=${topics}${since}`;
    const end = ({ json, retry }) => {
      if (this.state === "closed") return;
      if (json) return done(json);
      setTimeout(() => this.ask(topic, since, done, tries + 1),
        retry || uneven(Math.min(RETRY_MAX_MS, 2 * MISSED_MS * Math.pow(2, tries))));
    };
    // Until there is somebody whom the board lets in.
    if (this.state === "denied") end(0);
    else if (this.transport === "jsonp") load(`${this.push}events/jsonp${query}`, (json) => end({ json }), end);
    else request(this, "GET", `events/poll${query}`, { patience: ANSWER_MS }, end);
  }

  // A message of the connection, and the id that was reached before it.
  hear(message, before) {
    const { id, pending } = this;
    if (this.state === "closed") return;
    if (pending) {
      // What does not fit shows as missed, once the others are there.
      if (pending.length < PENDING_MAX) pending.push([message, before]);
      return;
    }
    if (this.isBehind && !this.tabs.link) return;
    if (!before || isPast(before, id)) return this.take(message);
    return this.catchUp([message, before]);
  }

  take(message) {
    const kind = kindOf(message);
    const content = message[kind] || message;
    const { id, reset, lost: count, exact } = content;
    const isOld = isPast(id, this.id);
    if (reset) {
      this.values.clear();
      this.raise("reset", { message: "the board started again" });
    } else if (count) {
      this.raise("lost", { count, exact: exact !== false,
        message: `missed ${exact === false ? "up to " : ""}${count} events` });
    }
    // Whoever hears, slept.
    this.slept_ms = 0;
    if (!isOld) this.id = id;
    if (kind) this.raise(kind, content);
    else if (!isOld && this.hasTopic(message.topic)) this.show(message);
  }

  // Whether it is one of this tab's: others may listen to more.
  hasTopic(topic) {
    const { topics } = this;
    return !topics.length || topics.some((one) => matches(one, topic));
  }

  show(event) {
    const { id, topic, state } = event;
    const known = this.values.get(topic);
    if (known && isPast(id, known.id)) return;
    if (state === "gone") this.values.delete(topic);
    else this.values.set(topic, event);
    this.listeners.forEach(({ pattern, act }) => matches(pattern, topic)
      && call(act, event));
    this.raise("event", event);
  }

  // Sends a value to a topic: a Promise of {id, subscribers}, or of an Error with a status.
  publish(topic, value) {
    return new Promise((done, fail) => {
      const path = `topics/${topic.split("/").map(encodeURIComponent).join("/")}`;
      request(this, "POST", path, { body: JSON.stringify(value), type: "application/json",
        patience: ANSWER_MS }, ({ status, reason, retry, json }) => {
        if (json) return done(json);
        const message = reason || (status ? `the board answered ${status}` : "no answer");
        return fail(Object.assign(new Error(message), { status, retry }));
      });
    });
  }

  close() {
    clearInterval(this.timer);
    SIGNS.forEach((type) => root.removeEventListener(type, this.notice, true));
    this.tabs.sleep();
    this.become("closed");
  }

  raise(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  refuse(status, reason) {
    this.raise("error", { status, reason, message: reason || "the board wants a token" });
    this.become("denied", reason);
  }

  // By itself, and not by its connection.
  become(state, why = "") {
    this.changed({ state, why, retryAt: 0, transport: this.transport });
  }

  // What became of the connection, here or in the tab that has it.
  changed(said) {
    if (this.state === "closed") return;
    const { state, why } = said;
    const isNew = state !== this.state;
    Object.assign(this, said);
    if (isNew && state === "busy") this.raise("busy", { message: why });
    this.raise("state", said);
  }

  tick() {
    const late_ms = now() - this.beat - 1000;
    this.beat = now();
    if (!this.isListening) return undefined;
    // A clock that was put back, too.
    if (Math.abs(late_ms) > ASLEEP_MS && !document.hidden) return this.wake(Math.abs(late_ms));
    if (this.hiddenAt && now() - this.hiddenAt > HIDDEN_MS) return this.sleep();
    return this.isAsleep || this.tabs.tick();
  }

  noticed(type) {
    const isOver = type === "pagehide" || type === "freeze";
    if (!isOver && !document.hidden) return this.wake(this.hiddenAt ? now() - this.hiddenAt : 0);
    this.hiddenAt = this.hiddenAt || now();
    return isOver && this.sleep();
  }

  sleep() {
    if (this.isAsleep || this.state === "denied") return;
    this.isAsleep = this.isBehind = true;
    this.tabs.sleep();
    this.become("asleep");
  }

  wake(slept_ms) {
    if (this.state === "denied") return;
    // Several signs tell of one sleep, not all of them how long it was.
    Object.assign(this, { hiddenAt: 0, beat: now(), isAsleep: false,
      slept_ms: Math.max(slept_ms, this.slept_ms) });
    this.tabs.wake();
  }
}

Encke.transports = Object.keys(WAYS);
Encke.matches = matches;
