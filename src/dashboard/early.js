// Opens the stream while the rest of the page is still on its way, and keeps what it says until
// script.js listens. Not for a link that brings a token: that is handed over first.
"use strict";
if (!/^#token=/.test(location.hash)) {
  const early = { board: new window.Encke(location.href.replace(/[?#].*$/, "")), said: [] };
  window.early = early;
  for (const type of ["state", "hello", "event", "heartbeat", "reset", "lost", "error"]) {
    early.board.addEventListener(type, (what) => window.early && early.said.push(what));
  }
}
