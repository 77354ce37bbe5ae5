// Faces that older code knows, behind encke.js: an EventSource (WHATWG HTML section 9.2; every
// event is a `message`), and JSONRequest (Crockford 2006).
//
// A JSONRequest never sends cookies to another site, nor tells why it failed but in its three
// phrases.
((root) => {
  "use strict";
  const { Encke } = root;
  const READY = { live: 1, busy: 1, denied: 2, closed: 2 };

  // `url` is the board's address, with or without `events/sse`, and may have `?topics=`.
  Encke.EventSource = class extends Encke {
    constructor(url) {
      const { href, searchParams } = new URL(url, location.href);
      const topics = searchParams.getAll("topics").join();
      super(href.replace(/(events(\/\w*)?)?([?#].*)?$/, ""), { topics: topics && topics.split(","),
        interval: searchParams.get("interval") });
      this.url = href;
      this.readyState = 0;
      const call = (type, more) => {
        const event = Object.assign(new Event(type), more);
        if (this[`on${type}`]) this[`on${type}`](event);
        this.dispatchEvent(event);
      };
      // The library's own, which is no DOM event: what a refusal is here, `call` says.
      this.addEventListener("error", (event) => event.detail && event.stopImmediatePropagation());
      this.addEventListener("event", ({ detail }) => call("message",
        { data: JSON.stringify(detail), lastEventId: detail.id, origin: new URL(href).origin }));
      this.addEventListener("state", ({ detail: { state } }) => {
        const was = this.readyState;
        this.readyState = READY[state] || 0;
        const isNew = was !== this.readyState && state !== "closed";
        if (isNew) call(this.readyState === 1 ? "open" : "error");
      });
    }
  };

  ["CONNECTING", "OPEN", "CLOSED"].forEach((name, state) => {
    Encke.EventSource[name] = Encke.EventSource.prototype[name] = state;
  });

  const sent = new Map();
  let serial = 0;

  function send(method, url, body, done, timeout) {
    const number = (serial += 1);
    const xhr = new XMLHttpRequest();
    const end = (message, value) => sent.delete(number)
      && done(number, value, message && { name: "JSONRequestError", message });
    xhr.open(method, url);
    xhr.timeout = timeout || 10e3;
    xhr.setRequestHeader("Accept", "application/jsonrequest,application/json");
    if (body) xhr.setRequestHeader("Content-Type", "application/json");
    xhr.onload = () => {
      let value;
      if (xhr.status !== 200) return end("not ok");
      try {
        value = JSON.parse(xhr.responseText);
      } catch (_) {
        return end("bad response");
      }
      return end("", value);
    };
    xhr.onerror = () => end("not ok");
    xhr.ontimeout = () => end("no response");
    sent.set(number, xhr);
    xhr.send(body);
    return number;
  }

  Encke.JSONRequest = {
    get: (url, done, timeout) => send("GET", url, null, done, timeout),
    post: (url, data, done, timeout) => send("POST", url, JSON.stringify(data), done, timeout),
    cancel(number) {
      const xhr = sent.get(number);
      if (sent.delete(number)) xhr.abort();
    },
  };
})(self);
