// One connection to a board, by whatever way works: begins, is watched, fails, waits, looks for
// another way, and climbs back to the best.
//
// It never hands on what is not whole, and never leaves trying again to the browser.
import { kindOf, list, none, now, request, store, uneven } from "./common.js";
import { WAYS, answered } from "./ways.js";

// Two and a half heartbeats without a frame: the way is dead.
const SILENCE_MS = 37500;
// After sleep we know better than to wait for the rest of that.
const WAKE_SILENCE_MS = 20e3;
// Weak Wi-Fi with power saving takes seconds. Just awake it may take none of what was sent before it
// was there again, and would send that again later and later: better to ask anew.
const FIRST_ANSWER_MS = 4e3;
const WAKE_ANSWER_MS = 1.5e3;
const WAKE_TRIES = 4;
const GLANCE_MS = 5e3;
export const ANSWER_MS = 10e3;
const RETRY_MIN_MS = 500;
export const RETRY_MAX_MS = 15e3;
// Who is cut off before this again and again looks for another way, and after some minutes
// whether the better one works now.
const EARLY_MS = 20e3;
const STRIKES = 2;
const CLIMB_MS = 300e3;
// A hidden page gives its place on the board back.
export const HIDDEN_MS = 60e3;

export class Link {
  constructor(board, tabs) {
    Object.assign(this, { board, tabs, topics: [], id: "", state: "asleep", why: "", cause: "",
      stop: none, isOpen: false, heard: 0, opened: 0, strikes: 0, attempt: 0, retryAt: 0,
      fullUntil: 0, hasty: 0, isPaced: false, back: "", climb: CLIMB_MS, since: now() });
    const all = list(board.options.transport);
    this.ways = (all.length ? all : Object.keys(WAYS)).filter((way) => WAYS[way]
      && WAYS[way].can(board) && (!board.bearer || /stream|poll/.test(way)));
    if (!this.ways.length) this.ways = ["poll"];
    this.kept = store((s) => s.getItem(`encke way ${board.base}`));
    [this.way] = this.ways;
    if (this.ways.indexOf(this.kept) > 0) {
      this.way = this.kept;
      this.cause = "it worked here before";
    }
  }

  path(way, more) {
    const { topics, id, board: { options } } = this;
    const parts = list(more);
    if (topics.length) parts.unshift(`topics=${encodeURIComponent(topics.join())}`);
    if (id) parts.push(`since=${id}`);
    if (options.interval) parts.push(`interval=${options.interval}`);
    return `events/${way}?${parts.join("&")}`;
  }

  url(way, more) {
    return this.board.push + this.path(way, more);
  }

  // Begins, or begins anew with what is wanted now.
  dial() {
    this.halt("connecting");
    this.opened = this.heard = now();
    this.isPaced = this.opened < this.fullUntil;
    let isOurs = true;
    const mine = (act) => (what) => isOurs && act.call(this, what);
    let stop = none;
    this.stop = () => {
      isOurs = false;
      stop();
    };
    try {
      stop = WAYS[this.current()].dial(this, mine(this.take), mine(this.over));
    } catch (_) {
      return this.over();
    }
    return this.say();
  }

  // The way in use; a paced one is a poll.
  current() {
    return this.isPaced && this.way !== "jsonp" ? "poll" : this.way;
  }

  say() {
    const { state, why, cause, retryAt, isPaced, isOpen } = this;
    const transport = this.current();
    this.tabs.say({ state, why: isOpen && !isPaced ? cause : why, retryAt, transport });
  }

  halt(state) {
    this.stop();
    Object.assign(this, { stop: none, isOpen: false, retryAt: 0, state });
  }

  // `bound`: how far the answer goes that this is from, if that leaves out what was overtaken.
  take(message, bound) {
    const kind = kindOf(message);
    const content = message[kind] || message;
    const before = this.id;
    this.heard = now();
    if (kind === "busy") return this.busy(content);
    this.id = content.id || before;
    if (kind === "more") return this.dial();
    if (kind === "hello" && !this.isOpen) {
      Object.assign(this, { isOpen: true, hasty: 0, state: this.isPaced ? "busy" : "live" });
      if (!this.isPaced) this.back = "";
      if (/sse|stream|poll/.test(this.current())) this.isReadable = true;
      this.say();
    }
    this.tabs.tell(message, before, bound);
  }

  busy({ reason, retry }) {
    if (reason === "token") return this.refuse(401, "this token has ended");
    if (reason === "full") return this.full(retry);
    return this.wait("the board is going down", retry);
  }

  // No place to be held in: polls that are answered at once need none.
  full(retry) {
    this.fullUntil = now() + (retry || 30e3);
    this.why = "all places for viewers are taken";
    this.dial();
  }

  refuse(status, reason) {
    this.halt("denied");
    this.why = reason;
    this.say();
    this.board.refuse(status, reason);
    // Others may have other rights by now.
    this.tabs.sleep();
  }

