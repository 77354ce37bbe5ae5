// encke.js in a real browser against the real binary, through proxies that do what proxies do:
// ENCKE_BIN=path node --test
//
// Board and pages have names that are not localhost, by plain http, as at home.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { parse } from "acorn";
import { Board, Link, freePort, sleep } from "./harness.mjs";
import { BOARD, JSONP, SECRET, TOKEN, begin, behind, config, count, end, friend, hears, isLive,
  listen, newPage, numbers, status, turn, until, viewers, none, withBoard } from "./library.mjs";

const COUNT = 1000;
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

before(() => begin());
after(end);

test("the connection follows those who listen, by one step for each turn", () =>
  withBoard(config(), async (board) => {
    const page = await board.page();
    const asked = [];
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (url.pathname === "/events/sse") asked.push(url.searchParams.get("topics"));
    });
    await listen(page, "/");
    await isLive(page, "sse");
    await page.evaluate(() => {
      window.ends = ["demo/a", "demo/b", "demo/c"].map((topic) =>
        window.board.on(topic, (event) => window.heard.push(event.value)));
    });
    await until(page, () => window.board.state === "live");
    await board.publish("demo/b", "b");
    await hears(page, "b");
    await page.evaluate(() => window.ends.slice(1).forEach((end) => end()));
    await sleep(300);
    await isLive(page);
    await board.publish("demo/b", "nobody's");
    await board.publish("demo/a", "a");
    await hears(page, "a");
    assert.deepEqual(await page.evaluate(() => window.heard), ["b", "a"]);
    assert.deepEqual(asked, ["demo/count", "demo/a,demo/b,demo/c,demo/count", "demo/a,demo/count"]);
    assert.deepEqual(page.faults, []);
  }));

/** Where the board's page opens its stream, the board having another name for streams. */
async function streamsOf(cors) {
  const [port, push] = [await freePort(), "push.home.test"];
  const own = `http://${BOARD}:${port}`;
  const board = await Board.start(port, `[server]\nhosts = ["${BOARD}"]\nheartbeat = 1
push_host = "${push}:${port}"\n${cors ? `cors = ["${own}"]` : ""}\n`);
  const page = await newPage();
  const hosts = [];
  page.on("request", (asked) => /events/.test(asked.url()) && hosts.push(new URL(asked.url()).host));
  try {
    await page.goto(`${own}/`);
    await page.waitForSelector("[data-state=live]");
    await board.publish("demo/push", "here");
    await page.getByText("here", { exact: true }).waitFor();
    return hosts.map((host) => (host === `${push}:${port}` ? "push" : "own"));
  } finally {
    await page.context().close();
    await board.kill();
  }
}

test("streams go to push_host, and to the board itself where that is of no use", async () => {
  assert.deepEqual(await streamsOf(true), ["push"]);
  assert.deepEqual(await streamsOf(false), ["push", "own", "own"]); // whether the board is there
});

for (const way of ["sse", "ws", "stream", "poll", "iframe"]) {
  test(`${way}: a thousand events, all of them, once, in order`, () =>
    withBoard(config(), async (board) => {
      // Whoever has seen nothing of a log is new to it, and gets what is newest.
      await board.publish("demo/count", -1);
      const page = await board.page();
      await listen(page, "/", { transport: way });
      await isLive(page, way);
      await count(board, 0, COUNT);
      await hears(page, COUNT - 1);
      assert.deepEqual(await page.evaluate(() => window.heard), numbers(-1, COUNT));
      assert.deepEqual(page.faults, []);
    }));
}

for (const way of ["sse", "stream", "poll", "iframe", "jsonp"]) {
  test(`${way} from a page of another site`, () => withBoard(config("", JSONP), async (board) => {
    await board.publish("demo/count", -1);
    const page = await board.page(friend, "/");
    await listen(page, board.origin, { transport: way });
    await isLive(page, way);
    await count(board, 0, COUNT);
    await hears(page, COUNT - 1);
    assert.deepEqual(await page.evaluate(() => window.heard), numbers(-1, COUNT));
    assert.deepEqual(page.faults, []);
  }));
}

test("where Upgrade is stripped, the next way is taken", () =>
  behind({}, config(), async (board, proxy, page) => {
    await listen(page, "/", { transport: ["ws", "sse"] });
    await isLive(page, "sse");
    assert.ok(proxy.asked.includes("upgrade"));
    assert.match((await status(page)).why, /^ws/);
  }));

