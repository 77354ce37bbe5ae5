// What the page says of its values and its connection while neither is as it should be, in a real
// browser against the real binary: ENCKE_BIN=path node --test
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { Faulty } from "./faulty.mjs";
import { Board, Link, freePort, launch, live, phone, saysInHeader, shot, sleep, tile }
  from "./harness.mjs";
import { read } from "./qr.mjs";

const OLD_MS = 15_000; // without a connection, or out of its pace: from then on a value is grey

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** Runs `act` with a board and a fresh page, in which nothing but refusals may go wrong. */
async function withPage(config, options, act) {
  const board = await Board.start(undefined, config);
  const page = await phone(browser, options);
  try {
    await act(board, page);
    assert.deepEqual(page.faults.filter((fault) => !/status of 502/.test(fault)), []);
  } finally {
    await page.context().close();
    await board.kill();
  }
}

const has = (page, topic, kind) => tile(page, topic).evaluate((node, kind) =>
  node.classList.contains(kind), kind);
const seconds = async (page, topic) =>
  Number(/^(\d+) s ago$/.exec(await tile(page, topic).locator(".note span").innerText())?.[1]);
const colour = (page, topic) => tile(page, topic).locator(".value").evaluate((node) =>
  getComputedStyle(node).color);
const becomes = (page, topic, kind, timeout) =>
  page.waitForSelector(`.tile.${kind}[title="${topic}"]`, { timeout });

// These mostly wait.
describe("in its own time", { concurrency: true }, () => {
  test("without a connection ages tick on, and values turn grey by themselves", () =>
    withPage("[sources]\nexclude = [\"#\"]", {}, async (board, page) => {
      const link = await Link.to(board);
      try {
        await page.goto(link.url);
        await live(page);
        await board.publish("demo/room", 21.5);
        await board.publish("demo/lamp", true);
        await tile(page, "demo/room").getByText("21.5").waitFor();
        const fresh = await colour(page, "demo/room");
        link.cut();
        await saysInHeader(page, /Disconnected, trying again.* — showing values from \d+ s ago/);
        assert.equal(await has(page, "demo/room", "cut"), false, "a moment is no reason");
        for (const topic of ["demo/room", "demo/lamp"]) await becomes(page, topic, "cut", OLD_MS + 5000);
        const ages = [await seconds(page, "demo/room")];
        await sleep(3200);
        ages.push(await seconds(page, "demo/room"));
        assert.ok(ages[0] >= 10 && ages[1] >= ages[0] + 2 && ages[1] <= 30, String(ages));
        assert.notEqual(await colour(page, "demo/room"), fresh);
        await shot(page, "cut");
        link.mend();
        await live(page);
        await page.waitForSelector(".tile[title=\"demo/room\"]:not(.cut)");
        assert.equal(await colour(page, "demo/room"), fresh);
        // It is as old as before: that a connection is there makes no value new.
        assert.ok(await seconds(page, "demo/room") > ages[1]);
      } finally {
        link.close();
      }
    }));

  test("a source that stops is said to be stale, with the age of its last value", () =>
    withPage(`[[source]]\nkind = "exec"\ntopic = "demo/once"
command = ["/bin/sh", "-c", "echo 4.5; exec sleep 60"]\nstream = true\nstale = 8\n`,
    {}, async (board, page) => {
      await page.goto(board.url);
      await tile(page, "demo/once").getByText("4.5").waitFor();
      const fresh = await colour(page, "demo/once");
      await becomes(page, "demo/once", "stale", 40_000);
      await tile(page, "demo/once").getByText("stale", { exact: true }).waitFor();
      const first = await seconds(page, "demo/once");
      await sleep(3200);
      assert.ok(await seconds(page, "demo/once") >= first + 2);
      assert.notEqual(await colour(page, "demo/once"), fresh);
      assert.match(await page.locator("header").innerText(), /Live/);
    }));

  test("where streams are held back the footer says which way it took, and why", () =>
    withPage(undefined, {}, async (board, page) => {
      const proxy = await Faulty.to(board, { buffers: true });
      try {
        await page.goto(`http://127.0.0.1:${proxy.port}`);
        await page.locator("#way").getByText(/^polling · (\d+|–) ms$/).waitFor({ timeout: 60_000 });
        await page.locator("#count").getByText(/by polling: .*silent/).waitFor();
        await saysInHeader(page, /Live, without a stream/);
      } finally {
        proxy.close();
      }
    }));

  test("where only a frame gets through, the page lives by a frame", () =>
    withPage(undefined, {}, async (board, page) => {
      await page.route(/\/events\/(sse|stream|poll)\?/, (route, request) =>
        (/[?&]timeout=0/.test(request.url()) ? route.continue() : route.abort()));
      await page.addInitScript(() => delete window.WebSocket);
      await page.goto(board.url);
      await page.locator("#way").getByText(/^frame · /).waitFor({ timeout: 90_000 });
      await live(page);
      await board.publish("demo/frame", "by a frame");
      await tile(page, "demo/frame").getByText("by a frame").waitFor();
    }));
});

