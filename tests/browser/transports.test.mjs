// Every way to listen, in a real browser against the real binary: ENCKE_BIN=path node --test
//
// Board and pages have names that are not localhost, by plain http, as at home. A page of the
// board's own origin is /health: any other, but for the dashboard, would do.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import http from "node:http";
import { after, before, test } from "node:test";
import { Board, Link, launch, phone, sleep } from "./harness.mjs";
import { listeners } from "./listeners.mjs";

const BOARD = "board.home.test";
const COUNT = 1000;
const TOPIC = "demo/count";
const QUERY = `&topics=${TOPIC}`;

const SECRET = "q7Zk2vN0w4";
const TOKEN = `[[token]]\nname = "phone"\nread = ["#"]\nwrite = ["room/#"]
sha256 = "${createHash("sha256").update(SECRET).digest("hex")}"\n`;

let browser;
let pages; // somebody's web server: an empty page at any name and path
let friend; // the origin of its pages that may read the board: another host of the same site
let stranger; // one that may not

before(async () => {
  browser = await launch(["--host-resolver-rules=MAP *.test 127.0.0.1"]);
  pages = http.createServer((asked, answer) => {
    answer.setHeader("Content-Type", "text/html; charset=utf-8");
    const query = new URL(asked.url, "http://any").searchParams;
    answer.end(`<!doctype html><title>page</title><body>${query.get("body") ?? ""}`);
  });
  pages.listen(0, "127.0.0.1");
  await new Promise((done) => pages.once("listening", done));
  const { port } = pages.address();
  [friend, stranger] = [`http://pages.home.test:${port}`, `http://stranger.test:${port}`];
});

after(async () => {
  await browser?.close();
  pages?.close();
});

const config = (server = "", more = "") => `[server]\nhosts = ["${BOARD}"]\ncors = ["${friend}"]
heartbeat = 1\n${server}\n[sources]\nexclude = ["#"]\n${more}`;
const JSONP = `[jsonp]\ntopics = ["demo/#"]\n`;

async function withBoard(settings, act) {
  const board = await Board.start(undefined, settings);
  board.origin = `http://${BOARD}:${board.port}`;
  const opened = [];
  /** A page of `origin` that knows how to listen. */
  board.page = async (origin, path = "/health") => {
    const page = await phone(browser);
    opened.push(page);
    await page.goto(origin + path);
    await page.evaluate(listeners);
    return page;
  };
  try {
    await act(board);
  } finally {
    await Promise.all(opened.map((page) => page.context().close()));
    await board.kill();
  }
}

const start = (page, technique, board, query = QUERY, options = {}) =>
  page.evaluate(([technique, board, query, options]) => {
    window.listen[technique](board, query, options);
  }, [technique, board, query, options]);

/** Until the last event the page heard of is `value`. */
const hears = (page, value) => page.waitForFunction(
  (value) => window.heard.at(-1) === value, value, { polling: 50, timeout: 15_000 });

const says = (page, word) => page.waitForFunction(
  (word) => window.words.some((message) => word in message), word, { polling: 50 });

/** Publishes `from`, `from + 1`, .. one by one and in small batches, with pauses in between. */
async function count(board, from, to) {
  for (let n = from; n < to;) {
    const size = Math.min(n % 3 ? 1 + (n % 17) : 1, to - n);
    await board.publishMany(Array.from({ length: size }, (_, i) =>
      ({ topic: TOPIC, value: n + i })));
    n += size;
    if (n % 5 === 0) await sleep(2);
  }
}

const numbers = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

/** All of it, once and in order. */
async function heardAll(page, from, to) {
  await hears(page, to - 1);
  const heard = await page.evaluate(() => window.heard);
  assert.deepEqual(heard.filter((n) => n >= from), numbers(from, to));
}