test("a gateway without its board for a while changes nothing but the time", () =>
  behind({}, config(), async (board, proxy, page) => {
    await listen(page, "/");
    await isLive(page, "sse");
    await count(board, 0, 100);
    await hears(page, 99);
    proxy.faults.status = 502;
    proxy.server.closeAllConnections();
    await until(page, () => window.board.state === "waiting");
    await count(board, 100, 200);
    await sleep(4000);
    proxy.faults.status = 0;
    await isLive(page, "sse");
    await hears(page, 199);
    assert.deepEqual(await page.evaluate(() => window.heard), numbers(0, 200));
  }));

test("a link that falls silent is noticed, and mended without a gap", () =>
  withBoard(config(), async (board) => {
    const link = await Link.to(board);
    const page = await board.page(link.url.replace("127.0.0.1", BOARD));
    await listen(page, "/", { silence: 3000 });
    await isLive(page);
    await count(board, 0, 100);
    await hears(page, 99);
    link.silent();
    await count(board, 100, 200);
    await until(page, () => window.board.state !== "live");
    link.mend();
    await isLive(page);
    await hears(page, 199);
    assert.deepEqual(await page.evaluate(() => window.heard), numbers(0, 200));
    link.close();
  }));

test("a board that starts again is said", () => withBoard(config(), async (board) => {
  const page = await board.page();
  await listen(page, "/");
  await isLive(page);
  await board.publish("demo/count", 1);
  await hears(page, 1);
  await board.kill();
  await until(page, () => window.board.state === "waiting");
  const again = await Board.start(board.port, config());
  try {
    await isLive(page);
    await until(page, () => window.said.some(({ type }) => type === "reset"));
    await again.publish("demo/count", 2);
    await hears(page, 2);
  } finally {
    await again.kill();
  }
}));

test("what fell out of the log is said to be lost", () =>
  withBoard(config("", "[limits]\nring_bytes = 65536\n"), async (board) => {
    const link = await Link.to(board);
    const page = await board.page(link.url.replace("127.0.0.1", BOARD));
    await listen(page, "/");
    await isLive(page);
    await board.publish("demo/count", 1);
    await hears(page, 1);
    link.cut();
    await count(board, 2, 2002);
    link.mend();
    await hears(page, 2001);
    const lost = await page.evaluate(() => window.said.find(({ type }) => type === "lost"));
    const heard = await page.evaluate(() => window.heard.length);
    assert.equal(heard + lost.count, 2001);
    assert.match(lost.message, /^missed (up to )?\d+ events$/);
    link.close();
  }));

test("a phone that slept has the truth by one request", () => withBoard(config(), async (board) => {
  const page = await board.page();
  await listen(page, "/");
  await isLive(page);
  await board.publish("demo/count", 0);
  await hears(page, 0);
  const link = await page.context().newCDPSession(page);
  await link.send("Page.setWebLifecycleState", { state: "frozen" });
  await count(board, 1, 501);
  await sleep(2000);
  assert.equal((await board.post("/topics/demo/other", 1)).subscribers, 0, "nobody is held");
  await link.send("Page.setWebLifecycleState", { state: "active" });
  await hears(page, 500);
  await isLive(page);
  await board.publish("demo/count", 501);
  await hears(page, 501);
}));

const publish = (page, topic) => page.evaluate((topic) => window.board
  .publish(topic, { x: [1] }).catch(({ status, message }) => ({ status, message })), topic);

for (const isForeign of [false, true]) {
  const where = isForeign ? "a page of another site" : "the board's own page";
  test(`a token lets ${where} read and publish, and is refused in words`, () =>
    withBoard(config(`read = []\norigins = ["${friend}"]`, TOKEN), async (board) => {
      const page = await board.page(...(isForeign ? [friend, "/"] : []));
      await listen(page, board.origin, { token: `phone.${SECRET}` });
      await isLive(page, isForeign ? "stream" : "sse");
      assert.equal((await publish(page, "demo/count")).subscribers, 1);
      await hears(page, { x: [1] });
      const refused = await publish(page, "other/x");
      assert.equal(refused.status, 403);
      assert.match(refused.message, /may not write/);
      assert.equal((await publish(page, "no good")).status, 400);
      await page.evaluate(() => window.board.close());
      await page.context().clearCookies();
      await listen(page, board.origin, { token: "phone.wrong" });
      await until(page, () => window.board.state === "denied");
      const error = await page.evaluate(() => window.said.find(({ type }) => type === "error"));
      assert.equal(error.status, 401);
      assert.match(error.message, /token/);
      assert.deepEqual(page.faults.filter((fault) => !/status of 40[013]/.test(fault)), []);
    }));
}

