// The stream that is opened while the page is still on its way, in a real browser against the real
// binary behind a link that holds the rest of the page back: ENCKE_BIN=path node --test
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Faulty } from "./faulty.mjs";
import { Board, launch, live, phone, sleep, tile } from "./harness.mjs";

const NAME = "board.test"; // of no address here but by this rule
const COUNT = 40;

let browser;
let board;

before(async () => {
  browser = await launch([`--host-resolver-rules=MAP ${NAME} 127.0.0.1`]);
  board = await Board.start(undefined, `[server]\nhosts = ["${NAME}"]\nheartbeat = 1\n`);
});

after(async () => {
  await board?.kill();
  await browser?.close();
});

/** Runs `act` with a link that holds back the rest of the page until `go`, a function that makes
 *  tabs of one browser, and `go`. Nothing may have gone wrong in a tab afterwards. */
async function withLink(act) {
  let go;
  const link = await Faulty.to(board, { holds: new Promise((done) => { go = done; }) });
  const first = await phone(browser);
  const faults = [];
  const url = `http://${NAME}:${link.port}/`;
  const another = async () => {
    const tab = await first.context().newPage();
    tab.on("pageerror", (error) => faults.push(String(error)));
    return tab;
  };
  try {
    await act({ link, first, another, url, go });
    assert.deepEqual([...first.faults, ...faults], []);
  } finally {
    await first.context().close();
    link.close();
  }
}

const isStream = (path) => path.startsWith("/events/sse");
const streams = (link) => link.open.filter(isStream).length;
const asked = (link) => link.asked.filter(isStream).length;

async function eventually(what, message) {
  for (let tries = 0; tries < 100; tries += 1) {
    if (what()) return;
    await sleep(100);
  }
  assert.fail(message);
}

test("the first bytes of the page open the stream, and nothing of it is lost", () =>
  withLink(async ({ link, first, url, go }) => {
    await first.route("**/topics", (route) => route.abort()); // the stream alone counts
    await first.goto(url, { waitUntil: "commit" });
    await eventually(() => streams(link) === 1, "the stream waits for the rest of the page");
    for (let i = 0; i < COUNT; i += 1) await board.publish(`early/${i}`, i);
    await sleep(1500); // a heartbeat, too, that nobody listens to yet
    assert.equal(await first.locator(".tile").count(), 0, "the rest of the page is not there");
    go();
    await live(first);
    for (let i = 0; i < COUNT; i += 1) {
      await tile(first, `early/${i}`).locator(".number").getByText(String(i), { exact: true }).waitFor();
    }
    await board.publish("early/0", 41);
    await tile(first, "early/0").getByText("41", { exact: true }).waitFor();
    assert.equal(asked(link), 1, "the library took over what was there");
    assert.equal(await first.locator("#notice").isVisible(), false, "nothing was missed");
    assert.equal(await first.evaluate(() => /native code/.test(window.EventSource)), true);
  }));

test("one that was cut meanwhile is no news, and no reason to try by itself", () =>
  withLink(async ({ link, first, url, go }) => {
    await first.goto(url, { waitUntil: "commit" });
    await eventually(() => streams(link) === 1, "the stream waits for the rest of the page");
    await board.publish("early/cut", "before");
    await sleep(300);
    link.cut(isStream);
    await board.publish("early/cut", "meanwhile");
    await sleep(6000); // longer than any `retry` of the board
    assert.equal(asked(link), 1, "the browser tried by itself");
    go();
    await live(first);
    await tile(first, "early/cut").getByText("meanwhile", { exact: true }).waitFor();
    assert.equal(asked(link), 2);
    assert.equal(await first.locator("#notice").isVisible(), false, "nothing was missed");
  }));

test("a second tab, whose values come by the first one's stream, opens none", () =>
  withLink(async ({ link, first, another, url, go }) => {
    go();
    await first.goto(url);
    await live(first);
    const second = await another();
    await second.goto(url);
    await live(second);
    await board.publish("early/both", "both");
    for (const page of [first, second]) {
      await tile(page, "early/both").getByText("both", { exact: true }).waitFor();
    }
    assert.equal(asked(link), 1);
  }));

test("one that is not wanted after all is closed", () =>
  withLink(async ({ link, first, another, url, go }) => {
    await first.goto(url, { waitUntil: "commit" });
    await eventually(() => streams(link) === 1, "the stream waits for the rest of the page");
    // Meanwhile another tab has the lead.
    const second = await another();
    await second.goto(`${url}health`);
    await second.addScriptTag({ url: `${url}encke.js` });
    await second.evaluate(() => { window.board = new window.Encke("/"); });
    await second.waitForFunction(() => window.board.state === "live" && window.board.leads);
    assert.equal(streams(link), 2);
    go();
    await live(first);
    await board.publish("early/late", "late");
    await tile(first, "early/late").getByText("late", { exact: true }).waitFor();
    await eventually(() => streams(link) === 1, "the stream that nobody wanted stays open");
    assert.equal(asked(link), 2);
  }));

test("where another way worked before, no stream is tried first", () =>
  withLink(async ({ link, first, url, go }) => {
    go();
    await first.goto(`${url}health`);
    await first.evaluate((here) => localStorage.setItem(`encke way ${here}`, "stream"), url);
    await first.goto(url);
    await live(first);
    assert.equal(asked(link), 0);
  }));
