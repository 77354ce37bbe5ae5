// The first page: follows every topic of the board, and is honest about what it does not know.
//
// It speaks the contract of the stream (hello, catch-up, events, heartbeat, busy) over EventSource,
// or over long-poll where that is missing, or held back by a proxy. It never leaves reconnecting to
// the browser, never puts a value into the page as anything but text, never trusts this device's
// clock against the board's, and keeps a fixed number of bytes for each topic.
"use strict";
(() => {
  const SECONDS = 120; // a chart's memory: one value for each second
  const SILENCE_MS = 37500; // two and a half heartbeats without a frame: the link is dead
  const WAKE_SILENCE_MS = 20e3; // after sleep we know better than to wait for the rest of that
  const FIRST_ANSWER_MS = 4e3; // the browser may reuse a socket that died unseen: twice
  const ANSWER_MS = 10e3; // weak Wi-Fi with power saving takes seconds; more is no answer
  const [RETRY_MIN_MS, RETRY_MAX_MS] = [500, 15e3];
  const POLL_MS = 300e3; // behind a proxy that holds streams back: polls, and then another look
  const HIDDEN_MS = 60e3; // a hidden page gives its place on the board back after this long
  const QUIET_MS = 400; // catch-up is over when nothing follows for this long
  const PAINT_MS = 100; // faster than this nobody reads
  const OLD_MS = 15e3; // and five times its usual pace: a value is old
  const LEAVE_MS = 6e3; // how long a topic that is gone stays to be seen
  const NOTICE_MS = 20e3;
  const SAY_MS = 5e3; // a screen reader hears of the connection at most this often
  const TOPICS_MS = 5e3; // between two looks at /topics

  const $ = (id) => document.getElementById(id);
  const copyOf = (id) => $(id).content.firstElementChild.cloneNode(true);
  const text = (node, words) => {
    if (node.textContent !== words) node.textContent = words;
  };

  // ---- Words and numbers -------------------------------------------------------------------

  const TITLES = new Map(Object.entries({ net: "Network", mem: "Memory", hwmon: "Hardware",
    os: "System", w1: "1-Wire", "": "Other" }));
  const sentence = (word) => {
    const spaced = word.replace(/[_-]+/g, " ").trim() || word;
    return spaced[0].toUpperCase() + spaced.slice(1);
  };
  // Chips and the common short words are capitals: BME280, CPU.
  const title = (segment) => TITLES.get(segment) ||
    (/\d{3}|\d[a-z]\d|^([cg]pu|gpio|iio|i2c|usb|ups|adc|gps|led|pwm)$/.test(segment)
      ? segment.toUpperCase() : sentence(segment));

  const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
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
  const formats = new Map();

  function fixed(value, places) {
    const rule = { minimumFractionDigits: places, maximumFractionDigits: places };
    if (!formats.has(places)) formats.set(places, new Intl.NumberFormat("en", rule));
    return formats.get(places).format(value).replace("-", "−");
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
        parts: null, values: new Float64Array(SECONDS).fill(NaN), second: 0 });
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
    if (!link.open) return; // the next hello asks again
    lists.busy = true;
    lists.last = Date.now();
    fetch("topics", { cache: "no-store" })
      .then((answer) => (answer.ok ? answer.json() : null))
      .catch(() => null)
      .then((list) => {
        lists.busy = false;
        if (list && logOf(list.id) === logOf(link.id)) listed(list);
        else wantTopics(0);
      });
  }

  const logOf = (id) => id.split("-")[0];
  const sequence = (id) => Number(id.split("-")[1]);

  function listed(list) {
    const now = Date.now();
    const present = new Set();
    clock.clear();
    for (const { event, unit, label, limits, age } of list.topics) {
      const topic = found(event.topic);
      const kind = kindOf(event);
      const shift = now - age * 1000 - event[kind];
      // Ages are cut and answers late, never early: the smallest is the nearest.
      clock.set(kind, Math.min(shift, clock.has(kind) ? clock.get(kind) : Infinity));
      present.add(topic);
      if (topic.id === "") take(event);
      if (topic.id === event.id) topic.at = now - age * 1000;
      Object.assign(topic, { unit: unit || "", label: label || "", limits: limits || {} });
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
    painting = 0;
    painted = Date.now();
    fresh.forEach(place);
    dirty.forEach(paintTopic);
    dirty.clear();
    if (fresh.length > 0) arrange();
    paintFooter();
  }

  // Groups stand in an order that is useful on any board, then by name; the nameless one last.
  const ORDER = ["board", "system", "os", "cpu", "gpu", "thermal", "memory", "mem", "net", "disk"];
  const rank = (name) => (ORDER.includes(name) ? String(ORDER.indexOf(name)) : name || "\uffff");
  const depth = ({ name }) => `${name.split("/").length}/${name}`; // cpu/usage, then cpu/0/usage
  const isBefore = (a, b) => a.localeCompare(b, "en", { numeric: true }) < 0;

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
    topic.parts = { paths: tile.querySelectorAll("path") };
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
    paintAge(topic);
  }

  // The part that ages without an event: the note, and the chart that moves on.
  function paintAge(topic) {
    const age = Date.now() - topic.at;
    const [, , limit, grade] = verdict(topic) || [];
    const isCut = age > OLD_MS && (!link.open || (topic.pace && age > 5 * topic.pace));
    const kinds = ["tile", topic.state, grade, isCut && "cut",
      topic.leave && topic.leave - Date.now() < 1000 && "leaving"];
    topic.tile.className = kinds.filter(Boolean).join(" ");
    text(topic.parts.word, topic.state === "ok" ? limit || "" : topic.state);
    text(topic.parts.age, age >= 10e3 || topic.state === "stale" ? ago(age) : "");
    if (topic.visible && !topic.parts.chart.hidden) paintChart(topic);
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
    [`${trace}V36H${left}Z`, trace, `M${tip} ${y(value)}h0`].forEach((d, i) =>
      topic.parts.paths[i].setAttribute("d", d));
  }

  // As many columns as fit. A group takes as many as it has topics, so that small groups share a
  // row; on a phone the odd one out is made wide rather than leaving a hole.
  function arrange() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const width = main.clientWidth / rem;
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
    text($("count"), plural(topics.size, "topic") + (link.id ? ` · last event ${link.id}` : ""));
    $("empty").hidden = topics.size > 0 || link.phase !== "live";
  }

  // ---- The connection ----------------------------------------------------------------------

  // phase: connecting, catching, live, lost, busy, hidden. doubt: a stream fell silent. reached: but
  // the board answers what is asked beside the next. held: so something on the way holds streams
  // back, and we poll.
  const link = { phase: "", open: false, id: "", head: Infinity, heard: 0, opened: 0, attempt: 0,
    retryAt: 0, reason: "", stop: null, quiet: 0, doubt: false, reached: false,
    held: !window.EventSource };

  function connect() {
    disconnect("connecting");
    link.opened = Date.now();
    link.reached = false;
    link.stop = (link.held ? overPoll : overEventSource)(link.id ? `since=${link.id}` : "");
    if (link.doubt && !link.held) reach(link.opened);
    status();
  }

  // Beside a stream that may be held back: is anybody there at all?
  function reach(opened) {
    fetch("health", { cache: "no-store" }).then(({ ok }) => {
      if (ok && link.opened === opened) link.reached = true;
    }, () => {});
  }

  function silent(reason) {
    link.held = !window.EventSource || (link.reached && !link.held);
    link.doubt = true;
    lose(reason);
  }

  function trustStreams() {
    Object.assign(link, { doubt: false, reached: false, held: !window.EventSource });
  }

  function disconnect(phase) {
    clearTimeout(link.quiet);
    if (link.stop) link.stop();
    Object.assign(link, { phase, stop: null, open: false, retryAt: 0 });
  }

  // Waits with growing, uneven pauses, so that many pages do not come back in one moment.
  function lose(reason, retry) {
    disconnect(retry ? "busy" : "lost");
    const pause = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** link.attempt);
    link.attempt += 1;
    link.reason = reason;
    link.retryAt = Date.now() + (retry || pause * (0.5 + Math.random() / 2));
    status();
  }

  // A frame proves the link, and its id is how far we have seen.
  function frame(id) {
    link.heard = Date.now();
    if (id) link.id = id;
    if (!link.held && link.heard - link.opened > SILENCE_MS) trustStreams();
  }

  function hello(data) {
    const how = link.open ? "on a slow connection" : "while away";
    frame(data.id);
    Object.assign(link, { open: true, phase: "catching", head: Infinity });
    if (data.reset) {
      clock.clear();
      notice("The board restarted");
    } else if (data.lost > 0) {
      notice(`Missed ${data.exact === false ? "up to " : ""}${plural(data.lost, "event")} ${how}`);
    }
    clearTimeout(lists.timer);
    Object.assign(lists, { timer: 0, last: 0 });
    wantTopics(50);
    settle();
  }

  function event(data, id) {
    frame(id);
    begun = begun || Math.floor(link.heard / 1000);
    take(data);
    if (link.phase === "catching") settle();
  }

  function heartbeat(data) {
    frame(data.id);
    caughtUp();
  }

  function busy({ reason, retry }) {
    lose(reason === "draining" ? "The board is going down" : "The board is full", retry);
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
    Object.assign(link, { phase: "live", attempt: 0, reason: "" });
    paintFooter();
    status();
  }

  function overEventSource(since) {
    const source = new EventSource(`events/sse${since && `?${since}`}`);
    const acts = { hello, message: event, heartbeat, busy };
    let isOurs = true;
    for (const name of Object.keys(acts)) {
      source.addEventListener(name, (message) => {
        if (isOurs) acts[name](JSON.parse(message.data), message.lastEventId);
      });
    }
    // Never the browser's own retry: it gives up for good after some answers, and cannot be seen.
    source.onerror = () => isOurs && lose("Disconnected");
    return () => {
      isOurs = false;
      source.close();
    };
  }

  function overPoll(since) {
    const abort = new AbortController();
    const how = { cache: "no-store", signal: abort.signal };
    const poll = (query) => fetch(`events/poll?${query}`, how)
      .then((answer) => (answer.ok ? answer.json() : Promise.reject(answer)))
      .then((answer) => {
        if (answer.hello || !link.open) hello(answer.hello || {});
        answer.events.forEach((one) => event(one, one.id));
        heartbeat({ id: answer.last });
        return poll(`since=${link.id}`);
      })
      .catch((answer) => {
        if (abort.signal.aborted) return;
        const seconds = answer.headers && Number(answer.headers.get("Retry-After"));
        if (seconds) busy({ retry: seconds * 1000 });
        else lose("Disconnected");
      });
    poll(`timeout=0&${since}`); // the first answer tells that the board is there
    return () => abort.abort();
  }

  // ---- Watching over it --------------------------------------------------------------------

  let hiddenAt = Date.now();

  function tick() {
    const now = Date.now();
    const patience = link.attempt < 2 ? FIRST_ANSWER_MS : ANSWER_MS;
    if (document.hidden && now - hiddenAt > HIDDEN_MS) disconnect("hidden");
    else if (link.retryAt && now >= link.retryAt) connect();
    else if (link.open && now - link.heard > SILENCE_MS) silent("Connection went silent");
    else if (link.stop && !link.open && now - link.opened > patience) silent("No answer");
    else if (link.doubt && link.held && now - link.opened > POLL_MS) tryStream();
    if (document.hidden) return;
    status();
    if ($("notice").dataset.until < now) $("notice").hidden = true;
    for (const topic of topics.values()) {
      if (topic.tile && topic.leave && now >= topic.leave) remove(topic);
      else if (topic.tile) paintAge(topic);
    }
  }

  function tryStream() {
    link.held = !window.EventSource;
    connect();
  }

  // A phone that slept may hold a socket that is dead and does not know it.
  function wake() {
    hiddenAt = Date.now();
    if (document.hidden || link.phase === "busy") return;
    if (link.stop && Date.now() - Math.max(link.heard, link.opened) < WAKE_SILENCE_MS) return;
    link.attempt = 0;
    trustStreams();
    connect();
    tick();
  }

  // ---- Telling about it --------------------------------------------------------------------

  function words() {
    if (link.phase === "live") return link.held && link.doubt ? "Live, without a stream" : "Live";
    if (link.phase === "catching") return "Catching up";
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
    if (link.phase === "catching" && Date.now() - link.opened < 300) return;
    document.body.dataset.state = link.phase === "connecting" && link.reason ? "lost" : link.phase;
    text($("words"), words());
    // Countdowns are for the eye; the ear gets each change once, and not in a burst.
    const plain = link.reason || (link.open ? "Live" : "");
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

  // ---- The rest of the page ----------------------------------------------------------------

  const here = location.href.replace(/[?#].*$/, "");
  document.title = location.hostname;
  text($("name"), location.hostname.replace(/\.local$/, ""));
  text($("curl"), `curl -N ${here}events/stream`);
  text($("publish"), `curl -d 21.5 ${here}topics/demo/first`);

  $("copy").addEventListener("click", () => {
    // Not navigator.clipboard: a page on plain http does not have it.
    getSelection().selectAllChildren($("curl"));
    text($("copy"), document.execCommand("copy") ? "Copied" : "Selected");
    setTimeout(() => text($("copy"), "Copy"), 2000);
  });

  document.addEventListener("visibilitychange", wake);
  addEventListener("pageshow", (shown) => shown.persisted && wake());
  addEventListener("online", wake);
  addEventListener("pagehide", () => disconnect("hidden")); // or "back" cannot revive the page
  addEventListener("resize", arrange);
  setInterval(tick, 1000);
  connect();
})();