test("a topic asked for later comes with its newest event", () =>
  withBoard(config(), async (board) => {
    const page = await board.page();
    await board.publish("other/a", "old");
    await board.publish("other/a", "new");
    await listen(page, "/");
    await isLive(page);
    await page.evaluate(() => {
      window.others = [];
      window.end = window.board.on("other/+", ({ value }) => window.others.push(value));
    });
    await until(page, () => window.others.length === 1);
    await isLive(page);
    await board.publish("other/a", "newest");
    await until(page, () => window.others.length === 2);
    await count(board, 0, 100);
    await hears(page, 99);
    assert.deepEqual(await page.evaluate(() => window.others), ["new", "newest"]);
    assert.deepEqual(await page.evaluate(() => window.heard), numbers(0, 100));
  }));

test("a page that was hidden for long gave its place back, and has the newest by one request", () =>
  withBoard(config(), async (board) => {
    const page = await board.page();
    await page.clock.install();
    await listen(page, "/", { silence: 1e6 });
    await page.clock.runFor(2000);
    await isLive(page);
    await board.publish("demo/count", 0);
    await hears(page, 0);
    await turn(page, true);
    await page.clock.runFor(50_000);
    assert.equal((await status(page)).state, "live");
    await page.clock.runFor(15_000);
    assert.equal((await status(page)).state, "asleep");
    await count(board, 1, 501);
    assert.equal(await viewers(board), 0);
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    await turn(page, false);
    await hears(page, 500);
    assert.deepEqual(await page.evaluate(() => window.heard), [0, 500]);
    assert.match(asked[0], /poll.*timeout=0.*interval/);
    await page.clock.runFor(2000);
    await isLive(page, "sse");
    await board.publish("demo/count", 501);
    await hears(page, 501);
    assert.deepEqual(await page.evaluate(() => window.said.filter(({ type }) => type === "lost")), []);
  }));

test("a browser without fetch, EventSource and WebSocket has its ways", () =>
  withBoard(config("", JSONP), async (board) => {
    const page = await newPage();
    await page.addInitScript(() => {
      for (const name of ["fetch", "EventSource", "WebSocket", "BroadcastChannel", "EventTarget"]) {
        delete window[name];
      }
    });
    const load = async (origin) => {
      await page.goto(`${origin}/health`);
      await page.addScriptTag({ url: `${board.origin}/encke.js` });
    };
    await load(board.origin);
    await listen(page, "/");
    await isLive(page, "stream");
    await board.publish("demo/count", 1);
    await hears(page, 1);
    await load(board.origin);
    await listen(page, "/", { transport: ["ws", "iframe"] });
    await isLive(page, "iframe");
    await board.publish("demo/count", 2);
    await hears(page, 2);
    await load(friend.replace("pages.home", "stranger"));
    await listen(page, board.origin);
    await isLive(page, "jsonp");
    await board.publish("demo/count", 3);
    await hears(page, 3);
    await page.context().close();
  }));

