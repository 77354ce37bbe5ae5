// Switches: topics that are true or false, and may be written by who looks.
//
// It never says "confirmed" before the board's own event is here.
import { logOf, me, link, sequence, touch } from "./state.js";
import { notice, say } from "./status.js";
import { called, shown } from "./words.js";

const CONFIRMED_MS = 3e3;
const FAILED_MS = 20e3;

// Values of sensors are theirs alone; of the rest, whatever this browser's rights allow.
const mayTurn = ({ own, name, value, state }) => own && typeof value === "boolean"
  && state !== "gone" && me.write.some((pattern) => window.Encke.matches(pattern, name));

export function paintTurn(topic) {
  const { parts: { turn: place, button }, turn: now, value } = topic;
  place.hidden = !mayTurn(topic);
  if (place.hidden) return;
  button.setAttribute("aria-label", called(topic));
  button.setAttribute("aria-checked", String(now && now.word === "pending" ? now.wanted : value));
}

// pending: until the event is here. Then confirmed, or failed, is said for a while.
export function turn(topic) {
  if (topic.turn && topic.turn.word === "pending") return;
  const mine = { word: "pending", wanted: !topic.value, id: "", until: Infinity };
  topic.turn = mine;
  tell(topic);
  link.board.publish(topic.name, mine.wanted).then(({ id }) => {
    mine.id = id;
    turned(topic);
  }, ({ status, message }) => {
    if (topic.turn !== mine) return;
    // Without an answer it may be switched all the same: what the board tells counts.
    const isSo = !status && topic.value === mine.wanted;
    const how = status ? "was not" : "was perhaps not";
    if (!isSo) notice(`${called(topic)} ${how} switched: ${message}`);
    Object.assign(mine, { isOpen: !status && !isSo, word: isSo ? "confirmed" : "failed",
      until: Date.now() + (isSo ? CONFIRMED_MS : FAILED_MS) });
    tell(topic);
  });
}

function tell(topic) {
  touch(topic);
  if (topic.turn.word !== "failed") say(`${called(topic)}: ${topic.turn.word || shown(topic)[0]}`);
}

// Whether the event that was asked for is here, or one after it.
export function turned(topic) {
  const { turn: now, id } = topic;
  // What had no answer was done all the same.
  if (now && now.isOpen && topic.value === now.wanted) {
    Object.assign(now, { isOpen: false, word: "confirmed", until: Date.now() + CONFIRMED_MS });
    return tell(topic);
  }
  // Of another log: the board started again, and tells what is so now.
  if (!now || !now.id || now.word !== "pending") return;
  if (logOf(now.id) === logOf(id) && sequence(id) < sequence(now.id)) return;
  Object.assign(now, topic.value === now.wanted
    ? { word: "confirmed", until: Date.now() + CONFIRMED_MS } : { word: "", until: 0 });
  tell(topic);
}
