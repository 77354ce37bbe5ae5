// encke.js where something goes wrong once between tabs, a board and a proxy: no tab may stay deaf
// for it, miss something unsaid, or press the board: ENCKE_BIN=path node --test
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Board, sleep } from "./harness.mjs";
import { JSONP, begin, config, count, end, friend, hears, isLive, leads, listen, numbers, tabs, turn,
  until, withBoard } from "./library.mjs";

before(() => begin());
after(end);

const DATE = () => {
  const { now } = Date;
  window.slept_ms = 0;
  Date.now = () => now() + window.slept_ms;
};

/** Another tab of the browser of `first`. */
async function another(first, board) {
  const page = await first.context().newPage();
  await page.goto(first.url());
  await page.addScriptTag({ url: `${board.origin}/encke.js` });
  return page;
}

/** What `page` asks the board for, by the rest of its address; `act` answers, or nobody. */
async function asked(page, act = (route) => route.continue()) {
  const paths = [];
  await page.route("**/events/**", (route, request) => {
    paths.push(request.url().replace(/.*\/events\//, ""));
    return act(route, paths.length);
  });
  return paths;
}

const heard = (page) => page.evaluate(() => window.heard);
const tell = (page, ...types) => page.evaluate((types) =>
  types.forEach((type) => window.dispatchEvent(new Event(type))), types);

// These mostly wait.
describe("in its own time", { concurrency: true }, () => {
  test("a tab that slept and follows hears whatever comes later, and not the newest alone", () =>
    withBoard(config(), async (board) => {
      await board.publish("demo/count", -1);
      const first = await board.page();
      await first.context().addInitScript(DATE);
      await first.reload();
      await first.addScriptTag({ url: "/encke.js" });
      const second = await another(first, board);
      for (const page of [first, second]) {
        await listen(page, "/");
        await isLive(page);
        await hears(page, -1);
      }
      for (const page of [first, second]) {
        await page.evaluate(() => { window.slept_ms = 600e3; });
      }
      await until(first, () => window.said.some(({ why }) => why === "waking up"));
      await sleep(2000); // the other has no word for it
      await isLive(first);
      await count(board, 0, 100);
      await hears(second, 99);
      const wire = await first.context().newCDPSession(first);
      wire.send("Page.crash").catch(() => {});
      await count(board, 100, 300);
      await until(second, () => window.board.leads);
      await hears(second, 299);
      assert.deepEqual(await heard(second), numbers(-1, 300));
    }));

  for (const status of [404, 408]) {
    test(`a tab whose first request is answered by a ${status} asks again`, () =>
      withBoard(config(), async (board) => {
        await board.publish("demo/count", -1);
        const [first] = await tabs(board, 1);
        const second = await another(first, board);
        await asked(second, (route, times) =>
          (times > 1 ? route.continue() : route.fulfill({ status, body: "no" })));
        await listen(second, "/");
        await hears(second, -1);
        await count(board, 0, 40);
        await hears(second, 39);
        assert.deepEqual(await heard(second), numbers(-1, 40));
      }));
  }

  for (const [how, answer] of [["of a portal", (route) => route.fulfill({ contentType: "text/html",
    body: "<html>Sign in to the guests' network</html>" })], ["that never comes", () => {}]]) {
    test(`by scripts, too, an answer ${how} is asked for again`, () =>
      withBoard(config("", JSONP), async (board) => {
        await board.publish("demo/count", -1);
        const first = await board.page(friend.replace("pages.home", "stranger"), "/");
        const by = { transport: "jsonp" };
        await listen(first, board.origin, by);
        await isLive(first);
        const second = await first.context().newPage();
        await second.clock.install();
        await second.goto(first.url());
        await second.addScriptTag({ url: `${board.origin}/encke.js` });
        const paths = await asked(second, (route, times) =>
          (times > 1 ? route.continue() : answer(route)));
        await listen(second, board.origin, by);
        await until(second, () => window.board.transport === "jsonp");
        for (let tries = 0; !paths.length && tries < 100; tries += 1) await sleep(50);
        await second.clock.fastForward(61_000);
        await hears(second, -1);
        await count(board, 0, 40);
        await hears(second, 39);
        assert.deepEqual(await heard(second), numbers(-1, 40));
        assert.equal(await second.locator("script[src*=jsonp]").count(), 0);
      }));
  }

  for (const origin of ["origin", "url"]) {
    test(`a leader that is away for a moment knows who follows (${origin})`, () =>
      withBoard(config(), async (board) => {
        const [first, second] = await tabs(board, 2, board[origin]);
        await board.publish("demo/count", 1);
        await hears(second, 1);
        await turn(second, true);
        await tell(first, "pagehide");
        await sleep(100);
        await tell(first, "pageshow");
        await until(first, () => window.board.leads && window.board.state === "live");
        await count(board, 2, 12);
        for (const page of [first, second]) {
          await hears(page, 11);
          assert.deepEqual(await heard(page), numbers(1, 12));
        }
      }));
  }

  test("a topic that is asked for while the first answer is on its way comes, too", () =>
    withBoard(config(), async (board) => {
      await board.publish("demo/count", 1);
      await board.publish("other/a", "newest");
      await board.publish("demo/count", 2);
      const [first] = await tabs(board, 1);
      const second = await another(first, board);
      const paths = await asked(second, async (route, times) => {
        if (times === 1) await sleep(2000);
        return route.continue();
      });
      await listen(second, "/");
      for (let tries = 0; !paths.length && tries < 100; tries += 1) await sleep(50);
      await second.evaluate(() => {
        window.others = [];
        window.board.on("other/a", ({ value }) => window.others.push(value));
      });
      await until(second, () => window.others.length > 0);
      await hears(second, 2);
      assert.deepEqual(await second.evaluate(() => window.others), ["newest"]);
    }));

  test("of a sleep that several signs tell of, the longest counts", () =>
    withBoard(config(), async (board) => {
      await board.publish("demo/count", 0);
      const page = await board.page();
      await page.evaluate(DATE);
      await listen(page, "/");
      await hears(page, 0);
      await turn(page, true);
      await tell(page, "pagehide");
      await count(board, 1, 501);
      const paths = await asked(page);
      await page.evaluate(() => {
        window.slept_ms = 70e3;
        Object.defineProperty(document, "hidden", { value: false, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
        window.dispatchEvent(new Event("pageshow"));
      });
      await hears(page, 500);
      await isLive(page);
      assert.match(paths[0], /^poll\?.*&interval=1$/);
      assert.deepEqual(await heard(page), [0, 500]);
    }));

  test("when to come again is obeyed by who wakes", () => withBoard(config(), async (board) => {
    const page = await board.page();
    await page.evaluate(DATE);
    await listen(page, "/");
    await isLive(page);
    await board.publish("demo/count", 1);
    await hears(page, 1);
    const paths = await asked(page, (route) => route.fulfill({ status: 503, body: "later",
      headers: { "Retry-After": "20", "Content-Type": "text/plain" } }));
    await page.evaluate(() => { window.slept_ms = 600e3; });
    await until(page, () => window.board.state === "waiting");
    await sleep(3000);
    assert.ok(paths.length <= 2, paths.join(" "));
  }));

  test("and by who asks for more topics meanwhile", () => withBoard(config(), async (board) => {
    const page = await board.page();
    const paths = await asked(page, (route) => route.fulfill({ status: 429, body: "later",
      headers: { "Retry-After": "3" } }));
    await listen(page, "/", { transport: "poll" });
    await until(page, () => window.board.state === "waiting");
    const before = paths.length;
    for (let i = 0; i < 4; i += 1) {
      await page.evaluate((i) => window.board.on(`other/${i}`, () => {}), i);
      await sleep(100);
    }
    assert.equal(paths.length, before);
    await page.unroute("**/events/**");
    await isLive(page);
    await board.publish("demo/count", 1);
    await hears(page, 1);
  }));

  test("a pattern that the board does not take harms nobody any more once it is taken back", () =>
    withBoard(config(), async (board) => {
      const [first] = await tabs(board, 1);
      const second = await another(first, board);
      await second.evaluate(() => {
        window.heard = [];
        window.said = [];
        window.board = new window.Encke("/");
        window.board.on("demo/count", ({ value }) => window.heard.push(value));
        window.end = window.board.on("a//b", () => {});
      });
      await until(first, () => /pattern .* not valid/.test(window.board.why));
      await second.evaluate(() => window.end());
      await isLive(first);
      await board.publish("demo/count", 1);
      for (const page of [first, second]) await hears(page, 1);
    }));

  test("of two answers to what was missed the later one counts alone", async () => {
    let again;
    try {
      await withBoard(config(), async (board) => {
        await board.publish("demo/count", 1);
        const [first, second] = await tabs(board, 2);
        await hears(second, 1);
        let go;
        const free = new Promise((done) => { go = done; });
        const paths = await asked(second, async (route) => {
          await free;
          return route.continue();
        });
        for (const times of [1, 2]) {
          await tell(second, "pagehide");
          await sleep(300);
          await tell(second, "pageshow");
          for (let tries = 0; paths.length < times && tries < 100; tries += 1) await sleep(50);
        }
        assert.ok(paths.length >= 2, "it did not ask twice");
        await board.kill();
        again = await Board.start(board.port, config());
        await again.publish("demo/slow", "here");
        go();
        await again.publish("demo/count", 2);
        for (const page of [first, second]) await hears(page, 2);
        await until(second, () => window.said.some(({ type }) => type === "reset"));
        await sleep(1500);
        await again.publish("demo/count", 3);
        await hears(second, 3);
        assert.equal(await second.evaluate(() =>
          window.said.filter(({ type }) => type === "reset").length), 1);
      });
    } finally {
      await again?.kill();
    }
  });

  test("a tab's mistake goes with the tab", () => withBoard(config(), async (board) => {
    const [first] = await tabs(board, 1);
    const second = await another(first, board);
    await listen(second, "/", {}, "a//b");
    await until(first, () => /pattern .* not valid/.test(window.board.why));
    await second.close();
    await isLive(first);
    await board.publish("demo/count", 1);
    await hears(first, 1);
    assert.equal(await leads(first), true);
  }));
});