test("older code finds an EventSource and JSONRequest", () => withBoard(config(), async (board) => {
  const page = await board.page();
  await page.addScriptTag({ url: "/encke-old.js" });
  assert.equal(await page.evaluate(() => typeof window.Encke.EventSource), "function");
  await board.publish("demo/count", 7);
  const heard = await page.evaluate(() => new Promise((done) => {
    const source = new window.Encke.EventSource("/events/sse?topics=demo/count");
    const heard = [source.readyState];
    source.onopen = () => heard.push("open", source.readyState);
    source.addEventListener("message", ({ data, lastEventId }) => {
      heard.push(JSON.parse(data).value, lastEventId === JSON.parse(data).id);
      source.close();
      done(heard.concat(source.readyState));
    });
  }));
  assert.deepEqual(heard, [0, "open", 1, 7, true, 2]);
  const answers = await page.evaluate(async () => {
    const { JSONRequest } = window.Encke;
    const get = (url, timeout) => new Promise((done) => {
      JSONRequest.get(url, (number, value, exception) => done([typeof number,
        value && Object.keys(value), exception && exception.message]), timeout);
    });
    const cancelled = JSONRequest.get("/events/poll?timeout=5", () => { window.wrong = true; });
    JSONRequest.cancel(cancelled);
    return [await get("/topics"), await get("/topics/none"), await get("/metrics"),
      await get("/events/poll?since=&snapshot=0&timeout=5&topics=none&client=a", 1)];
  });
  assert.deepEqual(answers[0], ["number", ["id", "topics"], ""]);
  assert.deepEqual(answers[1], ["number", undefined, "not ok"]);
  assert.deepEqual(answers[2], ["number", undefined, "bad response"]);
  assert.deepEqual(answers[3], ["number", undefined, "no response"]);
  const own = await board.page(board.url);
  await own.addScriptTag({ url: "/encke-old.js" });
  const posted = await own.evaluate(() => new Promise((done) => {
    window.Encke.JSONRequest.post("/topics", [{ topic: "demo/posted", value: [1] }],
      (_, value, error) => done({ ...value, error }));
  }));
  assert.deepEqual([posted.error, posted.count], ["", 1]);
  const { value } = await (await fetch(`${board.url}/topics/demo/posted`)).json();
  assert.deepEqual(value, [1]);
  assert.equal(await page.evaluate(() => window.wrong), undefined);
}));

test("what is asked for before the board answers, or is wider than what was, comes", () =>
  withBoard(config(), async (board) => {
    const link = await Link.to(board);
    const page = await board.page(link.url.replace("127.0.0.1", BOARD));
    await board.publish("other/a", 1);
    link.cut();
    await listen(page, "/");
    await until(page, () => window.board.state === "waiting");
    const more = (pattern) => page.evaluate((pattern) => {
      window[pattern] = [];
      window.board.on(pattern, ({ topic }) => window[pattern].push(topic));
    }, pattern);
    await more("other/+");
    link.mend();
    await until(page, () => window["other/+"].length === 1);
    await board.publish("other/a/b", 2);
    await more("other/#");
    await until(page, () => window["other/#"].length === 2);
    await board.publish("other/a/b", 3);
    await until(page, () => window["other/#"].length === 3);
    assert.deepEqual(await page.evaluate(() => window["other/+"]), ["other/a"]);
    link.close();
  }));

for (const way of ["stream", "poll"]) {
  test(`a listener that fails, or closes its board, harms nobody (${way})`, () =>
    withBoard(config(), async (board) => {
      const page = await board.page();
      await listen(page, "/", { transport: way });
      await page.evaluate(() => window.board.on("demo/#", ({ value }) => {
        if (value % 2) throw new Error("of the test");
        if (value === 50) window.board.close();
      }));
      await isLive(page, way);
      await count(board, 0, 50);
      await hears(page, 49);
      assert.deepEqual(await page.evaluate(() => window.heard), numbers(0, 50));
      await board.publish("demo/count", 50);
      await hears(page, 50);
      await none(board);
      const asked = [];
      page.on("request", (request) => asked.push(request.url()));
      await board.publish("demo/count", 51);
      await sleep(1500);
      assert.deepEqual(asked, []);
      assert.equal(await page.evaluate(() => window.heard.at(-1)), 50);
      assert.ok(page.faults.every((fault) => /of the test/.test(fault)), page.faults.join());
    }));
}

test("a site that the board trusts has it as a module, too", () =>
  withBoard(config(), async (board) => {
    const page = await newPage();
    await page.goto(friend);
    await page.evaluate(async (url) => {
      const { Encke } = await import(`${url}/encke.mjs`);
      window.heard = [];
      window.board = new Encke(url);
      window.board.on("demo/count", ({ value }) => window.heard.push(value));
    }, board.origin);
    await isLive(page, "sse");
    await count(board, 0, 100);
    await hears(page, 99);
    assert.deepEqual(await page.evaluate(() => window.heard), numbers(0, 100));
    await page.context().close();
  }));

