// encke.js in tabs of one browser, which share a connection, against the real binary:
// ENCKE_BIN=path node --test
//
// Board and pages have names that are not localhost, by plain http, as at home; (locks): by the
// board's own address, where there are Web Locks.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Board, sleep } from "./harness.mjs";
import { begin, config, count, end, hears, isLive, leads, listen, numbers, tabs,
  turn, until, viewers, withBoard } from "./library.mjs";

const COUNT = 1000;

before(() => begin());
after(end);

test("ten tabs share one connection, and each hears everything", () =>
  withBoard(config(), async (board) => {
    await board.publish("demo/count", -1);
    const all = await tabs(board);
    assert.equal(await viewers(board), 1);
    await count(board, 0, COUNT);
    for (const page of all) {
      await hears(page, COUNT - 1);
      assert.deepEqual(await page.evaluate(() => window.heard), numbers(-1, COUNT));
    }
    // The board goes on answering where ten connections would leave none of six.
    const answers = await all[0].evaluate(() => Promise.all(Array.from({ length: 20 },
      () => fetch("/health").then(({ status }) => status))));
    assert.deepEqual(answers, Array(20).fill(200));
  }));

test("where each tab has a connection of its own, the seventh waits, and the board's API with it", () =>
  withBoard(config(), async (board) => {
    const page = await board.page();
    const [opened, ...answers] = await page.evaluate(async () => {
      const sources = Array.from({ length: 7 }, () => new EventSource("/events/sse"));
      await new Promise((done) => setTimeout(done, 2000));
      const ask = () => fetch("/health", { signal: AbortSignal.timeout(2000) })
        .then(({ status }) => status, ({ name }) => name);
      const open = sources.filter(({ readyState }) => readyState === EventSource.OPEN);
      const full = await ask();
      sources.forEach((source) => source.close());
      return [open.length, full, await ask()];
    });
    assert.deepEqual([opened, ...answers], [6, "TimeoutError", 200]);
  }));

test("a page that wants no part of that has a connection of its own", () =>
  withBoard(config(), async (board) => {
    const [first] = await tabs(board, 2);
    const own = await first.context().newPage();
    await own.goto(first.url());
    await own.addScriptTag({ url: "/encke.js" });
    await listen(own, "/", { share: false });
    await isLive(own);
    assert.equal(await viewers(board), 2);
    await first.close();
    await count(board, 0, 100);
    await hears(own, 99);
    assert.deepEqual(await own.evaluate(() => window.heard), numbers(0, 100));
  }));

test("a tab with topics of its own widens what is heard, and gets only its own", () =>
  withBoard(config(), async (board) => {
    await board.publish("other/a", "newest");
    const [first] = await tabs(board, 1);
    const second = await first.context().newPage();
    await second.goto(first.url());
    await second.addScriptTag({ url: "/encke.js" });
    await listen(second, "/", {}, "other/#");
    await hears(second, "newest");
    await board.publish("other/a", "again");
    await hears(second, "again");
    await count(board, 0, 100);
    await hears(first, 99);
    assert.deepEqual(await first.evaluate(() => window.heard), numbers(0, 100));
    assert.deepEqual(await second.evaluate(() => window.heard), ["newest", "again"]);
    assert.equal(await viewers(board), 1);
  }));

// By plain HTTP there are no Web Locks; to the board itself there are.
for (const [how, isNear] of [["closes"], ["is frozen"], ["dies"], ["closes", true],
  ["is frozen", true], ["dies", true], ["is hidden"], ["is hidden", true]]) {
  test(`when the tab that leads ${how}, another does without a gap${isNear ? " (locks)" : ""}`, () =>
    withBoard(config(), async (board) => {
      await board.publish("demo/count", -1);
      const all = await tabs(board, 4, isNear ? board.url : undefined);
      assert.equal(await all[0].evaluate(() => Boolean(navigator.locks)), Boolean(isNear));
      const rest = [];
      let leader;
      for (const page of all) {
        if (await leads(page)) leader = page;
        else rest.push(page);
      }
      assert.equal(rest.length, 3);
      await count(board, 0, 100);
      await hears(rest[0], 99);
      const wire = await leader.context().newCDPSession(leader);
      if (how === "closes") await leader.close();
      else if (how === "is frozen") {
        await wire.send("Page.setWebLifecycleState", { state: "frozen" });
      } else if (how === "is hidden") {
        await turn(leader, true);
        // Whoever is looked at now takes the lead.
        await turn(rest[0], false);
        const taken = rest.map((page) => until(page, () => window.board.leads));
        taken.forEach((one) => one.catch(() => {}));
        await Promise.any(taken);
      } else wire.send("Page.crash").catch(() => {});
      await count(board, 100, 300);
      for (const page of rest) {
        await hears(page, 299);
        assert.deepEqual(await page.evaluate(() => window.heard), numbers(-1, 300));
      }
      await isLive(rest[0]);
      assert.equal(await viewers(board), 1);
      if (how !== "is frozen") return;
      await wire.send("Page.setWebLifecycleState", { state: "active" });
      await hears(leader, 299);
      assert.deepEqual(await leader.evaluate(() => window.heard), numbers(-1, 300));
      await sleep(3000);
      assert.equal(await viewers(board), 1);
    }));
}

test("a tab hears of its own topics only, and a follower of a restart without asking on and on", () =>
  withBoard(config(), async (board) => {
    await board.publish("demo/count", 1);
    const [first] = await tabs(board, 1);
    await first.evaluate(() => window.board.on("#", () => {}));
    const second = await first.context().newPage();
    await second.goto(first.url());
    await second.addScriptTag({ url: "/encke.js" });
    await listen(second, "/");
    await hears(second, 1);
    await second.evaluate(() => {
      window.all = [];
      window.board.addEventListener("event", ({ detail }) => window.all.push(detail.topic));
    });
    await board.publish("other/x", 1);
    await board.publish("demo/count", 2);
    await hears(second, 2);
    assert.deepEqual(await second.evaluate(() => window.all), ["demo/count"]);
    await board.kill();
    await until(first, () => window.board.state === "waiting");
    const again = await Board.start(board.port, config());
    const asked = [];
    second.on("request", (request) => asked.push(request.url()));
    try {
      await until(second, () => window.board.state === "live");
      await again.publish("demo/count", 3);
      await hears(second, 3);
      await sleep(1000);
      assert.ok(asked.length <= 3, asked.join(" "));
    } finally {
      await again.kill();
    }
  }));
