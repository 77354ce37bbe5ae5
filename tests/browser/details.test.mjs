// encke.js in what happens less often: options, refusals that are none of the board's, a way that
// works again, tabs that cannot share, and what it declares: ENCKE_BIN=path node --test
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { Link, sleep } from "./harness.mjs";
import { BOARD, JSONP, begin, behind, config, count, end, friend, hears, isLive, leads, listen, none,
  numbers, status, turn, until, viewers, withBoard } from "./library.mjs";

const DECLARED = fileURLToPath(new URL("../../src/dashboard/encke.d.ts", import.meta.url));

// A page that is left is kept by the browser, as on a phone; playwright forbids that else.
before(() => begin(["--disable-back-forward-cache"]));
after(end);

test("the ways, in the order to try them", () => withBoard(config(), async (board) => {
  const page = await board.page();
  assert.deepEqual(await page.evaluate(() => window.Encke.transports),
    ["sse", "ws", "stream", "poll", "iframe", "jsonp"]);
}));

test("topics and interval are options, too", () => withBoard(config(), async (board) => {
  const page = await board.page();
  await page.evaluate(() => {
    window.topics = [];
    window.board = new window.Encke("/", { topics: "demo/a", interval: 1 });
    window.board.addEventListener("event", ({ detail }) => window.topics.push(detail));
  });
  await isLive(page);
  for (let value = 1; value <= 50; value += 1) {
    await board.post("/topics", [{ topic: "demo/a", value }, { topic: "demo/b", value }]);
  }
  await until(page, () => window.topics.at(-1)?.value === 50);
  const heard = await page.evaluate(() => window.topics);
  assert.ok(heard.every(({ topic }) => topic === "demo/a"));
  assert.ok(heard.length < 10, `${heard.length} events, at one a second`);
}));

test("more patterns than the board takes are everything, and each tab has its own", () =>
  withBoard(config(), async (board) => {
    const page = await board.page();
    await listen(page, "/");
    await page.evaluate(() => {
      window.many = [];
      for (let i = 0; i < 60; i += 1) {
        window.board.on(`some/rather/long/topic/${i}`, ({ value }) => window.many.push(value));
      }
    });
    await isLive(page);
    await board.publish("some/rather/long/topic/59", "heard");
    await board.publish("some/other/topic", "not");
    await count(board, 0, 20);
    await hears(page, 19);
    assert.deepEqual(await page.evaluate(() => window.many), ["heard"]);
    const second = await page.context().newPage();
    await second.goto(page.url());
    await second.addScriptTag({ url: "/encke.js" });
    await listen(second, "/");
    await hears(second, 19);
    assert.equal(await viewers(board), 1);
  }));

test("a better way that works again is found by itself", () =>
  behind({ buffers: true }, config(), async (board, proxy, page) => {
    await page.clock.install();
    await listen(page, "/", { silence: 1e9 });
    const until = async (transport) => {
      for (let step = 0; step < 400; step += 1) {
        const now = await status(page);
        if (now.state === "live" && now.transport === transport) return now;
        await page.clock.runFor(transport === "sse" ? 5000 : 1000);
        await sleep(50);
      }
      return assert.fail(`never ${transport}: ${JSON.stringify(await status(page))}`);
    };
    assert.match((await until("poll")).why, /silent/);
    await count(board, 0, 100);
    await hears(page, 99);
    proxy.faults.buffers = false;
    assert.equal((await until("sse")).why, "trying it again");
    await count(board, 100, 200);
    await hears(page, 199);
    assert.deepEqual(await page.evaluate(() => window.heard), numbers(0, 200));
  }));

test("tries come later and later, and unevenly", () => withBoard(config(), async (board) => {
  const link = await Link.to(board);
  const page = await board.page(link.url.replace("127.0.0.1", BOARD));
  await listen(page, "/");
  await isLive(page);
  await page.evaluate(() => {
    window.waits = [];
    window.board.addEventListener("state", ({ detail: { state, retryAt } }) =>
      state === "waiting" && window.waits.push(retryAt - Date.now()));
  });
  link.cut();
  await until(page, () => window.waits.length >= 4, undefined, 30_000);
  const waits = await page.evaluate(() => window.waits);
  [500, 1000, 2000, 4000].forEach((most, i) =>
    assert.ok(waits[i] >= most / 2 - 20 && waits[i] <= most, `${i}: ${waits}`));
  link.close();
}));

