// What all parts of the library use: time, ids, messages, patterns, storage, and one request.
//
// It never keeps state.
const TOPICS_BYTES = 1000;
export const root = self;
export const none = () => {};
export const now = () => Date.now();
export const uneven = (ms) => ms * (0.5 + Math.random() / 2);
export const serial = (id) => Number(id.slice(id.indexOf("-") + 1));
export const logOf = (id) => id.slice(0, id.indexOf("-"));
// Whether whoever has seen `seen` has seen `id`: both of one log.
export const isPast = (id, seen) => seen && logOf(id) === logOf(seen) && serial(id) <= serial(seen);
export const list = (one) => (one ? [].concat(one) : []);
export const KINDS = ["hello", "heartbeat", "busy", "more"];
export const kindOf = (message) => KINDS.filter((kind) => message[kind])[0];
// After all that was begun in this turn.
export const soon = (act) => Promise.resolve().then(act);
export const store = (act) => {
  try {
    return act(root.localStorage);
  } catch (_) {
    // There is none, or it may not be used.
    return null;
  }
};

// More than the board takes of them: then everything, of which each tab shows its own.
export const fitting = (topics) => (topics.join().length > TOPICS_BYTES ? [] : topics);

// MQTT's patterns: + is one level, # the rest.
export function matches(pattern, topic) {
  const [levels, names] = [pattern.split("/"), topic.split("/")];
  const rest = levels.indexOf("#");
  if (rest < 0 ? names.length !== levels.length : names.length < rest) return false;
  return levels.every((level, i) => level === "#" || level === names[i]
    || (level === "+" && names[i] !== "#"));
}

// Whoever is told may fail: that is theirs alone.
export function call(act, event) {
  try {
    act(event);
  } catch (error) {
    setTimeout(() => { throw error; });
  }
}

// One request. `done` gets {status, reason, retry, json}, status 0 when there was no answer;
// what is returned gives it up. `piece` gets the text so far.
export function request(board, method, path, { body, type, patience, piece }, done) {
  const xhr = new XMLHttpRequest();
  xhr.open(method, new URL(path, board.base));
  xhr.timeout = patience || 0;
  xhr.withCredentials = board.isForeign && !board.bearer;
  if (board.bearer) xhr.setRequestHeader("Authorization", `Bearer ${board.bearer}`);
  if (type) xhr.setRequestHeader("Content-Type", type);
  const more = xhr.onprogress = () => piece && xhr.status === 200 && piece(xhr);
  xhr.onloadend = () => {
    const isPlain = /^text\/plain/.test(xhr.getResponseHeader("Content-Type"));
    let json;
    try {
      more();
      if (xhr.status === 200) json = JSON.parse(xhr.responseText);
    } catch (_) {
      // Not the board: a portal's page, or lines.
    }
    done({ status: xhr.status, json,
      reason: isPlain ? xhr.responseText.trim() : "",
      retry: Number(xhr.status && xhr.getResponseHeader("Retry-After")) * 1000 });
  };
  xhr.send(body);
  return () => {
    done = piece = none;
    xhr.abort();
  };
}
