// The first page in a real browser against the real binary: ENCKE_BIN=path node --test
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Board, Link, launch, live, phone, saysInHeader, shot, sleep, tile } from "./harness.mjs";

let browser;
let board;

before(async () => {
  browser = await launch();
  board = await Board.start();
});

after(async () => {
  await board?.kill();
  await browser?.close();
});

/** Runs `act` with a fresh page; afterwards nothing may have gone wrong inside it. */
async function withPage(options, act) {
  const page = await phone(browser, options);
  try {
    await act(page);
    assert.deepEqual(page.faults, []);
  } finally {
    await page.context().close();
  }
}

test("live values change, and only the board is asked", () =>
  withPage({}, async (page) => {
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    await page.goto(board.url);
    await live(page);
    await page.waitForSelector(".tile .number");
    const numbers = () => [...document.querySelectorAll(".number")].map((n) => n.textContent);
    const first = await page.evaluate(numbers);
    await page.waitForFunction(
      (old) => [...document.querySelectorAll(".number")].some((n, i) => n.textContent !== old[i]),
      first,
      { timeout: 15_000 },
    );
    assert.equal(await page.title(), "127.0.0.1");
    await page.locator("#way").getByText(/^SSE · \d{1,3} ms$/).waitFor();
    const paths = asked.filter((url) => !url.startsWith("data:")).map((url) => {
      assert.ok(url.startsWith(board.url), `asked elsewhere: ${url}`);
      return new URL(url).pathname;
    });
    assert.deepEqual(paths.slice(0, 2), ["/", "/events/sse"]);
    assert.deepEqual([...new Set(paths.slice(2))].sort(), ["/session", "/topics"]);
    await sleep(3000);
    await shot(page, "light");
  }));

test("a published value shows, changes, and goes when it is deleted", () =>
  withPage({}, async (page) => {
    await page.goto(board.url);
    await live(page);
    await board.publish("demo/x", 41.5);
    await tile(page, "demo/x").getByText("41.5").waitFor();
    await board.publish("demo/x", 42);
    await tile(page, "demo/x").getByText("42.0").waitFor(); // decimals stay: numbers do not dance
    await board.publish("demo/x", "open");
    await tile(page, "demo/x").getByText("open").waitFor();
    await board.publish("demo/x", true);
    await tile(page, "demo/x").getByText("On", { exact: true }).waitFor();
    await fetch(`${board.url}/topics/demo/x`, { method: "DELETE" });
    await tile(page, "demo/x").getByText("gone").waitFor();
    await tile(page, "demo/x").waitFor({ state: "detached", timeout: 12_000 });
  }));

test("values and labels stay text", () =>
  withPage({}, async (page) => {
    const value = "<img src=x onerror=alert(1)>";
    const label = "<b id=bold>label</b>";
    await page.route("**/topics", async (route) => {
      const answer = await route.fetch();
      const list = await answer.json();
      for (const topic of list.topics) if (topic.event.topic === "demo/text") topic.label = label;
      await route.fulfill({ json: list });
    });
    await page.goto(board.url);
    await live(page);
    await board.publish("demo/text", value);
    await tile(page, "demo/text").getByText(value).waitFor();
    await tile(page, "demo/text").getByText(label).waitFor();
    assert.equal(await page.locator("img:not(#qr), #bold").count(), 0);
  }));

test("the longest names and values fit a narrow phone", () =>
  withPage({ viewport: { width: 320, height: 640 } }, async (page) => {
    const segment = "abcdefghijklmnopqrstuvwxyz_01234"; // 32, the longest
    const topics = [`${segment}/${segment}/abcdefghijklmnopqrstuvwxyz-0`, "demo/long", "demo/wide"];
    await page.goto(board.url);
    await live(page);
    await board.publish(topics[0], -123456.789);
    await board.publish(topics[1], "x".repeat(2000));
    await board.publish(topics[2], { a: [1, 2, 3], b: "y".repeat(500) });
    for (const topic of topics) await tile(page, topic).waitFor();
    const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.equal(excess, 0);
    await shot(page, "narrow");
    for (const topic of topics) await fetch(`${board.url}/topics/${topic}`, { method: "DELETE" });
  }));

test("without a script there is a table", () =>
  withPage({ javaScriptEnabled: false }, async (page) => {
    await board.publish("demo/plain", "a plain <value>");
    await page.goto(board.url);
    await page.waitForURL(/\?plain/);
    await page.locator("table").getByText("demo/plain").waitFor();
    await page.locator("table").getByText("a plain <value>").waitFor();
    await shot(page, "plain");
  }));

test("a board that dies is missed, and one that restarts is said so", () =>
  withPage({ colorScheme: "dark" }, async (page) => {
    let mortal = await Board.start();
    try {
      await page.goto(mortal.url);
      await live(page);
      await mortal.publish("demo/before", 1);
      await tile(page, "demo/before").waitFor();
      await mortal.kill();
      const words = /Disconnected, trying again.* — showing values from \d+ s ago/;
      await saysInHeader(page, words, 5000);
      await page.locator("#way").getByText("SSE · – ms").waitFor();
      await sleep(1500);
      await shot(page, "disconnected");
      mortal = await Board.start(mortal.port);
      await saysInHeader(page, /The board restarted/, 20_000);
      await live(page);
      await mortal.publish("demo/after", 2);
      await tile(page, "demo/after").waitFor();
      await tile(page, "demo/before").waitFor({ state: "detached", timeout: 15_000 });
      await shot(page, "restarted");
    } finally {
      await mortal.kill();
    }
  }));