/** What each technique leaves behind besides the events. */
const CHECKS = {
  async iframe(page) {
    const [scripts, nodes] = await page.evaluate(() => {
      const { contentDocument } = window.frame;
      return [contentDocument.scripts.length, contentDocument.body.childElementCount];
    });
    assert.ok(scripts <= 2 && nodes <= 2, `${scripts} scripts, ${nodes} elements have stayed`);
  },
  async xhr(page) {
    const { requests, early } = await page.evaluate(() => window.notes);
    assert.ok(requests > 3, `${requests} requests`);
    assert.ok(early > 10, `${early} in readyState 3`);
    assert.ok(await page.evaluate(() => window.words.some(({ more }) => more?.id)));
  },
  async fetch(page) {
    const { requests, pieces } = await page.evaluate(() => window.notes);
    assert.ok(pieces > 4, `${requests} requests, ${pieces} pieces`);
  },
  async parts(page) {
    assert.ok(await page.evaluate(() => window.notes.pieces > 4));
  },
  async socket(page) {
    assert.equal(await page.evaluate(() => window.notes.protocol), "encke.v1");
  },
  async tag(page) {
    await page.waitForFunction(() => window.notes.unchanged > 1);
  },
};

/** One page for each row listens to `to` while all is published; `between` is done now and then. */
async function listenTo(board, to, rows, between) {
  await board.publish(TOPIC, -1); // who is at an id of an empty log is told the newest alone
  const all = await Promise.all(rows.map(async ([origin, technique, more = "", options]) => {
    const page = await board.page(origin);
    await start(page, technique, to, QUERY + more, options);
    await says(page, "hello");
    return { name: `${technique}${more}`, technique, page };
  }));
  for (let from = 0; from < COUNT; from += COUNT / 4) {
    await count(board, from, from + COUNT / 4);
    await between(from);
  }
  return all;
}

async function tellAll(t, all) {
  for (const { name, technique, page } of all) {
    await t.test(name, async () => {
      await heardAll(page, 0, COUNT);
      await CHECKS[technique]?.(page);
      assert.equal(await page.evaluate(() => window.isSecureContext), false);
      assert.deepEqual(page.faults, []);
    });
  }
}

test(`${COUNT} events, complete and in order, in pages of the board's origin`, (t) =>
  withBoard(config(), async (board) => {
    const rows = [["iframe"], ["iframe", "&limit=8192"], ["xhr", "&limit=20000"], ["fetch"],
      ["parts"], ["poll"], ["xml"], ["tag", "&timeout=0.5"], ["events"], ["socket"]];
    const own = rows.map((row) => [board.origin, ...row]);
    await tellAll(t, await listenTo(board, board.origin, own, () => {}));
  }));

test("the same in pages of other origins, with a cut in between", (t) =>
  withBoard(config(`origins = ["${friend}"]`, JSONP), async (board) => {
    const link = await Link.to(board);
    const rows = [[friend, "posted", "", { silenceMs: 2500 }], [friend, "xhr", "&limit=20000"],
      [friend, "fetch"], [friend, "parts"], [friend, "socket"], [friend, "poll"],
      [friend, "xml"], [friend, "tag", "&timeout=0.5"],
      [friend, "events", "", { withCredentials: true }], [stranger, "script"]];
    try {
      await tellAll(t, await listenTo(board, link.url, rows, async (from) => {
        if (from === COUNT / 4) link.cut();
        if (from === COUNT / 2) link.mend();
        if (from > COUNT / 2) return;
        await sleep(500);
      }));
    } finally {
      link.close();
    }
  }));

test("a frame that breaks tells nobody, and loses nothing", () =>
  withBoard(config(), async (board) => {
    const link = await Link.to(board);
    const page = await board.page(link.url);
    try {
      await start(page, "iframe", link.url, QUERY, { silenceMs: 2500 });
      await says(page, "heartbeat");
      await count(board, 0, 20);
      await hears(page, 19);
      for (const [state, from] of [["cut", 20], ["silent", 40]]) {
        const before = await page.evaluate(() => [window.notes.loads, window.notes.reloads]);
        link[state]();
        await count(board, from, from + 10);
        await sleep(1500);
        assert.deepEqual(await page.evaluate(() => [window.notes.loads, window.notes.reloads,
          window.frame.contentDocument.readyState]), [...before, "loading"], state);
        link.mend();
        await count(board, from + 10, from + 20);
        await heardAll(page, 0, from + 20);
      }
      const { reloads, last } = await page.evaluate(() => ({ ...window.notes, last: window.last }));
      assert.ok(reloads >= 2, `${reloads} reloads`);
      assert.match(last, /^\w+-60$/);
    } finally {
      link.close();
    }
  }));

