// The tiles: groups of topics, as many columns as fit.
//
// It never puts a value there but as text, and changes nothing that is as it should be.
import { paintChart } from "./chart.js";
import { $, copyOf, text } from "./dom.js";
import { dirty, groups, link, clock, screen, topics, touch, up } from "./state.js";
import { WAYS } from "./status.js";
import { paintTurn, turn } from "./switches.js";
import { ago, called, plural, shown, title, verdict } from "./words.js";

const OLD_MS = 15e3; // and five times its usual pace: a value is old

const main = $("topics");
// Text is always painted, for ears and searches; charts only near the screen.
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const topic = topics.get(target.title);
    if (!topic) continue;
    topic.visible = isIntersecting;
    if (isIntersecting) touch(topic);
  }
}, { rootMargin: "100px" });

function paint() {
  const fresh = [...dirty].filter((topic) => !topic.tile);
  const isFirst = !screen.painted;
  const width = fresh.length > 0 ? space() : 0;
  Object.assign(screen, { timer: 0, painted: Date.now() });
  fresh.forEach(place);
  dirty.forEach(paintTopic);
  dirty.clear();
  if (fresh.length > 0) arrange(width);
  paintFooter();
  if (isFirst) setTimeout(seen); // a task of its own: by then it is
}

function seen() {
  performance.mark("first value");
  screen.isSeen = true;
}
up.paint = paint;

// Groups stand in an order that is useful on any board, then by name; the nameless one last.
const ORDER = ["board", "system", "os", "cpu", "gpu", "thermal", "memory", "mem", "net", "disk"];
const rank = (name) => (ORDER.includes(name) ? String(ORDER.indexOf(name)) : name || "\uffff");
const depth = ({ name }) => `${name.split("/").length}/${name}`; // cpu/usage, then cpu/0/usage
// Numbers by their size: cpu/2 is before cpu/10.
const sortable = (name) => name.replace(/\d+/g, (digits) => digits.padStart(12, "0"));
const isBefore = (a, b) => sortable(a) < sortable(b);

function group(name) {
  if (groups.has(name)) return groups.get(name);
  const section = copyOf("group");
  const [heading, list] = section.children;
  heading.id = `group-${name}`;
  section.setAttribute("aria-labelledby", heading.id);
  text(heading, title(name));
  const later = [...main.children].find((other) => isBefore(rank(name), other.dataset.rank));
  section.dataset.rank = rank(name);
  main.insertBefore(section, later || null);
  groups.set(name, { section, list, members: [] });
  return groups.get(name);
}

function place(topic) {
  const tile = copyOf("tile");
  topic.group = topic.name.includes("/") ? topic.name.split("/")[0] : "";
  topic.tile = tile;
  tile.title = topic.name;
  topic.parts = { paths: tile.querySelectorAll("path"), button: tile.querySelector("button") };
  topic.parts.button.addEventListener("click", () => turn(topic));
  for (const part of tile.querySelectorAll("[data-part]")) topic.parts[part.dataset.part] = part;
  const { list, members } = group(topic.group);
  const later = members.findIndex((other) => isBefore(depth(topic), depth(other)));
  const index = later < 0 ? members.length : later;
  list.insertBefore(tile, later < 0 ? null : members[later].tile);
  members.splice(index, 0, topic);
  watcher.observe(tile);
}

export function remove(topic) {
  const { section, members } = groups.get(topic.group);
  topics.delete(topic.name);
  dirty.delete(topic);
  watcher.unobserve(topic.tile);
  topic.tile.remove();
  members.splice(members.indexOf(topic), 1);
  if (members.length === 0 && groups.delete(topic.group)) section.remove();
  arrange();
}

// What was shown with other rights than those there are now.
export function forget() {
  watcher.disconnect();
  for (const known of [topics, groups, dirty, clock]) known.clear();
  main.textContent = "";
  Object.assign(link, { id: "", heard: 0 });
  paintFooter();
}

function paintTopic(topic) {
  const [number, unit] = shown(topic);
  const isText = /^(string|object)$/.test(typeof topic.value) && topic.value !== null;
  const fits = number.length < 8 && number.length + unit.length < 10;
  const fit = fits ? "" : isText ? " text" : " long";
  text(topic.parts.label, called(topic));
  text(topic.parts.number, number);
  text(topic.parts.unit, unit && ` ${unit}`);
  topic.parts.value.className = `value${fit}`;
  topic.parts.chart.hidden = isText;
  paintTurn(topic);
  paintAge(topic);
}

// The part that ages without an event: the note, and the chart that moves on.
export function paintAge(topic) {
  const age = Date.now() - topic.at;
  const [, , limit, grade] = verdict(topic) || [];
  const isCut = age > OLD_MS && (!link.open || (topic.pace && age > 5 * topic.pace));
  const kinds = ["tile", topic.state, grade, isCut && "cut", topic.turn && topic.turn.word,
    topic.leave && topic.leave - Date.now() < 1000 && "leaving"];
  topic.tile.className = kinds.filter(Boolean).join(" ");
  const word = topic.turn ? topic.turn.word : limit || "";
  text(topic.parts.word, topic.state === "ok" ? word : topic.state);
  text(topic.parts.age, age >= 10e3 || topic.state === "stale" ? ago(age) : "");
  if (topic.visible && !topic.parts.chart.hidden) paintChart(topic);
}

// The width there is for them in rem. Asked before tiles are put in: after that a browser has to
// lay them out to answer, which takes a slow phone a tenth of a second.
const space = () =>
  main.clientWidth / parseFloat(getComputedStyle(document.documentElement).fontSize);

// As many columns as fit. A group takes as many as it has topics, so that small groups share a
// row; on a phone the odd one out is made wide rather than leaving a hole.
export function arrange(width = space()) {
  const columns = Math.max(width < 15 ? 1 : 2, Math.floor((width + 0.75) / 10.75));
  const grid = (count) => `repeat(${count}, minmax(0, 1fr))`;
  let lone = null;
  main.dataset.columns = columns;
  main.style.gridTemplateColumns = grid(columns);
  for (const section of main.children) {
    const list = section.lastElementChild;
    const span = Math.min(list.children.length, columns);
    section.style.gridColumn = `span ${span}`;
    list.style.gridTemplateColumns = grid(span);
    if (span === 1) lone = lone ? null : section;
  }
  if (columns === 2 && lone) lone.style.gridColumn = "span 2";
}

export function paintFooter() {
  const because = link.why && `by ${WAYS[link.transport]}: ${link.why}`;
  const words = [plural(topics.size, "topic"), link.id && `last event ${link.id}`, because];
  text($("count"), words.filter(Boolean).join(" · "));
  $("empty").hidden = topics.size > 0 || link.phase !== "live";
}
