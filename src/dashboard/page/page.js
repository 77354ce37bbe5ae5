// The first page: follows every topic of the board, and is honest about what it does not know.
//
// What is in this folder is bundled by scripts/bundle into src/dashboard/page.min.js, which
// src/build.rs puts into the page behind the library.
import { connect } from "./connection.js";
import { $, here, text } from "./dom.js";
import { welcome } from "./help.js";
import { call, countDown, fromLink, meet, offer, signIn, signOut } from "./session.js";
import { me, topics, touch, up } from "./state.js";
import { status } from "./status.js";
import { arrange, paintAge, remove } from "./tiles.js";

function tick() {
  const now = Date.now();
  if (document.hidden) return;
  status();
  countDown();
  if ($("notice").dataset.until < now) $("notice").hidden = true;
  for (const topic of topics.values()) {
    if (topic.turn && now >= topic.turn.until) {
      topic.turn = null;
      touch(topic);
    }
    if (topic.tile && topic.leave && now >= topic.leave) remove(topic);
    else if (topic.tile) paintAge(topic);
  }
}

document.title = location.hostname;
text($("name"), location.hostname.replace(/\.local$/, ""));
text($("address"), here.replace(/^https?:\/\/|\/$/g, ""));

$("copy").addEventListener("click", () => {
  // Not navigator.clipboard: a page on plain http does not have it.
  getSelection().selectAllChildren($("curl"));
  text($("copy"), document.execCommand("copy") ? "Copied" : "Selected");
  setTimeout(() => text($("copy"), "Copy"), 2000);
});

$("sign").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  signIn($("token").value, 1);
});

$("session").addEventListener("click", () => {
  if (me.name) return signOut();
  me.asked = $("sign").hidden;
  if (!me.asked) return $("sign").hidden = true;
  offer("With a token this page may show more.");
  scrollTo(0, 0);
  return $("token").focus();
});

// Asked after the first picture only, which needs no more than the document and the stream.
up.arrived = () => {
  meet();
  welcome();
};

document.addEventListener("visibilitychange", tick);
addEventListener("resize", () => arrange());
addEventListener("hashchange", fromLink);
setInterval(tick, 1000);
call({});
if (!fromLink()) connect();