test("a short gap is replayed without a word, a long one is counted", () =>
  withPage({}, async (page) => {
    const link = await Link.to(board);
    try {
      await page.goto(link.url);
      await live(page);
      link.cut();
      await saysInHeader(page, /Disconnected/);
      await board.publish("demo/gap", "short");
      link.mend();
      await tile(page, "demo/gap").getByText("short").waitFor();
      await live(page);
      assert.equal(await page.locator("#notice").isVisible(), false);

      link.cut();
      await saysInHeader(page, /Disconnected/);
      const value = "x".repeat(180); // about 3 MB in all: more than any ring we ship
      await board.publishMany(Array.from({ length: 10_000 }, () => ({ topic: "demo/lap", value })));
      await board.publish("demo/gap", "long");
      link.mend();
      await saysInHeader(page, /Missed (up to )?[\d,]+ events? while away/, 20_000);
      await tile(page, "demo/gap").getByText("long").waitFor();
      await live(page);
      await shot(page, "missed");
    } finally {
      link.close();
    }
  }));

test("a link that went silent is noticed, and at once after sleep", () =>
  withPage({}, async (page) => {
    const link = await Link.to(board);
    try {
      await page.clock.install();
      await page.goto(link.url);
      await live(page);
      link.silent();
      await page.clock.runFor(40_000);
      await saysInHeader(page, /Connection went silent, trying again/);
      link.mend();
      await live(page);

      link.silent();
      await page.clock.fastForward(25_000);
      await saysInHeader(page, /Waking up, trying again — showing values from 2\d s ago/);
      link.mend();
      await board.publish("demo/sleep", "awake");
      await tile(page, "demo/sleep").getByText("awake").waitFor({ timeout: 9000 });
    } finally {
      link.close();
    }
  }));

test("a full board and one that goes down are said so, and obeyed", () =>
  withPage({}, async (page) => {
    for (const [reason, words] of [["full", /All places for viewers are taken/],
      ["draining", /The board is going down, trying again in 2 s/]]) {
      let asked = 0;
      await page.route("**/events/sse*", (route) => {
        asked += 1;
        return route.fulfill({
          contentType: "text/event-stream",
          body: `retry: 1900\nevent: busy\ndata: {"reason":"${reason}","retry":1900}\n\n`,
        });
      });
      await page.goto(board.url);
      await saysInHeader(page, words);
      await sleep(1000);
      assert.equal(asked, 1, "asked again before the board wanted it");
      await page.unroute("**/events/sse*");
      await live(page);
    }
  }));

test("without EventSource it polls", () =>
  withPage({}, async (page) => {
    const link = await Link.to(board);
    try {
      await page.addInitScript(() => delete window.EventSource);
      await page.goto(link.url);
      await live(page);
      await board.publish("demo/poll", "one");
      await tile(page, "demo/poll").getByText("one").waitFor();
      link.cut();
      await saysInHeader(page, /Disconnected/);
      await board.publish("demo/poll", "two");
      link.mend();
      await tile(page, "demo/poll").getByText("two").waitFor();
      await live(page);
    } finally {
      link.close();
    }
  }));

test("tabs share a connection, whichever is closed", () =>
  withPage({}, async (page) => {
    const held = async () => (await board.publish("demo/tabs", Date.now())).subscribers;
    const before = await held();
    await page.goto(board.url);
    await live(page);
    const second = await page.context().newPage();
    await second.goto(board.url);
    await live(second);
    assert.equal(await held(), before + 1);
    await board.publish("demo/tabs", "both");
    for (const one of [page, second]) await tile(one, "demo/tabs").getByText("both").waitFor();
    await page.goto("about:blank");
    await board.publish("demo/tabs", "one");
    await tile(second, "demo/tabs").getByText("one").waitFor();
    await live(second);
    await page.goto(board.url);
    await live(page);
    await second.close();
    await board.publish("demo/tabs", "the other");
    await tile(page, "demo/tabs").getByText("the other").waitFor();
  }));

test("it looks right on a desk and in the dark", () =>
  withPage({ viewport: { width: 1280, height: 800 }, deviceScaleFactor: 1 }, async (page) => {
    await page.goto(board.url);
    await live(page);
    await sleep(2000);
    await shot(page, "desktop");
    await page.emulateMedia({ colorScheme: "dark" });
    await shot(page, "desktop-dark");
    const small = await page.$$eval("footer button, nav a", (nodes) =>
      nodes.filter((node) => node.getBoundingClientRect().height < 44).map((n) => n.textContent));
    assert.deepEqual(small, [], "smaller than a finger");
  }));
