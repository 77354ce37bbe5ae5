// What the tests of encke.js stand on: boards and pages with names that are not localhost, by plain
// http, as at home; and what a page has heard.
import { createHash } from "node:crypto";
import http from "node:http";
import assert from "node:assert/strict";
import { Faulty } from "./faulty.mjs";
import { Board, launch, phone, sleep } from "./harness.mjs";

export const BOARD = "board.home.test";
let browser;
let pages; // somebody's web server, whose pages load the board's library
export let friend; // the origin of its pages, which may read the board

/** Before all tests: the browser and the other site. `without` as for `launch`. */
export async function begin(without = []) {
  browser = await launch(["--host-resolver-rules=MAP *.test 127.0.0.1"], without);
  pages = http.createServer((asked, answer) => {
    answer.setHeader("Content-Type", "text/html; charset=utf-8");
    answer.end("<!doctype html><title>page</title><body>");
  });
  pages.listen(0, "127.0.0.1");
  await new Promise((done) => pages.once("listening", done));
  friend = `http://pages.home.test:${pages.address().port}`;
}

export async function end() {
  await browser?.close();
  pages?.close();
}

export const newPage = () => phone(browser);

export const config = (server = "", more = "") => `[server]\nhosts = ["${BOARD}"]\ncors = ["${friend}"]
heartbeat = 1\n${server}\n[sources]\nexclude = ["#"]\n${more}`;
export const SECRET = "q7Zk2vN0w4";
export const TOKEN = `[[token]]\nname = "phone"\nread = ["#"]\nwrite = ["demo/#"]
sha256 = "${createHash("sha256").update(SECRET).digest("hex")}"\n`;
export const JSONP = `[jsonp]\ntopics = ["demo/#"]\n`;

export async function withBoard(settings, act) {
  const board = await Board.start(undefined, settings);
  board.origin = `http://${BOARD}:${board.port}`;
  const opened = [];
  /** A page of `origin` that has loaded the library as pages do. */
  board.page = async (origin = board.origin, path = "/health") => {
    const page = await phone(browser);
    opened.push(page);
    await page.goto(origin + path);
    await page.addScriptTag({ url: `${board.origin}/encke.js` });
    return page;
  };
  try {
    await act(board);
  } finally {
    await Promise.all(opened.map((page) => page.context().close()));
    await board.kill();
  }
}

/** Listens in a page; what it hears is kept there. */
export const listen = (page, url, options = {}, pattern = "demo/count") =>
  page.evaluate(([url, options, pattern]) => {
    window.heard = [];
    window.said = [];
    window.board = new window.Encke(url, options);
    for (const type of ["state", "lost", "reset", "busy", "error"]) {
      window.board.addEventListener(type, ({ detail }) => window.said.push({ type, ...detail }));
    }
    window.board.on(pattern, (event) => window.heard.push(event.value));
  }, [url, options, pattern]);

export const until = (page, what, argument, timeout = 20_000) =>
  page.waitForFunction(what, argument, { polling: 50, timeout });

export const isLive = (page, transport) => until(page, (transport) => window.board.state === "live"
  && (!transport || window.board.transport === transport), transport);

export const hears = (page, value) => until(page,
  (text) => JSON.stringify(window.heard.at(-1)) === text, JSON.stringify(value));

/** Publishes `from`, `from + 1`, .. one by one and in small batches, with pauses in between. */
export async function count(board, from, to) {
  for (let value = from; value < to; value += 20) {
    const end = Math.min(value + 20, to);
    await board.post("/topics", Array.from({ length: end - value },
      (_, i) => ({ topic: "demo/count", value: value + i })));
    if (value % 100 === 0) await sleep(20);
  }
}

export const numbers = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

export const status = (page) => page.evaluate(() => {
  const { state, transport, why } = window.board;
  return { state, transport, why };
});

/** Ten tabs of one browser; the first one leads. */
export async function tabs(board, count = 10, origin = board.origin) {
  const first = await board.page(origin);
  const all = [first];
  await listen(first, "/");
  await isLive(first);
  while (all.length < count) {
    const page = await first.context().newPage();
    await page.goto(first.url());
    await page.addScriptTag({ url: "/encke.js" });
    await listen(page, "/");
    await isLive(page);
    all.push(page);
  }
  return all;
}

export const viewers = async (board) => {
  const text = await (await fetch(`${board.url}/metrics`)).text();
  const rows = text.match(/^encke_viewers\{.*\} \d+$/gm);
  return rows.reduce((sum, row) => sum + Number(row.split(" ").pop()), 0);
};

/** Until the board holds nobody. */
export async function none(board) {
  for (let tries = 0; await viewers(board) > 0; tries += 1) {
    assert.ok(tries < 100, "somebody is still held");
    await sleep(50);
  }
}

export const leads = (page) => page.evaluate(() => Boolean(window.board.leads));

/** As a browser tells a page that it is hidden, or seen again. */
export const turn = (page, isHidden) => page.evaluate((isHidden) => {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}, isHidden);

/** A page that reaches the board by a proxy with faults, and what it does there. */
export const behind = (faults, settings, act) => withBoard(settings, async (board) => {
  const proxy = await Faulty.to(board, faults);
  try {
    const page = await board.page(`http://${BOARD}:${proxy.port}`);
    await act(board, proxy, page);
    // What the browser itself notes about a proxy's answers is not the page's fault.
    const isProxys = /a status of (502|403)/;
    assert.deepEqual(page.faults.filter((fault) => !isProxys.test(fault)), []);
  } finally {
    proxy.close();
  }
});
