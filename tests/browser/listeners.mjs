// How a page listens, one function for each technique: what a user would write, and no library.
//
// `listeners` runs inside a page. It leaves there `heard` (values, in order), `words` (all other
// messages), `last` (the id to go on from) and `listen.TECHNIQUE(board, query, options)`, which
// goes on for ever: whatever ends, it asks again with what it has.
export function listeners() {
  const AGAIN_MS = 200;
  const heard = (window.heard = []);
  const words = (window.words = []);
  const notes = (window.notes = { loads: 0, reloads: 0, requests: 0, pieces: 0, early: 0,
    unchanged: 0 });
  window.last = "";
  let retryMs = AGAIN_MS;

  const take = (window.take = (message) => {
    if ("value" in message) {
      heard.push(message.value);
      window.last = message.id;
      return;
    }
    words.push(message);
    const [[word, content]] = Object.entries(message);
    if (word === "busy") retryMs = content.retry;
    else if (["hello", "heartbeat", "more"].includes(word)) window.last = content.id;
  });
  const since = () => (window.last ? `&since=${window.last}` : "");
  /** As soon as the board wants to be asked again. */
  const again = (act) => {
    setTimeout(act, retryMs);
    retryMs = AGAIN_MS;
  };
  /** Hands on whole lines as they come. */
  const lines = () => {
    let rest = "";
    return (text) => {
      const whole = (rest + text).split("\n");
      rest = whole.pop();
      whole.filter((line) => line.trim()).forEach((line) => take(JSON.parse(line)));
    };
  };
  const answer = ({ hello, events, last }) => {
    if (hello) take({ hello });
    events.forEach(take);
    window.last = last;
  };

  /** A frame that is loaded anew when it was silent for too long: nothing else tells. */
  const frame = (url, silenceMs) => {
    let node;
    let before = "";
    let alive = Date.now();
    const load = () => {
      node?.remove();
      node = document.createElement("iframe");
      node.style.display = "none";
      for (const event of ["load", "error"]) node.addEventListener(event, () => (notes.loads += 1));
      node.addEventListener("load", ({ target }) => {
        // What could not be loaded has no document for us.
        if (target.contentDocument && words.at(-1)?.busy) notes.ended = true;
      });
      node.src = url + since();
      alive = Date.now() + retryMs - AGAIN_MS;
      retryMs = AGAIN_MS;
      document.body.append(node);
      window.frame = node;
    };
    load();
    if (!silenceMs) return;
    setInterval(() => {
      const now = `${words.length} ${heard.length}`;
      if (now !== before) alive = Math.max(alive, Date.now());
      before = now;
      if (Date.now() - alive < silenceMs) return;
      notes.reloads += 1;
      load();
    }, 100);
  };

  const streamOf = async (url, accept, read) => {
    notes.requests += 1;
    try {
      const reply = await fetch(url + since(), { headers: { Accept: accept } });
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        notes.pieces += 1;
        read(value);
      }
    } catch { /* cut: again */ }
  };

  /** What an XMLHttpRequest got, however it ended. */
  const request = (url, fields) => new Promise((done) => {
    const asked = new XMLHttpRequest();
    asked.open("GET", url);
    Object.entries(fields).forEach(([name, value]) => asked.setRequestHeader(name, value));
    asked.onloadend = () => done(asked);
    notes.requests += 1;
    asked.send();
  });

  const listen = (window.listen = {
    iframe: (board, query, { silenceMs, callback = "parent.take" } = {}) =>
      frame(`${board}/events/iframe?callback=${callback}${query}`, silenceMs),

    posted(board, query, { silenceMs } = {}) {
      window.addEventListener("message", ({ origin, data }) => {
        if (origin === board) take(data);
      });
      frame(`${board}/events/iframe?origin=${encodeURIComponent(location.origin)}${query}`,
        silenceMs);
    },

    xhr(board, query) {
      const asked = new XMLHttpRequest();
      const read = lines();
      let length = 0;
      asked.open("GET", `${board}/events/stream?padding=2048${query}${since()}`);
      asked.onprogress = () => {
        const before = heard.length;
        read(asked.responseText.slice(length));
        length = asked.responseText.length;
        if (asked.readyState === 3) notes.early += heard.length - before;
      };
      asked.onloadend = () => {
        asked.onprogress();
        again(() => listen.xhr(board, query));
      };
      notes.requests += 1;
      asked.send();
    },

    async fetch(board, query) {
      const read = lines();
      await streamOf(`${board}/events/stream?${query}`, "*/*", read);
      again(() => listen.fetch(board, query));
    },

    async parts(board, query) {
      let rest = "";
      await streamOf(`${board}/events/multipart?${query}`, "*/*", (text) => {
        const parts = (rest + text).split(/--encke(?:--)?\r\n/);
        rest = parts.pop();
        for (const part of parts.filter(Boolean)) {
          const [fields, content] = part.split("\r\n\r\n");
          if (!/^content-type: application\/json/i.test(fields)) throw new Error(fields);
          take(JSON.parse(content));
        }
      });
      again(() => listen.parts(board, query));
    },

    async poll(board, query) {
      const asked = await request(`${board}/events/poll?${query}${since()}`, {});
      if (asked.status !== 200) return again(() => listen.poll(board, query));
      answer(JSON.parse(asked.responseText));
      return listen.poll(board, query);
    },

    async xml(board, query) {
      const asked = await request(`${board}/events/poll?${query}${since()}`,
        { Accept: "application/xml" });
      if (asked.status !== 200) return again(() => listen.xml(board, query));
      const text = (node, name) => node.getElementsByTagName(name)[0]?.textContent;
      const of = (name) => [...asked.responseXML.getElementsByTagName(name)];
      const [hello] = of("hello");
      answer({
        hello: hello && { id: text(hello, "id"), reset: text(hello, "reset") === "true" },
        events: of("event").map((node) =>
          ({ id: text(node, "id"), value: JSON.parse(text(node, "value")) })),
        last: of("last")[0].textContent,
      });
      return listen.xml(board, query);
    },

    async tag(board, query) {
      const asked = await request(`${board}/events/poll?${query}`,
        window.last ? { "If-None-Match": `"${window.last}"` } : {});
      if (asked.status === 304) notes.unchanged += 1;
      else if (asked.status === 200) answer(JSON.parse(asked.responseText));
      else return again(() => listen.tag(board, query));
      const [, id] = asked.getResponseHeader("ETag").match(/^"(.+)"$/);
      if (id !== window.last) throw new Error(`the tag is ${id}, the last ${window.last}`);
      return listen.tag(board, query);
    },

    script(board, query) {
      const node = document.createElement("script");
      const done = () => {
        node.remove();
        delete window[name];
        listen.script(board, query);
      };
      const name = `_called${(notes.requests += 1)}`;
      window[name] = (message) => {
        if (message.error) words.push(message);
        else answer(message);
      };
      node.onload = done;
      node.onerror = () => again(done);
      node.src = `${board}/events/jsonp?callback=${name}&_=${Date.now()}${query}${since()}`;
      document.body.append(node);
      window.tag = node;
    },

    events(board, query, { withCredentials = false } = {}) {
      const source = new EventSource(`${board}/events/sse?${query}`, { withCredentials });
      source.onmessage = ({ data }) => take(JSON.parse(data));
      for (const name of ["hello", "heartbeat", "busy"]) {
        source.addEventListener(name, ({ data }) => take({ [name]: JSON.parse(data) }));
      }
      source.onerror = () => words.push({ error: { closed: source.readyState === 2 } });
    },

    socket(board, query, { protocol = "encke.v1" } = {}) {
      const url = `${board.replace("http", "ws")}/events/ws?${query}${since()}`;
      const socket = (window.socket = new WebSocket(url, protocol));
      socket.onopen = () => (notes.protocol = socket.protocol);
      socket.onmessage = ({ data }) => take(JSON.parse(data));
      socket.onclose = ({ code }) => {
        words.push({ closed: { code } });
        again(() => listen.socket(board, query, { protocol }));
      };
      notes.requests += 1;
    },
  });
}
