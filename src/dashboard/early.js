// Opens the stream with the first bytes of the page, while the rest is still on its way, and hands
// it to the library when that asks for just this one; the page's first values are there by then.
//
// It never opens one that will not be wanted: nobody looks, another tab has one, another way worked
// here before, streams go to another name, or a link brings a token that has to be handed over
// first. It never hands one over that may be dead, and never lets the browser try again.
"use strict";
(() => {
  const Source = window.EventSource;
  const FRESH_MS = 20e3;
  const here = location.href.replace(/[?#].*$/, "").replace(/\/?$/, "/");
  const isElsewhere = () => {
    try {
      const { until } = JSON.parse(localStorage.getItem(`encke ${here}  `)) || {};
      return until > Date.now() || !/^(sse)?$/.test(localStorage.getItem(`encke way ${here}`) || "");
    } catch (_) {
      return false; // it may not be used, or is not ours
    }
  };
  const isFirst = /#token=|encke_push=/.test(location.hash + document.cookie);
  if (!Source || document.hidden || isFirst || isElsewhere()) return;
  const source = new Source(`${here}events/sse?`);
  const types = ["hello", "heartbeat", "busy", "message", "error"];
  const said = [];
  let heard = 0;
  const keep = (event) => {
    heard = Date.now();
    said.push(event);
    if (event.type === "error") source.close();
  };
  const done = () => {
    window.EventSource = Source;
    types.forEach((type) => source.removeEventListener(type, keep));
    return said.splice(0);
  };
  types.forEach((type) => source.addEventListener(type, keep));
  window.EventSource = function First(url, how) {
    const kept = done();
    const isDead = kept.length && Date.now() - heard > FRESH_MS;
    if (url !== source.url || isDead) {
      source.close();
      return new Source(url, how);
    }
    // In the turn of the library's own listeners, and before anything newer.
    Promise.resolve().then(() => kept.forEach((event) => source.dispatchEvent(event)));
    return source;
  };
  // A tab that turned out to lead none asks for none.
  addEventListener("load", () => setTimeout(() => {
    if (window.EventSource === Source) return;
    done();
    source.close();
  }, 1000), { once: true });
})();
