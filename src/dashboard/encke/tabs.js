// All tabs of an origin that listen to one board in one way share one connection: the tab that
// leads has it, and passes on what it hears, each message with the id that was reached before it.
// Each tab has a cursor of its own, and asks for what it missed. The lead is a Web Lock, or where
// there are none, as on plain HTTP, a lease in localStorage; a tab that is hidden gives it to one
// that is seen. Without BroadcastChannel each tab leads itself.
import { Link } from "./link.js";
import { fitting, list, none, now, root, soon, store } from "./common.js";

// A tab that leads and says nothing for so long does not.
const LEASE_MS = 4e3;

export class Tabs {
  constructor(board) {
    const { base, options } = board;
    Object.assign(this, { board, link: null, channel: null, heard: 0, batch: [], release: none,
      isClaiming: false, name: `encke ${base} ${list(options.transport)} ${options.interval || ""}`,
      me: Math.random().toString(36).slice(2), wants: new Map(), set: null, said: null });
    this.isShared = options.share !== false && !board.bearer && root.BroadcastChannel
      && store((s) => !s.setItem(`${this.name} try`, ""));
  }

  begin() {
    if (!this.isShared) return this.assume();
    this.channel = new BroadcastChannel(this.name);
    this.channel.onmessage = ({ data }) => this.hear(data);
    this.heard = now();
    this.want();
    return this.claim();
  }

  post(message) {
    if (this.channel) this.channel.postMessage(message);
  }

  // What this tab listens to, said to whoever leads; once for all that is asked for in one turn.
  want() {
    if (this.isWanting) return;
    this.isWanting = true;
    soon(() => {
      const { topics } = this.board;
      this.isWanting = false;
      if (this.link) this.merge(this.me, topics);
      else this.post({ tab: this.me, topics, isSeen: !document.hidden });
    });
  }

  hear({ tab, topics, isSeen, free, lead, set, said, told }) {
    if (this.link) {
      if (lead && lead !== this.me && this.lease().tab === lead) return this.follow();
      if (topics) this.merge(tab, topics);
      else if (tab) {
        this.wants.delete(tab);
        // It may have been that tab's topics that the board does not take.
        if (!this.link.isOpen) this.merge(this.me, this.board.topics);
      }
      if (isSeen && document.hidden) {
        this.resign();
        this.want();
      }
      return undefined;
    }
    if (free) {
      // It may lead again before anybody else does, and know of nobody.
      this.leader = "";
      // Those that are seen first.
      return setTimeout(() => this.claim(), document.hidden ? 500 : 0);
    }
    if (!lead) return undefined;
    this.heard = now();
    if (lead !== this.leader) {
      this.leader = lead;
      // It may have been ahead, or have had other topics: what it told meanwhile is asked for.
      this.board.isBehind = Boolean(this.board.id);
      this.want();
    }
    if (set) this.set = set;
    if (said) this.board.changed(said);
    if (told) told.forEach(([message, before]) => this.board.hear(message, before));
    return set && this.board.widen();
  }

  // Asks for the lead; `isStale`: whoever has it says nothing any more.
  claim(isStale) {
    const { locks } = root.navigator;
    if (this.link || this.isClaiming || !this.channel) return;
    this.isClaiming = true;
    const end = (isMine) => {
      this.isClaiming = false;
      if (isMine && this.channel && !this.link) this.assume();
    };
    if (locks) {
      locks.request(this.name, isStale ? { steal: true } : { ifAvailable: true }, (lock) => {
        end(lock);
        return lock && this.link && new Promise((free) => { this.release = free; });
      }).catch(() => {
        this.isClaiming = false;
        this.follow();
      });
      return;
    }
    const { tab, until } = this.lease();
    if (!isStale && until > now()) return end();
    // Where none was ever, there is nobody to wait for.
    if (!tab) return end(true);
    // Whoever wrote last, and reads that back a moment later, has it.
    this.renew();
    setTimeout(() => end(this.lease().tab === this.me), 50 + Math.random() * 100);
  }

  lease() {
    return store((s) => JSON.parse(s.getItem(this.name))) || {};
  }

  renew(until = now() + LEASE_MS) {
    store((s) => s.setItem(this.name, JSON.stringify({ tab: this.me, until })));
  }

  assume() {
    this.link = new Link(this.board, this);
    this.link.id = this.board.id;
    if (this.channel) this.renew();
    this.set = null;
    this.wants.clear();
    this.merge(this.me, this.board.topics);
  }

  // The topics of all tabs; of one that names none, everything.
  merge(tab, topics) {
    const { link } = this;
    const all = new Set();
    this.wants.set(tab, topics.length ? topics : ["#"]);
    this.wants.forEach((some) => some.forEach((topic) => all.add(topic)));
    const set = all.has("#") ? [] : fitting(Array.from(all).sort());
    if (!this.set || set.join() !== this.set.join()) {
      this.set = link.topics = set;
      link.resume(this.board.slept_ms);
      this.board.slept_ms = 0;
    }
    this.post({ lead: this.me, set, said: this.said });
    this.board.widen();
  }

  // What the connection heard.
  tell(message, before, bound) {
    this.board.hear(message, before);
    // Whoever else listens has said so.
    if (!this.channel || this.wants.size < 2) return;
    if (this.batch.push([message, bound || before]) > 1) return;
    soon(() => {
      this.post({ lead: this.me, told: this.batch });
      this.batch = [];
    });
  }

  // What became of the connection.
  say(said) {
    this.said = said;
    this.post({ lead: this.me, set: this.set, said });
    this.board.changed(said);
  }

  // Leads no more.
  follow() {
    if (!this.link) return;
    this.link.halt("asleep");
    this.release();
    Object.assign(this, { link: null, leader: "", heard: now(), release: none });
  }

  // Gives the lead to whoever wants it.
  resign() {
    if (!this.link || !this.channel) return;
    this.follow();
    if (this.lease().tab === this.me) this.renew(0);
    this.post({ free: true });
  }

  tick() {
    if (!this.link) {
      if (now() - this.heard > LEASE_MS && !document.hidden) this.claim(true);
      return undefined;
    }
    if (this.channel) {
      const { tab, until } = this.lease();
      if (!root.navigator.locks && tab !== this.me && until > now()) return this.follow();
      this.renew();
      this.post({ lead: this.me });
    }
    return this.link.tick();
  }

  // Gives up all that would keep a page from sleeping well, and its place on the board.
  sleep() {
    this.post({ tab: this.me });
    if (this.link) this.link.halt("asleep");
    this.resign();
    if (this.channel) this.channel.close();
    this.channel = this.link = null;
  }

  // Whoever is seen leads, or follows one that is.
  wake() {
    const { board } = this;
    const { slept_ms } = board;
    this.heard = now();
    if (!this.link) return this.channel ? this.want() : this.begin();
    board.slept_ms = 0;
    return this.link.wake(slept_ms);
  }
}