test("tabs that cannot talk with each other have a connection each", () =>
  withBoard(config(), async (board) => {
    const first = await board.page();
    await first.context().addInitScript(() => { delete window.BroadcastChannel; });
    const all = [first, await first.context().newPage()];
    for (const page of all) {
      await page.goto(`${board.origin}/health`);
      await page.addScriptTag({ url: "/encke.js" });
      await listen(page, "/");
      await isLive(page, "sse");
    }
    assert.equal(await viewers(board), 2);
    await count(board, 0, 100);
    for (const page of all) {
      await hears(page, 99);
      assert.deepEqual(await page.evaluate(() => window.heard), numbers(0, 100));
    }
  }));

test("a tab that was hidden for long and follows has the newest by one request", () =>
  withBoard(config(), async (board) => {
    const first = await board.page();
    const second = await first.context().newPage();
    const pass = async (seconds) => {
      for (let s = 0; s < seconds; s += 1) {
        for (const page of [first, second]) await page.clock.runFor(1000);
      }
    };
    for (const page of [first, second]) {
      await page.clock.install();
      await page.goto(first.url());
      await page.addScriptTag({ url: "/encke.js" });
      await listen(page, "/", { silence: 1e9 });
      await page.clock.runFor(1000);
      await isLive(page);
    }
    await board.publish("demo/count", 0);
    await hears(second, 0);
    await turn(second, true);
    await pass(65);
    assert.equal(await leads(first), true);
    assert.equal((await status(second)).state, "asleep");
    await count(board, 1, 501);
    await turn(second, false);
    await pass(1);
    await hears(second, 500);
    assert.equal(await leads(first), true);
    assert.deepEqual(await second.evaluate(() => window.heard), [0, 500]);
  }));

test("a glance at another page costs no connection", () => withBoard(config(), async (board) => {
  const page = await board.page();
  await listen(page, "/");
  await isLive(page);
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await turn(page, true);
  await sleep(1500);
  await turn(page, false);
  await board.publish("demo/count", 1);
  await hears(page, 1);
  assert.deepEqual(asked, []);
}));

test("back to a page that was left goes on where it was", () => withBoard(config(), async (board) => {
  // Of what may not be stored, nothing is kept: so not /health.
  const page = await board.page(board.origin, "/encke.d.ts");
  await listen(page, "/");
  await isLive(page);
  await board.publish("demo/count", 0);
  await hears(page, 0);
  await page.goto(`${friend}/`);
  await none(board);
  await count(board, 1, 20);
  await page.goBack({ waitUntil: "commit" });
  assert.equal(await page.evaluate(() => Boolean(window.board)), true, "the browser kept it");
  await isLive(page);
  await hears(page, 19);
  assert.deepEqual(await page.evaluate(() => window.heard), numbers(0, 20));
}));

test("a board that goes down says so", () => withBoard(config(), async (board) => {
  const page = await board.page();
  await listen(page, "/");
  await isLive(page);
  const ended = board.drain();
  await until(page, () => window.said.some(({ state, why }) => state === "waiting"
    && why === "the board is going down"));
  await ended;
}));

test("when to come again is obeyed by who looks away and back, too", () =>
  withBoard(config("read = []"), async (board) => {
    const page = await board.page();
    let asked = 0;
    await page.route("**/events/**", (route) => {
      asked += 1;
      return route.fulfill({ status: 429, headers: { "Retry-After": "4" }, body: "later" });
    });
    await listen(page, "/", { transport: "poll" });
    await until(page, () => window.board.state === "waiting");
    const before = asked;
    for (const isHidden of [true, false, true, false]) {
      await turn(page, isHidden);
      await sleep(500);
    }
    assert.equal(asked, before);
    for (let tries = 0; asked === before; tries += 1) {
      assert.ok(tries < 100, "it never comes again");
      await sleep(100);
    }
  }));

test("a portal's refusal is not the board's", () =>
  behind({}, config(), async (board, proxy, page) => {
    await listen(page, "/");
    await isLive(page);
    proxy.faults.status = 403;
    proxy.server.closeAllConnections();
    await until(page, () => window.board.state === "waiting");
    await board.publish("demo/count", 1);
    await sleep(1500);
    assert.deepEqual(await page.evaluate(() =>
      window.said.filter(({ type }) => type === "error")), []);
    proxy.faults.status = 0;
    await isLive(page);
    await hears(page, 1);
  }));