  wait(reason, retry) {
    const pause = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * Math.pow(2, this.attempt));
    this.halt("waiting");
    this.attempt += 1;
    this.hasty = 0;
    this.why = reason;
    this.retry = retry;
    // Later than was said, and unevenly: many were refused in one moment.
    this.retryAt = now() + (retry ? retry + Math.random() * Math.min(retry, 30e3) : uneven(pause));
    this.say();
  }

  // The way in use ended, was refused, or (`isSilent`) is dead.
  over(answer, isSilent) {
    const { isOpen } = this;
    const isEarly = !isOpen || now() - this.opened < EARLY_MS;
    const why = isOpen || isSilent ? `${this.way} ${isSilent ? "went silent" : "was cut off"}` : "";
    this.halt("connecting");
    if (!isEarly) this.strikes = this.attempt = 0;
    if (answer && answer.status === 503 && !this.isPaced) return this.full(answer.retry);
    const judge = (a) => this.judge(a, isSilent ? STRIKES : isEarly ? 1 : 0, why);
    if (answer && answer.status) return judge(answer);
    // A poll that needs no place tells what an EventSource or a frame does not.
    this.opened = this.heard = now();
    this.why = why || this.why;
    this.say();
    this.stop = request(this.board, "GET", this.path("poll", ["timeout=0", "snapshot=0"]),
      { patience: this.patience() }, judge);
  }

  patience() {
    if (this.hasty) return WAKE_ANSWER_MS * (WAKE_TRIES + 1 - this.hasty);
    return this.attempt < 2 ? FIRST_ANSWER_MS : ANSWER_MS;
  }

  judge({ status, reason, retry }, strikes, why) {
    const { board } = this;
    if (/40[13]/.test(status) && reason) return this.refuse(status, reason);
    // Of another site nothing tells a board that is away from one that may not be read.
    const isThere = status === 200 || (board.isForeign && !this.isReadable && !status);
    // The other name is no use: nobody resolves it, or the page is not in cors.
    if (isThere && strikes && board.spare) {
      board.push = board.base;
      board.spare = "";
      return this.dial();
    }
    const words = why || (isThere ? `${this.way} was refused` : "no answer");
    if (this.back) return this.turnBack(words);
    if (isThere) this.strikes += strikes;
    if (isThere && this.strikes >= STRIKES && this.ways.length > 1) {
      const next = this.ways.indexOf(this.way) + 1;
      this.change(this.ways[next % this.ways.length], words);
      if (next < this.ways.length) return this.dial();
    }
    return this.wait(reason || words, retry);
  }

  change(way, cause) {
    Object.assign(this, { way, cause, why: cause, strikes: 0, since: now() });
  }

  // A look whether a better way works by now.
  tryBetter() {
    const { way } = this;
    this.change(this.ways[0], "trying it again");
    this.back = way;
    this.dial();
  }

  turnBack(why) {
    const { back } = this;
    this.back = "";
    this.climb *= 2;
    this.change(back, why);
    this.dial();
  }

  // Once a second.
  tick() {
    const at = now();
    if (this.retryAt && at >= this.retryAt) return this.dial();
    if (this.stop === none) return undefined;
    if (at - this.heard > (this.isOpen ? this.board.options.silence || SILENCE_MS : this.patience())) {
      if (this.hasty) {
        this.hasty -= 1;
        return this.dial();
      }
      return this.over(null, true);
    }
    if (!this.isOpen) return undefined;
    if (this.isPaced && at >= this.fullUntil) return this.dial();
    if (!this.isPaced && at - this.opened > EARLY_MS) {
      if (this.kept !== this.way) {
        this.kept = this.way;
        store((s) => s.setItem(`encke way ${this.board.base}`, this.way));
      }
      if (this.way !== this.ways[0] && at - this.since > this.climb) this.tryBetter();
    }
    return undefined;
  }

  // A phone that slept may hold a socket that is dead and does not know it. After a long sleep
  // one poll brings the newest values, and not all there were.
  wake(slept_ms) {
    const isFresh = this.stop !== none && now() - this.heard < WAKE_SILENCE_MS;
    if (this.state === "denied" || (isFresh && !(slept_ms > GLANCE_MS))) return undefined;
    this.attempt = 0;
    return this.resume(slept_ms || 1);
  }

  resume(slept_ms, isAgain) {
    // The board said when.
    if (this.retry && this.retryAt > now()) return undefined;
    if (slept_ms && !isAgain) {
      this.why = "waking up";
      this.hasty = WAKE_TRIES;
    }
    if (!this.id || slept_ms < HIDDEN_MS) return this.dial();
    this.halt("connecting");
    this.opened = this.heard = now();
    const mine = request(this.board, "GET", `${this.path("poll", "timeout=0")}&interval=1`,
      { patience: this.patience() }, (answer) => {
        const { json, status } = answer;
        if (json) answered((message) => this.take(message, json.last), json);
        // Whoever was told may have ended this.
        if (this.stop !== mine) return undefined;
        if (json || !(status || this.hasty)) return this.dial();
        if (status) return this.over(answer);
        this.hasty -= 1;
        return this.resume(slept_ms, true);
      });
    this.stop = mine;
    return undefined;
  }
}
