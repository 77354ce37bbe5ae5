// The first page: follows every topic of the board, and is honest about what it does not know.
//
// It listens by the library (src/dashboard/encke), which stands before it in the page, and takes
// over what early.js began. It never puts a value into the page as anything but text, never trusts
// this device's clock against the board's, keeps a fixed number of bytes for each topic, and never
// keeps a token: that is the cookie's, which no script can read.
"use strict";
(() => {
  const SECONDS = 120; // a chart's memory: one value for each second
  const ANSWER_MS = 10e3; // weak Wi-Fi with power saving takes seconds
  const QUIET_MS = 400; // catch-up is over when nothing follows for this long
  const PAINT_MS = 100; // faster than this nobody reads
  const OLD_MS = 15e3; // and five times its usual pace: a value is old
  const LEAVE_MS = 6e3; // how long a topic that is gone stays to be seen
  const NOTICE_MS = 20e3;
  const CONFIRMED_MS = 3e3;
  const SAY_MS = 5e3; // a screen reader hears of the connection at most this often
  const CLOCK_MS = 60e3; // how long a difference of clocks counts, and the most that one may grow
  const TOPICS_MS = 5e3; // between two looks at /topics
  const SIGN_TRIES = 5; // to hand over the token of a link, where the network does not answer
  const SIGN_MS = 2e3; // between two of them

  const here = location.href.replace(/[?#].*$/, "");
  const $ = (id) => document.getElementById(id);
  const copyOf = (id) => $(id).content.firstElementChild.cloneNode(true);
  const text = (node, words) => {
    if (node.textContent !== words) node.textContent = words;
  };
  const capital = (words) => words.charAt(0).toUpperCase() + words.slice(1);

  // What the board answers, as JSON; or why it does not: {status, reason, retry}.
  async function ask(path, how) {
    const answer = await fetch(path, { cache: "no-store", ...how });
    if (answer.ok) return answer.json();
    // Only the board's own words: a proxy's are a page.
    const isPlain = /^text\/plain/.test(answer.headers.get("Content-Type"));
    throw Object.assign(new Error(), { status: answer.status,
      reason: isPlain ? (await answer.text()).trim() : "",
      retry: Number(answer.headers.get("Retry-After")) * 1000 });
  }

  // ---- Words and numbers -------------------------------------------------------------------

  const TITLES = new Map(Object.entries({ net: "Network", wifi: "Wi-Fi", mem: "Memory",
    hwmon: "Hardware", os: "System", w1: "1-Wire", "": "Other" }));
  const sentence = (word) => {
    const spaced = word.replace(/[_-]+/g, " ").trim() || word;
    return capital(spaced);
  };
  // Chips and the common short words are capitals: BME280, CPU.
  const title = (segment) => TITLES.get(segment) ||
    (/\d{3}|\d[a-z]\d|^([cg]pu|gpio|iio|i2c|usb|ups|adc|gps|led|pwm)$/.test(segment)
      ? segment.toUpperCase() : sentence(segment));

  const plural = (count, word) => `${fixed(count, 0)} ${word}${count === 1 ? "" : "s"}`;
  const SPANS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  function ago(ms) {
    const seconds = Math.max(0, Math.round(ms / 1000));
    const [size, unit] = SPANS.find((span) => seconds >= span[0]) || SPANS[3];
    return `${Math.floor(seconds / size)} ${unit} ago`;
  }

  function duration(seconds) {
    const i = SPANS.findIndex((span) => seconds >= span[0]);
    const [[size, unit], [small, rest]] = SPANS.slice(i, i + 2);
    const more = Math.floor((seconds % size) / small);
    return `${Math.floor(seconds / size)} ${unit}${more ? ` ${more} ${rest}` : ""}`;
  }

  // Units that grow a prefix: bytes by 1024, all else by 1000.
  const GROWING = /^(Ki|Mi|Gi|k|M|G)?(B|B\/s|bit\/s|Hz|W|Wh)$/;
  const FACTORS = { k: 1e3, M: 1e6, G: 1e9, Ki: 1024, Mi: 1048576, Gi: 1073741824 };

  // As Intl would write it, which a slow phone needs a twentieth of a second to make ready.
  function fixed(value, places) {
    const [whole, part] = value.toFixed(places).replace("-", "−").split(".");
    return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (part ? `.${part}` : "");
  }

  const room = (size) => (size < 10 ? 3 : size < 100 ? 2 : size < 1e4 ? 1 : 0);

  // [number, unit] as a person would write them.
  function numeral(topic, value) {
    const size = Math.abs(value);
    const [, prefix, base] = GROWING.exec(topic.unit) || [];
    if (topic.unit === "s" && value >= 120) return [duration(value), ""];
    if (base) {
      const [step, prefixes] = base === "B" ? [1024, ["", "Ki", "Mi", "Gi", "Ti"]]
        : [1000, ["", "k", "M", "G", "T"]];
      const whole = size * (FACTORS[prefix] || 1);
      let power = 0;
      while (whole >= 0.9995 * step ** (power + 1) && power < 4) power += 1;
      const scaled = whole / step ** power;
      const places = scaled < 10 ? 2 : scaled < 100 ? 1 : 0;
      if (power > 0) return [fixed(Math.sign(value) * scaled, places), prefixes[power] + base];
    }
    const short = size >= 1e9 || (size > 0 && size < 1e-3);
    if (short) return [value.toExponential(2).replace("+", ""), topic.unit];
    // A topic keeps the decimals it once had, so that 47.2, 47 and 47.3 do not dance.
    const point = /\.(\d+)$/.exec(String(value));
    topic.decimals = Math.max(topic.decimals, point ? point[1].length : 0);
    return [fixed(value, Math.min(topic.decimals, room(size))), topic.unit];
  }

  function shown(topic) {
    const { value } = topic;
    if (typeof value === "number") return numeral(topic, value);
    if (value === null || value === undefined) return ["—", ""];
    if (typeof value === "boolean") return [value ? "On" : "Off", ""];
    const plain = typeof value === "string" ? value : JSON.stringify(value);
    return [plain.length > 240 ? plain.slice(0, 240) + "…" : plain || "(empty)", topic.unit];
  }

  // Words for a value at or beyond its limits: the kernel's names, the worst first.
  const LIMITS = [["lcrit", -1, "critical", "beyond"], ["crit", 1, "critical", "beyond"],
    ["min", -1, "low", "over"], ["max", 1, "high", "over"]];
  const verdict = ({ limits, value }) => typeof value === "number" && LIMITS.find(([name, side]) =>
    typeof limits[name] === "number" && (value - limits[name]) * side >= 0);

  // ---- Topics ------------------------------------------------------------------------------

  const topics = new Map(); // by name
  const groups = new Map(); // by first segment: {section, list, members}
  const dirty = new Set(); // topics to paint
  const clock = new Map(); // "time" or "uptime": ms to add to get this device's time

  function found(name) {
    if (!topics.has(name)) {
      topics.set(name, { name, unit: "", label: "", limits: {}, value: null, state: "ok", id: "",
        at: 0, stamp: 0, pace: 0, decimals: 0, listed: false, visible: true, leave: 0, tile: null,
        parts: null, turn: null, own: false, second: 0,
        values: new Float64Array(SECONDS).fill(NaN) });
      wantTopics(1000);
    }
    return topics.get(name);
  }

  const kindOf = (event) => ("time" in event ? "time" : "uptime");

  // Local time of an event. It is now, unless the board's own time says that it is from the past,
  // as in a replay: so the chart has no gap. A board whose clock was set meanwhile is asked anew.
  function timeOf(event, now) {
    if (!clock.has(kindOf(event))) return now;
    const guess = Math.min(now, event[kindOf(event)] + clock.get(kindOf(event)));
    if (link.phase !== "live" || now - guess < 60e3) return guess;
    wantTopics(0);
    return now;
  }

  function take(event) {
    const topic = found(event.topic);
    const now = Date.now();
    const step = event[kindOf(event)] - topic.stamp;
    if (topic.stamp && step > 0 && step < 864e5) {
      topic.pace = topic.pace ? topic.pace * 0.8 + step * 0.2 : step;
    }
    topic.stamp = event[kindOf(event)];
    topic.id = event.id;
    topic.value = event.value;
    topic.state = event.state || "ok";
    topic.at = timeOf(event, now);
    topic.leave = topic.state === "gone" ? topic.leave || now + LEAVE_MS : 0;
    if (topic.state === "ok" && /^(number|boolean)$/.test(typeof topic.value)) remember(topic);
    turned(topic);
    touch(topic);
  }

  // A ring of one value for each second; a second without one is NaN.
  function remember(topic) {
    const second = Math.floor(topic.at / 1000);
    if (second <= topic.second - SECONDS) return;
    const from = Math.max(topic.second + 1, second - SECONDS + 1);
    for (let s = from; s < second; s += 1) topic.values[s % SECONDS] = NaN;
    topic.values[second % SECONDS] = Number(topic.value);
    topic.second = Math.max(topic.second, second);
  }

  // /topics knows units, labels, limits, ages, and which topics are gone. Not asked before the
  // stream runs: the first picture needs only the document and the stream.
  const lists = { timer: 0, last: 0, busy: false };

  function wantTopics(wait) {
    if (lists.timer || lists.busy) return;
    lists.timer = setTimeout(readTopics, Math.max(wait, lists.last + TOPICS_MS - Date.now()));
  }

  function readTopics() {
    lists.timer = 0;
    // The next hello asks again, or the first picture.
    if (!link.open || (!painted && link.phase === "catching")) return;
    lists.busy = true;
    lists.last = Date.now();
    const { opened } = link;
    const asked = performance.now();
    ask("topics")
      .catch(({ status, reason }) => status === 401 && link.open && denied(reason))
      .then((list) => {
        lists.busy = false;
        if (list) delay.trip = Math.min(delay.trip, performance.now() - asked);
        // What was asked before may have been asked with other rights.
        const isOurs = list && link.open && link.opened === opened;
        if (isOurs && logOf(list.id) === logOf(link.id)) listed(list);
        else wantTopics(0);
      });
  }

  const logOf = (id) => id.split("-")[0];
  const sequence = (id) => Number(id.split("-")[1]);

  function listed(list) {
    const now = Date.now();
    const present = new Set();
    clock.clear();
    for (const { event, unit, label, limits, age, writable, measured } of list.topics) {
      const topic = found(event.topic);
      const kind = kindOf(event);
      const shift = now - age * 1000 - event[kind];
      // Ages are cut and answers late, never early: the smallest is the nearest.
      clock.set(kind, Math.min(shift, clock.has(kind) ? clock.get(kind) : Infinity));
      present.add(topic);
      if (topic.id === "") take(event);
      if (topic.id === event.id) topic.at = now - age * 1000;
      Object.assign(topic, { unit: unit || "", label: label || "", limits: limits || {},
        own: writable || !measured });
      topic.listed = true;
      touch(topic);
    }
    for (const topic of topics.values()) {
      const isNewer = logOf(topic.id) === logOf(list.id) && sequence(topic.id) > sequence(list.id);
      if (isNewer && !topic.listed) wantTopics(1000);
      if (isNewer || present.has(topic) || topic.leave) continue;
      topic.state = "gone"; // deleted, or forgotten in a restart, while we were away
      topic.leave = now + LEAVE_MS;
      touch(topic);
    }
    link.head = sequence(list.id);
    if (sequence(link.id) >= link.head) caughtUp();
  }

  // ---- Painting ----------------------------------------------------------------------------

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
  let [painting, painted] = [0, 0]; // the timer that will, the time it did

  function touch(topic) {
    dirty.add(topic);
    if (painting) return;
    painting = setTimeout(() => requestAnimationFrame(paint), painted + PAINT_MS - Date.now());
  }

  function paint() {
    const fresh = [...dirty].filter((topic) => !topic.tile);
    const isFirst = !painted;
    const width = fresh.length > 0 ? space() : 0;
    painting = 0;
    painted = Date.now();
    fresh.forEach(place);
    dirty.forEach(paintTopic);
    dirty.clear();
    if (fresh.length > 0) arrange(width);
    paintFooter();
    if (!isFirst) return;
    setTimeout(() => performance.mark("first value")); // seen by then: a task of its own
    wantTopics(50);
  }

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

  function remove(topic) {
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
  function forget() {
    watcher.disconnect();
    for (const known of [topics, groups, dirty, clock]) known.clear();
    main.textContent = "";
    Object.assign(link, { id: "", heard: 0 });
    paintFooter();
  }

  // What a topic is called: its label, behind whatever of its name tells it from its siblings.
  function called({ name, label }) {
    const segments = name.split("/");
    const own = label && label !== name ? label : sentence(segments[segments.length - 1]);
    const between = segments.slice(1, -1).join(" ").replace(/_/g, " ");
    const isSaid = own.toLowerCase().includes(between.toLowerCase());
    return isSaid ? own : `${between} · ${own}`;
  }

  function paintTopic(topic) {
    const [number, unit] = shown(topic);
    const isText = /^(string|object)$/.test(typeof topic.value) && topic.value !== null;
    const figures = number.replace(/[ .,]/g, "").length;
    const fit = figures < 7 && figures + unit.length < 10 ? "" : isText ? " text" : " long";
    text(topic.parts.label, called(topic));
    text(topic.parts.number, number);
    text(topic.parts.unit, unit && ` ${unit}`);
    topic.parts.value.className = `value${fit}`;
    topic.parts.chart.hidden = isText;
    paintTurn(topic);
    paintAge(topic);
  }

  // The part that ages without an event: the note, and the chart that moves on.
  function paintAge(topic) {
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

  // ---- Switches ----------------------------------------------------------------------------

  // Values of sensors are theirs alone; of the rest, whatever this browser's rights allow.
  const mayTurn = ({ own, name, value, state }) => own && typeof value === "boolean"
    && state !== "gone" && me.write.some((pattern) => window.Encke.matches(pattern, name));

  function paintTurn(topic) {
    const { parts: { turn: place, button }, turn: now, value } = topic;
    place.hidden = !mayTurn(topic);
    button.setAttribute("aria-label", called(topic));
    button.setAttribute("aria-checked", String(now && now.word === "pending" ? now.wanted : value));
  }

  // pending: until the event is here. Then confirmed, or failed, is said for a while.
  function turn(topic) {
    if (topic.turn && topic.turn.word === "pending") return;
    const mine = { word: "pending", wanted: !topic.value, id: "", until: Infinity };
    topic.turn = mine;
    touch(topic);
    board.publish(topic.name, mine.wanted).then(({ id }) => {
      mine.id = id;
      turned(topic);
    }, ({ status, message }) => {
      if (topic.turn !== mine) return;
      // Without an answer it may be switched all the same: what the board tells counts.
      const isSo = !status && topic.value === mine.wanted;
      const how = status ? "was not" : "may not be";
      if (!isSo) notice(`${called(topic)} ${how} switched: ${message}`);
      Object.assign(mine, { word: isSo ? "confirmed" : "failed",
        until: Date.now() + (isSo ? CONFIRMED_MS : NOTICE_MS) });
      touch(topic);
    });
  }

  // Whether the event that was asked for is here, or one after it.
  function turned(topic) {
    const { turn: now, id } = topic;
    // Of another log: the board started again, and tells what is so now.
    if (!now || !now.id || now.word !== "pending") return;
    if (logOf(now.id) === logOf(id) && sequence(id) < sequence(now.id)) return;
    Object.assign(now, topic.value === now.wanted
      ? { word: "confirmed", until: Date.now() + CONFIRMED_MS } : { word: "", until: 0 });
    touch(topic);
  }

  let begun = 0; // when the first value came: a young chart shows less, but fills its width

  function paintChart(topic) {
    const end = Math.max(topic.second, Math.floor((link.open ? Date.now() : link.heard) / 1000));
    const span = Math.min(SECONDS, Math.max(30, end - begun));
    const start = end - span + 1;
    const points = [];
    for (let s = Math.max(0, topic.second - SECONDS + 1); s <= topic.second; s += 1) {
      const value = topic.values[s % SECONDS];
      if (Number.isNaN(value)) continue;
      if (s <= start) points.length = 0; // only the last one before the chart leads into it
      points.push([Math.max(s, start), value]);
    }
    if (points.length === 0) return;
    const values = points.map((point) => point[1]);
    const high = Math.max(...values);
    const least = Math.min(...values);
    const low = least >= 0 && least < 0.4 * high ? 0 : least;
    // Noise must not look like news: at least a fiftieth of the value fills the height.
    const height = Math.max(high - low, Math.abs(high) * 0.02, topic.unit === "%" ? 5 : 1e-9);
    const middle = low === 0 ? height / 2 : (low + high) / 2;
    const y = (value) => (16 - (24 * (value - middle)) / height).toFixed(1);
    const x = (second) => (115 - ((end - second) * 115) / (span - 1)).toFixed(1); // 5: the dot
    const isSwitch = typeof topic.value === "boolean";
    const left = x(points[0][0]);
    let trace = `M${left} ${y(points[0][1])}`;
    points.slice(1).forEach(([second, value], i) => {
      // A pause was no slope: the old value held until the new one came.
      if (isSwitch || second - points[i][0] > 3) trace += `H${x(second)}`;
      trace += `L${x(second)} ${y(value)}`;
    });
    const [last, value] = points.pop();
    const tip = x(topic.state === "ok" ? end : last);
    trace += `H${tip}`;
    const edge = topic.state === "ok" ? "H120" : "";
    [`${trace}${edge}V36H${left}Z`, trace, `M${tip} ${y(value)}h0`].forEach((d, i) =>
      topic.parts.paths[i].setAttribute("d", d));
  }

  // The width there is for them in rem. Asked before tiles are put in: after that a browser has to
  // lay them out to answer, which takes a slow phone a tenth of a second.
  const space = () =>
    main.clientWidth / parseFloat(getComputedStyle(document.documentElement).fontSize);

  // As many columns as fit. A group takes as many as it has topics, so that small groups share a
  // row; on a phone the odd one out is made wide rather than leaving a hole.
  function arrange(width = space()) {
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

  function paintFooter() {
    const because = link.why && `by ${WAYS[link.transport]}: ${link.why}`;
    const words = [plural(topics.size, "topic"), link.id && `last event ${link.id}`, because];
    text($("count"), words.filter(Boolean).join(" · "));
    $("empty").hidden = topics.size > 0 || link.phase !== "live";
  }

  // ---- The connection ----------------------------------------------------------------------

  // What the library says, in the page's own words. phase: connecting, catching, live, lost, closed
  // (until somebody signs in), hidden. head: where the catch-up ends, once that is known. isPaced:
  // all places are taken, and values come now and then. denied: a cookie was, and is gone now.
  const link = { phase: "", open: false, id: "", head: Infinity, heard: 0, opened: 0, retryAt: 0,
    reason: "", quiet: 0, transport: "", why: "", isPaced: false, wasOpen: false, denied: false };
  let board = null;

  function connect() {
    if (board) board.close();
    // Only this name has the cookie of who is signed in.
    const home = me.name ? { push: here } : {};
    const { board: mine, said } = window.early || { board: new window.Encke(here, home), said: [] };
    window.early = null;
    board = mine;
    Object.assign(link, { phase: "connecting", open: false, opened: Date.now(), wasOpen: false });
    const hear = (type, act) => mine.addEventListener(type, ({ detail }) => {
      if (board === mine) act(detail);
    });
    hear("state", changed);
    hear("hello", hello);
    hear("event", event);
    hear("heartbeat", heartbeat);
    hear("reset", () => {
      clock.clear();
      notice("The board restarted");
    });
    hear("lost", lost);
    hear("error", ({ reason }) => denied(reason));
    status();
    said.forEach((what) => mine.dispatchEvent(what));
  }

  function disconnect() {
    clearTimeout(link.quiet);
    if (board) board.close();
    board = null;
    Object.assign(link, { phase: "closed", open: false, retryAt: 0 });
  }

  const REASONS = [[/silent/, "Connection went silent"], [/cut off/, "Disconnected"],
    [/refused/, "Disconnected"], [/trying/, ""]];

  function changed({ state, transport, why, retryAt }) {
    const isOpen = state === "live" || state === "busy";
    Object.assign(link, { retryAt, transport, isPaced: state === "busy", why: isOpen ? why : "" });
    if (isOpen) return;
    clearTimeout(link.quiet);
    if (link.open || !retryAt) link.opened = Date.now();
    const [, words] = REASONS.find(([sign]) => sign.test(why)) || [0, capital(why.split(/[:;]/)[0])];
    // What stands behind a colon is for whoever configures the board.
    if (!link.isPaced && why) link.reason = words;
    link.open = false;
    link.phase = { asleep: "hidden", waiting: "lost" }[state] || "connecting";
    status();
  }

  // A frame's id is how far we have seen.
  function frame(id) {
    link.heard = Date.now();
    if (id) link.id = id;
  }

  function hello(data) {
    frame(data.id);
    Object.assign(link, { open: true, wasOpen: true, phase: "catching", head: Infinity,
      denied: false });
    admitted();
    clearTimeout(lists.timer);
    Object.assign(lists, { timer: 0, last: 0 });
    wantTopics(50);
    settle();
  }

  function lost({ count, exact }) {
    if (link.isPaced) return;
    const how = link.open ? "on a slow connection" : "while away";
    notice(`Missed ${exact ? "" : "up to "}${plural(count, "event")} ${how}`);
  }

  function event(data) {
    frame(data.id);
    if (link.phase === "live") measure(data);
    begun = begun || Math.floor(link.heard / 1000);
    take(data);
    if (link.phase === "catching") settle();
  }

  function heartbeat(data) {
    frame(data.id);
    caughtUp();
  }

  // How long an event takes. The two clocks differ by what the quickest of the last minutes took,
  // less half of the quickest round trip. More than a minute is a clock that was set.
  const delay = { ms: NaN, least: Infinity, before: Infinity, since: 0, trip: Infinity };

  function measure(data) {
    const now = Date.now();
    const took = now - data[kindOf(data)];
    if (now - delay.since > CLOCK_MS || took - delay.least > CLOCK_MS) {
      const isSet = took - delay.least > CLOCK_MS;
      Object.assign(delay, { before: isSet ? took : delay.least, least: took, since: now });
    }
    delay.least = Math.min(delay.least, took);
    const ms = took - Math.min(delay.least, delay.before) + (delay.trip < CLOCK_MS ? delay.trip / 2 : 0);
    delay.ms = delay.ms >= 0 ? delay.ms * 0.7 + ms * 0.3 : ms;
  }

  const WAYS = { sse: "SSE", ws: "WebSocket", stream: "stream", poll: "polling", iframe: "frame",
    jsonp: "script" };

  function paintWay() {
    const ms = Math.max(1, Math.round(delay.ms));
    const took = ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
    const isKnown = link.open && delay.ms >= 0;
    const way = link.open && WAYS[link.transport];
    text($("way"), [way, isKnown && took].filter(Boolean).join(" · "));
  }

  // Catch-up has no end mark: it is over at the head that /topics named, or when it is quiet.
  function settle() {
    clearTimeout(link.quiet);
    if (sequence(link.id) >= link.head) return caughtUp();
    link.quiet = setTimeout(caughtUp, QUIET_MS);
    return status();
  }

  function caughtUp() {
    clearTimeout(link.quiet);
    if (link.phase !== "catching") return;
    Object.assign(link, { phase: "live", reason: "" });
    paintFooter();
    status();
    if (!painted) wantTopics(0);
    meet();
    welcome();
  }

  // ---- Who is asking -----------------------------------------------------------------------

  // known: the board was asked. asked: somebody wants to sign in. over: whose time is over, said
  // until somebody is let in. waitUntil: too many tokens were wrong, and the next has to wait.
  const me = { name: "", write: [], known: false, asked: false, over: "", waitUntil: 0 };

  // Who signs in or out does so for all tabs, of which one has the connection.
  const others = window.BroadcastChannel && new BroadcastChannel("encke session");
  if (others) others.onmessage = () => again({});

  function again(session) {
    forget();
    met(session);
    me.known = session.name !== undefined;
    connect();
  }

  // Asked once, and after the first picture: most boards want no token, and need no more than this.
  function meet() {
    if (me.known) return;
    me.known = true;
    ask("session").then((session) => {
      met(session);
      if (session.name && /encke_push=/.test(document.cookie)) connect();
    }, ({ status }) => { me.known = status === 401; });
  }

  function met(session) {
    me.known = true;
    $("who").hidden = false;
    call(session);
  }

  function call({ name, until, write }) {
    Object.assign(me, { name: name || "", write: write || [] });
    topics.forEach(touch);
    const end = until && new Date(until * 1000).toLocaleString("en", { dateStyle: "medium",
      timeStyle: "short" });
    text($("me"), name ? `Signed in as ${name}${end ? ` until ${end}` : ""}` : "");
    text($("session"), name ? "Sign out" : "Sign in");
    const by = name ? `-u ${name}:SECRET ` : ""; // in HTTP's own way: any name, and the secret
    text($("curl"), `curl -N ${by}${here}events/stream`);
    for (const place of ["publish", "own"]) text($(place), `curl -d true ${by}${here}topics/demo/lamp`);
  }

  // 401. If it was for a token, the answer took the cookie back: perhaps none is needed.
  function denied(reason) {
    const isOver = reason.startsWith("this token");
    if (me.name) me.over = `The token ${me.name} has ended.`;
    else if (isOver) me.over = me.over || plainly(reason);
    forget();
    met({});
    if (isOver && !link.denied) {
      link.denied = true;
      notice(me.over);
      return connect();
    }
    disconnect();
    status();
    $("notice").hidden = true;
    // What was said to a token that was just tried stays.
    return offer((me.asked && $("why").textContent) || (me.over && `${me.over} Sign in again.`)
      || "This board shows its values to those who have a token.");
  }

  function admitted() {
    me.over = "";
    if (!me.asked) $("sign").hidden = true;
  }

  const plainly = (reason) => `${capital(reason).replace(/`([^`]*)`/g, "“$1”")}.`;

  function offer(words) {
    text($("why"), words);
    $("sign").hidden = false;
    say(words);
  }

  // The token goes to the board, and is nowhere in the page when the board has it. A whole link may
  // be pasted, too.
  function signIn(given, tries) {
    const token = given.trim().replace(/^.*#token=/, "");
    const abort = new AbortController();
    const patience = setTimeout(() => abort.abort(), ANSWER_MS);
    $("enter").disabled = true;
    text($("why"), "Signing in…");
    ask("session", { method: "POST", body: token, signal: abort.signal }).then((session) => {
      $("token").value = "";
      me.asked = false;
      again(session);
      if (others) others.postMessage("");
    }, (error) => {
      me.asked = true;
      if (!link.phase) connect();
      if (!error.status && tries > 1) {
        offer("No answer yet. Trying again.");
        setTimeout(signIn, SIGN_MS, token, tries - 1);
        return;
      }
      if (error.status) $("token").value = "";
      turnedDown(error);
    }).finally(() => {
      clearTimeout(patience);
      $("enter").disabled = me.waitUntil > 0;
    });
  }

  function turnedDown({ status, reason, retry }) {
    if (status === 429) me.waitUntil = Date.now() + retry;
    if (status === 400) offer("This is no token. One looks like NAME.SECRET, and has no spaces.");
    else offer(reason ? plainly(reason) : "The board does not answer. Try again.");
    countDown();
  }

  function countDown() {
    if (!me.waitUntil) return;
    const wait = Math.ceil((me.waitUntil - Date.now()) / 1000);
    text($("why"), wait <= 0 ? "Now you can try again."
      : `Too many wrong tokens came from this address. Try again in ${wait} s.`);
    if (wait <= 0) me.waitUntil = 0;
    $("enter").disabled = wait > 0;
  }

  function signOut() {
    fetch("session", { method: "DELETE" }).then(({ ok }) => {
      if (!ok) return notice("The board did not sign you out");
      again({ name: "" });
      if (others) others.postMessage("");
      return notice("Signed out");
    }, () => notice("No answer: you are still signed in"));
  }

  // The secret of a link: taken out of the address bar before anything else.
  function fromLink() {
    const [isOne, token] = /^#token=(.*)/.exec(location.hash) || [];
    if (isOne) history.replaceState(null, "", location.pathname + location.search);
    if (token) signIn(token, SIGN_TRIES);
    return token;
  }

  // ---- Watching over it --------------------------------------------------------------------

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

  // ---- Telling about it --------------------------------------------------------------------

  function words() {
    if (link.phase === "closed") return "Sign in to see the values";
    if (link.phase === "catching") return "Catching up";
    if (link.phase === "live") {
      if (link.isPaced) return "All places for viewers are taken: shown every 5 seconds";
      return link.transport === "poll" ? "Live, without a stream" : "Live";
    }
    const wait = Math.ceil((link.retryAt - Date.now()) / 1000);
    const again = wait > 0 ? `trying again in ${wait} s` : "trying again";
    const since = link.heard ? ` — showing values from ${ago(Date.now() - link.heard)}` : "";
    return (link.reason ? `${link.reason}, ${again}` : "Connecting…") + since;
  }

  let [spoken, spokenAt] = ["", 0];

  function say(words) {
    spokenAt = Date.now();
    text($("say"), words);
  }

  function status() {
    // Nearly every catch-up is over at once; a word that only flashes would alarm.
    const isBrief = link.phase === "catching" || (link.phase === "connecting" && !link.reason);
    if (isBrief && Date.now() - link.opened < 300) return;
    const isPaced = link.phase === "live" && link.isPaced;
    const isLost = link.phase === "connecting" && link.reason;
    document.body.dataset.state = (isPaced && "paced") || (isLost && "lost") || link.phase;
    text($("words"), words());
    paintWay();
    // Countdowns are for the eye; the ear gets each change once, and not in a burst.
    const plain = link.reason || (isPaced && words()) || (link.open ? "Live" : "");
    if (!plain || plain === spoken || Date.now() - spokenAt < SAY_MS) return;
    spoken = plain;
    say(plain);
  }

  function notice(words) {
    text($("notice"), words);
    $("notice").hidden = false;
    $("notice").dataset.until = Date.now() + NOTICE_MS;
    say(words);
  }

  // ---- Help --------------------------------------------------------------------------------

  // Open for whoever is here for the first time, once the values are there; then as it was left.
  const kept = (act) => {
    try {
      return act(localStorage);
    } catch (_) {
      return "no"; // it may not be used
    }
  };
  const isOnlyHere = /^(localhost|127\..*|\[::1\])$/.test(location.hostname);
  let isWelcome = false;

  function welcome() {
    if (isWelcome) return;
    isWelcome = true;
    $("help").open = $("help").open || kept((store) => store.getItem("encke help")) === null;
  }

  $("help").addEventListener("toggle", () => {
    const { open } = $("help");
    if (!open) kept((store) => store.setItem("encke help", "seen"));
    // No second phone gets to an address that is only this computer's.
    if (!open || isOnlyHere || $("qr").src) return;
    fetch(`qr.svg?text=${encodeURIComponent(here)}`).then((answer) => answer.ok && answer.text())
      .then((svg) => {
        if (!svg) return;
        $("qr").src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
        $("code").hidden = false;
      }, () => {});
  });

  // ---- The rest of the page ----------------------------------------------------------------

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

  document.addEventListener("visibilitychange", tick);
  addEventListener("resize", () => arrange());
  addEventListener("hashchange", fromLink);
  setInterval(tick, 1000);
  call({});
  if (!fromLink()) connect();
})();