test("two tabs of a site that has JSONP alone share it, and leave nobody waiting", () =>
  withBoard(config("", JSONP), async (board) => {
    await board.publish("demo/late", "newest");
    const page = await board.page(friend.replace("pages.home", "stranger"), "/");
    const second = await page.context().newPage();
    await second.goto(page.url());
    await second.addScriptTag({ url: `${board.origin}/encke.js` });
    for (const one of [page, second]) {
      await listen(one, board.origin, { transport: "jsonp" });
      await isLive(one, "jsonp");
    }
    await count(board, 0, 40);
    for (const one of [page, second]) {
      await hears(one, 39);
      assert.deepEqual(await one.evaluate(() => window.heard), numbers(0, 40));
    }
    assert.equal(await viewers(board), 1);
    for (const one of [page, second]) {
      await one.evaluate(() => window.board.on("demo/late", ({ value }) => { window.late = value; }));
      await until(one, () => window.late === "newest");
    }
    // A removed script's poll would stay; each reader has one.
    for (let i = 0; i < 8; i += 1) {
      await page.evaluate((i) => window.board.on(`demo/${i}`, () => {}), i);
      await sleep(100);
    }
    await board.publish("demo/count", 40);
    for (const one of [page, second]) await hears(one, 40);
    assert.equal(await viewers(board), 1);
    await page.close();
    await count(board, 41, 80);
    await hears(second, 79);
    assert.deepEqual(await second.evaluate(() => window.heard), numbers(0, 80));
  }));

test("what is declared for TypeScript is what there is", () => withBoard(config(), async (board) => {
  const use = `
import Client, { Encke, BoardEvent, Options } from "./encke";
const options: Options = { topics: ["cpu/#"], transport: ["sse", "poll"], interval: 2, share: false };
const board: Client = new Encke("http://pi.local:8080", options);
const end: () => void = board.on<number>("cpu/+", (event: BoardEvent<number>) => event.value + 1);
board.addEventListener("lost", ({ detail }) => detail.count.toFixed() + detail.message);
board.addEventListener("state", ({ detail }) => detail.retryAt - Date.now());
board.publish("a", { x: [1] }).then(({ id, subscribers }) => id + subscribers.toFixed());
if (board.state === "waiting" || board.transport === "") end();
new window.Encke("/", { token: "a.b", silence: 1, push: "x" }).close();
// @ts-expect-error
board.on(1, () => {});
// @ts-expect-error
board.state = "live";
`;
  const host = ts.createCompilerHost({});
  const read = host.getSourceFile;
  const files = { "/use.ts": use, "/encke.d.ts": readFileSync(DECLARED, "utf8") };
  host.getSourceFile = (name, ...rest) => (files[name]
    ? ts.createSourceFile(name, files[name], ts.ScriptTarget.ES2020, true) : read(name, ...rest));
  const exists = host.fileExists;
  host.fileExists = (name) => name in files || exists(name);
  const program = ts.createProgram(["/use.ts"], { strict: true, noEmit: true, types: [],
    target: ts.ScriptTarget.ES2020, module: ts.ModuleKind.ESNext, moduleResolution:
    ts.ModuleResolutionKind.Bundler }, host);
  const told = ts.getPreEmitDiagnostics(program);
  assert.deepEqual(told.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, " ")), []);

  const [declared] = program.getSourceFile("/encke.d.ts").statements
    .filter((one) => ts.isClassDeclaration(one));
  const names = (isStatic) => declared.members.filter((one) => one.name
    && isStatic === Boolean(ts.getCombinedModifierFlags(one) & ts.ModifierFlags.Static))
    .map((one) => one.name.text);
  const page = await board.page();
  await page.addScriptTag({ url: "/encke-old.js" });
  const missing = await page.evaluate(([own, statics]) => {
    const board = new window.Encke();
    return [own.filter((name) => !(name in board)),
      statics.filter((name) => !(name in window.Encke))];
  }, [names(false), names(true)]);
  assert.deepEqual(missing, [[], []]);
  assert.ok(names(false).length > 8 && names(true).length === 4);
}));