test("whoever listens sees the board go down, and come back as another", () =>
  withBoard(config("", JSONP), async (board) => {
    const techniques = ["iframe", "posted", "xhr", "parts", "socket", "script"];
    const all = await Promise.all(techniques.map(async (technique) => {
      const page = await board.page(technique === "script" ? friend : board.origin);
      await start(page, technique, board.origin, QUERY, { silenceMs: 2500 });
      await says(page, "hello");
      return page;
    }));
    await count(board, 0, 10);
    await Promise.all(all.map((page) => hears(page, 9)));
    assert.equal(await board.drain(), 0);
    const ofSocket = all[techniques.indexOf("socket")];
    await ofSocket.waitForFunction(() => window.words.some((word) => word.closed?.code === 1001));
    for (const page of all.slice(0, 4)) {
      await says(page, "busy");
      const busy = await page.evaluate(() => window.words.find((word) => word.busy).busy);
      assert.ok(busy.reason === "draining" && busy.retry >= 1000 && busy.retry <= 5000);
    }
    // On purpose it ends well: then a frame is loaded.
    await all[0].waitForFunction(() => window.notes.ended);
    const other = await Board.start(board.port, config("", JSONP));
    try {
      await count(other, 100, 110);
      for (const page of all) {
        await hears(page, 109);
        const hello = await page.evaluate(() =>
          window.words.filter((word) => word.hello).at(-1).hello);
        assert.equal(hello.reset, true);
        const heard = await page.evaluate(() => window.heard);
        assert.deepEqual(heard.filter((n) => n < 100), numbers(0, 10));
      }
      await count(other, 110, 120);
      await Promise.all(all.map((page) => heardAll(page, 110, 120)));
    } finally {
      await other.kill();
    }
  }));

/** How many viewers the board has, once it is `wanted`, or after 5 s. */
async function viewers(board, wanted) {
  for (const deadline = Date.now() + 5000; ; await sleep(50)) {
    const { viewers } = await fetch(`${board.url}/health`).then((answer) => answer.json());
    if (viewers === wanted || Date.now() > deadline) return viewers;
  }
}

test("a frame calls no function where a stranger frames it, or nobody does", () =>
  withBoard(config(), async (board) => {
    await board.publish(TOPIC, 1);
    const url = (callback) => `${board.origin}/events/iframe?callback=${callback}`;
    const frames = (attributes = "") => ["console.log", "parent.take", "top.take", "alert"]
      .map((callback) => `<iframe ${attributes} src="${url(callback)}"></iframe>`).join("");
    const logs = [];
    const watch = (page) => page.on("console", (message) =>
      message.type() === "log" && logs.push(message.text()));

    const theirs = await board.page(stranger, `/?body=${encodeURIComponent(frames())}`);
    const boxed = await board.page(board.origin);
    const alone = await board.page(stranger);
    [theirs, boxed, alone].forEach(watch);
    const sandbox = frames('sandbox="allow-scripts"');
    await boxed.evaluate((html) => document.body.insertAdjacentHTML("beforeend", html), sandbox);
    const opened = alone.waitForEvent("popup");
    await alone.evaluate((to) => { window.open(to); }, url("opener.take"));
    watch(await opened);
    await (await opened).goto(url("console.log"), { waitUntil: "commit" });
    await theirs.reload({ waitUntil: "commit" });
    await sleep(1000);
    await board.publish(TOPIC, 2);
    assert.equal(await viewers(board, 0), 0, "who is stopped is no viewer");
    assert.deepEqual(logs, []);
    for (const page of [boxed, alone]) {
      assert.deepEqual(await page.evaluate(() => [window.heard, window.words]), [[], []]);
    }
    // So it is not for want of a message.
    await start(boxed, "iframe", board.origin, QUERY, { callback: "console.log" });
    await boxed.waitForEvent("console");
    assert.deepEqual([...theirs.faults, ...alone.faults], []);
  }));