test("as a module, and what is served is small, of its sources, and ECMAScript 2015", () =>
  withBoard(config(), async (board) => {
    const page = await board.page();
    assert.equal(await page.evaluate(async () => {
      const { Encke, default: same } = await import("/encke.mjs");
      return Encke === same && typeof Encke.prototype.on;
    }), "function");
    const get = (path) => fetch(board.url + path, { headers: { "Accept-Encoding": "identity" } });
    const answer = await get("/encke.js");
    assert.equal(answer.headers.get("content-type"), "text/javascript; charset=utf-8");
    const text = await answer.text();
    const old = await (await get("/encke-old.js")).text();
    for (const script of [text, old]) {
      assert.doesNotThrow(() => parse(script, { ecmaVersion: 2015 }));
    }
    assert.throws(() => parse("a?.b", { ecmaVersion: 2015 }), "the parser knows what is newer");
    assert.ok(gzipSync(text, { level: 9 }).length < 6144);
    const { status: same } = spawnSync("bash", ["scripts/bundle", "--check"], { cwd: ROOT });
    assert.equal(same, 0, "run scripts/bundle");
    assert.match(await (await get("/encke.d.ts")).text(), /export class Encke extends EventTarget/);
    const again = await fetch(`${board.url}/encke.js`,
      { headers: { "If-None-Match": answer.headers.get("etag"), "Accept-Encoding": "identity" } });
    assert.equal(again.status, 304);
  }));

// These mostly wait.
describe("in its own time", { concurrency: true }, () => {
  test("behind a proxy that holds streams back, it polls and says so", () =>
    behind({ buffers: true }, config(), async (board, proxy, page) => {
      await board.publish("demo/count", -1);
      await listen(page, "/");
      await isLive(page, "poll");
      await count(board, 0, COUNT);
      await hears(page, COUNT - 1);
      assert.deepEqual(await page.evaluate(() => window.heard), numbers(-1, COUNT));
      assert.match((await status(page)).why, /silent/);
      // The next page of this network need not find that out again.
      const next = await page.context().newPage();
      await sleep(21_000);
      await page.evaluate(() => window.board.close());
      await next.goto(page.url());
      await next.addScriptTag({ url: "/encke.js" });
      proxy.asked.length = 0;
      await listen(next, "/");
      await isLive(next, "poll");
      assert.ok(proxy.asked.every((url) => /poll/.test(url)), proxy.asked.join(" "));
      assert.equal((await status(next)).why, "it worked here before");
    }));

  test("behind a proxy that cuts streams off, it finds a way without a gap", () =>
    behind({ cutsMs: 1500 }, config(), async (board, proxy, page) => {
      await listen(page, "/");
      await isLive(page, "sse");
      const counting = (async () => {
        for (let from = 0; from < COUNT; from += 20) {
          await count(board, from, from + 20);
          await sleep(300);
        }
      })();
      await isLive(page, "poll");
      await counting;
      await hears(page, COUNT - 1);
      assert.deepEqual(await page.evaluate(() => window.heard), numbers(0, COUNT));
      assert.match((await status(page)).why, /cut off/);
    }));

  test("thirty seconds offline, and all that was missed", () => withBoard(config(), async (board) => {
    const link = await Link.to(board);
    const page = await board.page(link.url.replace("127.0.0.1", BOARD));
    await board.publish("demo/count", -1);
    await listen(page, "/", { silence: 5000 });
    await isLive(page);
    link.silent();
    await page.context().setOffline(true);
    await count(board, 0, 300);
    await sleep(30_000);
    assert.equal((await status(page)).state, "waiting");
    link.mend();
    await page.context().setOffline(false);
    await until(page, () => window.board.state === "live", undefined, 3000);
    await hears(page, 299);
    assert.deepEqual(await page.evaluate(() => window.heard), numbers(-1, 300));
    link.close();
  }));

  test("where all places are taken the values come every few seconds, and that is said", () =>
    withBoard(config("", "[limits]\nviewers = 1\n"), async (board) => {
      // Kept: what nobody has any more, the collector of garbage closes.
      const holder = await fetch(`${board.url}/events/sse`);
      const page = await board.page();
      await listen(page, "/");
      await until(page, () => window.board.state === "busy");
      assert.equal((await status(page)).why, "all places for viewers are taken");
      await board.publish("demo/count", 1);
      await hears(page, 1);
      assert.ok(await page.evaluate(() => window.said.some(({ type }) => type === "busy")));
      await holder.body.cancel();
      // Within the time that the board asks to wait.
      await until(page, () => window.board.state === "live", undefined, 75_000);
      await board.publish("demo/count", 2);
      await hears(page, 2);
    }));
});
