// The ways to hear a board, each one function (DESIGN.md section 3, "Connecting and resuming").
//
// Each begins where the link stands, hands messages to `take`, and says once that it is over, with
// the answer {status, reason, retry} where it knows that. What it returns ends it. None of them
// tries again by itself.
import { KINDS, none, request, root } from "./common.js";

// A proxy may not hold back more, nor a browser keep more of an answer.
const PADDING_BYTES = 2048;
const STREAM_BYTES = 1e6;
// Between polls where all places for viewers are taken.
const PACE_MS = 5e3;
const POLL_MS = 60e3;

let callbacks = 0;

function named(act) {
  const name = `encke${(callbacks += 1)}`;
  root[name] = act;
  // What comes late still finds something to call.
  return [name, () => {
    root[name] = none;
    setTimeout(() => delete root[name], POLL_MS);
  }];
}

// What of another site may not be read is run as a script.
export function load(url, done, over) {
  const script = document.createElement("script");
  const clear = () => {
    done = over = none;
    script.remove();
    drop();
  };
  const [name, drop] = named((body) => {
    if (body.error) over(body.error);
    else done(body);
    clear();
  });
  // Also where there was an answer, but not the board's.
  const fail = () => {
    over(0);
    clear();
  };
  setTimeout(fail, POLL_MS);
  script.onload = script.onerror = fail;
  script.src = `${url}&callback=${name}`;
  document.documentElement.appendChild(script);
  return clear;
}

// One answer after another; the first, which comes at once, tells that the board is there.
function polls(link, take, over, ask) {
  let timer;
  let stop;
  let isOver = false;
  const poll = (isFirst) => {
    stop = ask(isFirst || link.isPaced ? ["timeout=0"] : [], (body) => {
      if (isFirst && !body.hello) take({ hello: { id: link.id, lost: 0 } });
      answered(take, body);
      // Whoever was told may have ended this.
      if (!isOver) timer = setTimeout(poll, link.isPaced ? PACE_MS : 0);
    });
  };
  poll(true);
  return () => {
    isOver = true;
    clearTimeout(timer);
    stop();
  };
}

export const answered = (take, { hello, events, last }) => {
  if (hello) take({ hello });
  events.forEach(take);
  take({ heartbeat: { id: last } });
};

export const WAYS = {
  sse: {
    can: () => root.EventSource,
    dial(link, take, over) {
      const source = new EventSource(link.url("sse"), { withCredentials: link.board.isForeign });
      KINDS.forEach((name) => source.addEventListener(name, ({ data }) =>
        take({ [name]: JSON.parse(data) })));
      source.onmessage = ({ data }) => take(JSON.parse(data));
      // Never the browser's own retry: it gives up for good after some answers, unseen.
      source.onerror = over;
      return () => source.close();
    },
  },
  ws: {
    can: () => root.WebSocket,
    dial(link, take, over) {
      const socket = new WebSocket(link.url("ws").replace(/^http/, "ws"));
      socket.onmessage = ({ data }) => take(JSON.parse(data));
      socket.onclose = over;
      return () => {
        socket.onmessage = socket.onclose = null;
        socket.close();
      };
    },
  },
  stream: {
    can: () => true,
    dial(link, take, over) {
      let seen = 0;
      const piece = ({ responseText }) => {
        const end = responseText.lastIndexOf("\n");
        const lines = responseText.slice(seen, end + 1).split("\n");
        seen = Math.max(seen, end + 1);
        lines.filter((line) => line.trim()).forEach((line) => take(JSON.parse(line)));
      };
      const path = link.url("stream", [`padding=${PADDING_BYTES}`, `limit=${STREAM_BYTES}`]);
      return request(link.board, "GET", path, { piece },
        (answer) => over(answer.status !== 200 && answer));
    },
  },
  poll: {
    can: () => true,
    dial: (link, take, over) => polls(link, take, over, (more, done) =>
      request(link.board, "GET", link.url("poll", more), { patience: POLL_MS }, (answer) =>
        (answer.json ? done(answer.json) : over(answer)))),
  },
  iframe: {
    can: () => root.document && root.postMessage,
    dial(link, take, over) {
      const frame = document.createElement("iframe");
      const [name, drop] = named(take);
      const site = new URL(link.board.push).origin;
      const hear = ({ source, origin, data }) =>
        source === frame.contentWindow && origin === site && take(data);
      root.addEventListener("message", hear);
      frame.hidden = true;
      // It goes on loading as long as it lives.
      frame.onload = over;
      frame.src = link.url("iframe", [site !== location.origin
        ? `origin=${encodeURIComponent(location.origin)}` : `callback=parent.${name}`]);
      document.documentElement.appendChild(frame);
      return () => {
        drop();
        root.removeEventListener("message", hear);
        frame.onload = null;
        frame.remove();
      };
    },
  },
  jsonp: {
    can: (board) => board.isForeign && root.document,
    dial: (link, take, over) => polls(link, take, over, (more, done) =>
      load(link.url("jsonp", more.concat(`client=${link.tabs.me}`)), done, over)),
  },
};