test("a frame posts to those in cors, and to nobody who only says so", () =>
  withBoard(config(), async (board) => {
    await board.publish(TOPIC, 1);
    const page = await board.page(stranger);
    const answer = page.waitForResponse(/events\/iframe/);
    await start(page, "posted", board.origin);
    assert.equal((await answer).status(), 403);
    assert.match(await (await answer).text(), /add the page's origin to cors in \[server\]/);
    const asFriend = page.waitForResponse(/events\/iframe/);
    await page.evaluate((url) => {
      window.addEventListener("message", (event) => window.words.push(event.data));
      window.frame.src = url;
    }, `${board.origin}/events/iframe?origin=${encodeURIComponent(friend)}`);
    assert.equal((await asFriend).status(), 200);
    assert.equal(await viewers(board, 1), 1);
    await sleep(500);
    assert.deepEqual(await page.evaluate(() => window.words), []);
  }));

test("a domain is shared with pages in cors, and not with their neighbours", () =>
  withBoard(config(), async (board) => {
    await board.publish(TOPIC, 1);
    const neighbour = friend.replace("pages", "other");
    for (const [origin, domain, hears] of [[friend, "home.test", true], [friend, "", false],
      [neighbour, "home.test", false]]) {
      const page = await board.page(origin);
      await page.evaluate(() => { document.domain = "home.test"; });
      const answer = page.waitForResponse(/events\/iframe/);
      await start(page, "iframe", board.origin, QUERY + (domain && `&limit=4096&domain=${domain}`));
      assert.equal((await answer).status(), origin === friend ? 200 : 403);
      if (hears) {
        await says(page, "hello");
        await count(board, 2, 200); // and the frame loads itself anew
        await heardAll(page, 1, 200);
      } else {
        await sleep(500);
        assert.deepEqual(await page.evaluate(() => [window.heard, window.words]), [[], []]);
      }
    }
  }));

/** Signs a page of the board's origin in. */
async function signIn(page) {
  const status = await page.evaluate((body) => fetch("/session", { method: "POST", body })
    .then((answer) => answer.status), `phone.${SECRET}`);
  assert.equal(status, 200);
}

test("whoever is signed in is so for pages of the same site in cors, and nowhere else", () => {
  const closed = config("read = []", TOKEN + JSONP).replace(`["${friend}"]`,
    `["${friend}", "${stranger}"]`);
  return withBoard(closed, async (board) => {
    await board.publish(TOPIC, 1);
    const page = await board.page(board.origin);
    await signIn(page);
    for (const [origin, technique, options, hears] of [
      [friend, "events", { withCredentials: true }, true], [friend, "events", {}, false],
      [friend, "posted", {}, true], [friend, "script", {}, true],
      [stranger, "events", { withCredentials: true }, false], [stranger, "posted", {}, false],
      [stranger, "script", {}, false],
    ]) {
      await page.goto(origin);
      await page.evaluate(listeners);
      const answer = page.waitForResponse((one) => one.url().startsWith(board.origin));
      await start(page, technique, board.origin, QUERY, options);
      const status = (await answer).status();
      const what = `${technique} ${JSON.stringify(options)} of ${origin}: ${status}`;
      if (hears) await page.waitForFunction(() => window.heard[0] === 1);
      else {
        await sleep(200);
        assert.deepEqual(await page.evaluate(() => window.heard), [], what);
      }
      assert.equal(status, hears || technique === "script" ? 200 : 401, what);
    }
  });
});

test("scripts get topics of [jsonp] only, and calls for errors", () =>
  withBoard(config("", JSONP), async (board) => {
    await board.publishMany([{ topic: TOPIC, value: 1 }, { topic: "secret/x", value: 2 }]);
    const page = await board.page(stranger);
    const ask = (query, to = board.origin) => page.evaluate((url) => new Promise((done) => {
      const node = document.createElement("script");
      window.called = done;
      node.onerror = () => done("error");
      node.src = url;
      document.body.append(node);
    }), `${to}/events/jsonp?callback=called&${query}`);
    for (const query of ["", "topics=%23", "topics=secret/x,demo/count"]) {
      assert.deepEqual((await ask(query)).events.map(({ value }) => value), [1], query);
    }
    assert.deepEqual((await ask("topics=secret/x")).events, []);
    const bad = await ask("topics=a//b");
    assert.equal(bad.error.status, 400);
    assert.match(bad.error.reason, /pattern 1 is not valid/);
    assert.equal(await ask("callback=1x"), "error"); // no script could be told
    await withBoard(config(), async (other) => {
      const none = await ask("", other.origin);
      assert.equal(none.error.status, 403);
      assert.match(none.error.reason, /write topics = \["\.\.\."\] in \[jsonp\]/);
    });
  }));

test("a script that is taken away leaves a poll, but not if it says whose it is", () =>
  withBoard(config("", JSONP), async (board) => {
    const { id } = await board.publish(TOPIC, 1);
    // A browser has six connections to one host: without a name they are all taken in the end.
    for (const [more, wanted] of [["&client=page-1", 1], ["", 6]]) {
      const page = await board.page(stranger);
      await page.evaluate(async (url) => {
        for (let i = 0; i < 8; i += 1) {
          const node = document.createElement("script");
          node.src = `${url}&_=${i}`; // of equal ones the browser's cache lets one through
          document.body.append(node);
          await new Promise((done) => setTimeout(done, 50));
          node.remove();
        }
      }, `${board.origin}/events/jsonp?callback=String&since=${id}${QUERY}${more}`);
      assert.equal(await viewers(board, wanted), wanted, more);
      await page.context().close();
      assert.equal(await viewers(board, 0), 0);
    }
  }));

test("two pages talk by WebSockets, and see each other come and go", () =>
  withBoard(config("read = []", TOKEN), async (board) => {
    const room = "&topics=room/hall,encke/presence/room/hall";
    const enter = async () => {
      const page = await board.page(board.origin);
      await signIn(page);
      await start(page, "socket", board.origin, room);
      return page;
    };
    const say = (page, topic, value, ref) => page.evaluate((message) =>
      window.socket.send(JSON.stringify(message)), { publish: { topic, value }, ref });
    const one = await enter();
    await says(one, "hello");
    await say(one, "room/hall", "Anybody?", 0); // with that there is a room
    await hears(one, 1);
    const other = await enter();
    await Promise.all([hears(one, 2), hears(other, 2)]);
    await say(one, "room/hall", "<b>Good morning</b>", 1);
    await hears(other, "<b>Good morning</b>");
    await say(other, "room/hall", { and: "you?" }, 2);
    await one.waitForFunction(() => window.heard.at(-1).and === "you?");
    await say(one, "garden/gate", true, 3);
    await says(one, "error");
    const answers = await one.evaluate(() =>
      window.words.filter((word) => word.ack || word.error));
    assert.deepEqual(answers.map(({ ack, error }) =>
      [ack?.ref ?? error.ref, ack?.subscribers ?? error.status]), [[0, 1], [1, 2], [3, 403]]);
    await other.context().close();
    await hears(one, 1);
    assert.deepEqual(one.faults, []);
  }));

test("a page of another origin opens no WebSocket, but for those in origins", () =>
  withBoard(config(), async (board) => {
    const page = await board.page(friend); // it may read, and no more
    await start(page, "socket", board.origin);
    await says(page, "closed");
    const words = await page.evaluate(() => window.words);
    assert.ok(words.every(({ closed }) => closed?.code === 1006), JSON.stringify(words));
  }));