test("a phone on its side sees the state of the connection wherever it has scrolled to", () =>
  withPage(undefined, { viewport: { width: 844, height: 390 } }, async (board, page) => {
    await page.goto(board.url);
    await live(page);
    for (let i = 0; i < 40; i += 1) await board.publish(`demo/x${i}`, i);
    await tile(page, "demo/x39").waitFor();
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight / 2));
    for (const [width, height] of [[667, 375], [844, 390]]) {
      await page.setViewportSize({ width, height });
      await page.evaluate(() => scrollTo(0, document.body.scrollHeight / 2));
      const [words, way, name, header] = await page.evaluate(() =>
        ["#words", "#way", "#name", "header"].map((one) =>
          document.querySelector(one).getBoundingClientRect().toJSON()));
      for (const { top, bottom, height } of [words, way]) {
        assert.ok(height > 8 && top > 0 && bottom <= header.bottom, `${top} to ${bottom}`);
      }
      assert.ok(name.bottom < 4, `${name.bottom} of the name stand there, cut`);
      assert.ok(header.bottom < height / 5, `${header.bottom} of ${height} are the header's`);
      await sleep(300);
      await shot(page, `landscape-${width}`);
    }
  }));

test("the delay is the network's, also where the page has much to do", () =>
  withPage(undefined, {}, async (board, page) => {
    const BUSY_MS = 3000;
    await page.addInitScript((ms) => {
      const { fetch } = window;
      window.fetch = (path, how) => {
        const answer = fetch(path, how);
        if (path !== "topics") return answer;
        answer.then(() => { window.isListed = true; });
        for (const end = performance.now() + ms; performance.now() < end;);
        return answer;
      };
    }, BUSY_MS);
    await page.goto(board.url);
    await live(page);
    const publishing = setInterval(() => board.publish("demo/now", Date.now()), 200);
    try {
      await page.waitForFunction(() => window.isListed);
      await sleep(4000);
      const way = await page.locator("#way").innerText();
      const [, ms] = /^SSE · (\d+) ms$/.exec(way) ?? [];
      assert.ok(ms < BUSY_MS / 4, way);
    } finally {
      clearInterval(publishing);
    }
  }));

test("a switch whose answer is lost is confirmed by what the board tells", () =>
  withPage(undefined, {}, async (board, page) => {
    await board.publish("demo/lamp", false);
    await page.goto(board.url);
    await live(page);
    await page.route("**/topics/demo/lamp", (route) => route.abort());
    const knob = tile(page, "demo/lamp").getByRole("switch");
    await knob.click();
    await saysInHeader(page, /Lamp was perhaps not switched: /);
    const says = (word) =>
      tile(page, "demo/lamp").locator(".note b").getByText(word, { exact: true }).waitFor();
    await says("failed");
    assert.equal(await knob.getAttribute("aria-checked"), "false", "as far as is known");
    // It had been, and only the answer was lost.
    await board.publish("demo/lamp", true);
    await says("confirmed");
    assert.equal(await knob.getAttribute("aria-checked"), "true");
  }));

test("the code that `encke token` draws signs a phone in", async () => {
  const port = await freePort();
  // By a terminal: elsewhere it draws none.
  const command = `${process.env.ENCKE_BIN} token hall --listen 127.0.0.1:${port}`;
  const { stdout, status } = spawnSync("script", ["-qec", command, "/dev/null"],
    { encoding: "utf8", env: { ...process.env, XDG_CONFIG_HOME: "/nonexistent" } });
  assert.equal(status, 0, stdout);
  const rows = stdout.replaceAll("\r", "");
  const config = rows.slice(rows.indexOf("[[token]]"), rows.indexOf("\n\n"));
  const link = read(rows);
  assert.ok(link.startsWith(`http://127.0.0.1:${port}/#token=hall.`), link);
  const board = await Board.start(port, `[server]\nread = []\n${config}\n`);
  const page = await phone(browser);
  try {
    await page.goto(link);
    await live(page);
    await page.locator("#who").getByText("Signed in as hall").waitFor();
    await page.waitForSelector(".tile .number");
  } finally {
    await page.context().close();
    await board.kill();
  }
});
