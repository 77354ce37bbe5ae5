// How soon and how good the first page is, measured: on a slow link with a slow processor, and by
// Lighthouse. ENCKE_BIN=path node --test
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import lighthouse from "lighthouse";
import { Board, freePort, launch, live, phone, sleep } from "./harness.mjs";

const NAME = "board.test"; // of no address here but by this rule
// A computer that has other work is a slower phone than is meant, and never a faster one: there
// are more loads where it took too long, and one has to be quick enough.
const FIRST_VALUE_MS = 1500;
// To look at a page by its tools costs such a phone a tenth of a second and more.
const UNDISTURBED_MS = 2500;
const RUNS = 3;
const RUNS_MAX = 9;
// Slow 3G as it is measured in the field: 400 ms for a round trip, 400 kbit/s each way. Chromium
// adds the latency to each request, and none to a connection.
const SLOW_3G = { offline: false, latency: 400, downloadThroughput: 5e4, uploadThroughput: 5e4 };
const CPU_TIMES = 6; // slower: a cheap phone

const SCORE_MIN = 0.95;
const LOOKS_MAX = 3;
const CATEGORIES = ["accessibility", "best-practices", "performance"];

let browser;
let board;
let port; // of the browser, for Lighthouse

before(async () => {
  port = await freePort();
  browser = await launch([`--host-resolver-rules=MAP ${NAME} 127.0.0.1`,
    `--remote-debugging-port=${port}`]);
  board = await Board.start(undefined, `[server]\nhosts = ["${NAME}"]\n`);
});

after(async () => {
  await board?.kill();
  await browser?.close();
});

/** One cold load: when the document was there, the stream was asked for and the first value was
 *  painted, in ms since it began; and what was asked for before that. */
async function load(times) {
  const page = await phone(browser);
  try {
    const tab = await page.context().newCDPSession(page);
    await tab.send("Network.enable");
    await tab.send("Network.emulateNetworkConditions", SLOW_3G);
    await tab.send("Emulation.setCPUThrottlingRate", { rate: times });
    const asked = [];
    tab.on("Network.requestWillBeSent", ({ request, wallTime }) =>
      request.url.startsWith("data:") || asked.push([new URL(request.url), wallTime * 1000]));
    await page.goto(`http://${NAME}:${board.port}`, { waitUntil: "commit" });
    await sleep(UNDISTURBED_MS);
    await live(page);
    const [start, document, value] = await page.evaluate(() => [performance.timeOrigin,
      performance.getEntriesByType("navigation")[0].responseEnd,
      performance.getEntriesByName("first value")[0].startTime]);
    assert.ok(await page.locator(".tile .number:not(:empty)").count() > 0, "there is no value");
    assert.deepEqual(page.faults, []);
    const [, [, stream]] = asked;
    const before = asked.filter(([, at]) => at - start < value).map(([url]) => url.pathname);
    return { document, stream: stream - start, value, before };
  } finally {
    await page.context().close();
  }
}

test("on slow 3G and a slow phone, the first value takes the document and the stream", async () => {
  const values = [];
  const isMet = () => values.some((ms) => ms <= FIRST_VALUE_MS);
  while (values.length < RUNS || (values.length < RUNS_MAX && !isMet())) {
    const { before, ...times } = await load(CPU_TIMES);
    const words = Object.entries(times).map(([name, ms]) => `${name} ${Math.round(ms)} ms`);
    console.log(`processor ${CPU_TIMES} times slower: ${words.join(", ")}`);
    assert.deepEqual(before, ["/", "/events/sse"]);
    values.push(times.value);
  }
  const median = values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
  console.log(`first value: median ${Math.round(median)} ms; at most ${FIRST_VALUE_MS} are wanted`);
  assert.ok(isMet(), `the first value took ${values.map(Math.round)} ms`);
});

/** What Lighthouse, as it is set for phones, says of `url`: [category, score] and what was lost. */
async function judged(url) {
  const { lhr } = await lighthouse(url, { port, logLevel: "error", onlyCategories: CATEGORIES });
  assert.equal(lhr.runtimeError, undefined);
  const lost = Object.values(lhr.audits).filter(({ score }) => score !== null && score < 1);
  return {
    scores: CATEGORIES.map((name) => [name, lhr.categories[name].score]),
    lost: lost.map(({ id, score, displayValue, details }) => `${id} ${score} ${displayValue ?? ""} `
      + JSON.stringify(details?.items ?? "").slice(0, 400)).join("\n"),
  };
}

async function isGood(url) {
  // What else this computer does can only make it slower: one look of three is enough.
  for (let looks = 1; ; looks += 1) {
    const { scores, lost } = await judged(url);
    console.log(`${scores.join(" ")}\n${lost}`);
    const bad = scores.filter(([, score]) => score < SCORE_MIN).map(([name]) => name);
    if (bad.length === 0) return;
    const mayBeNoise = bad.join() === "performance" && looks < LOOKS_MAX;
    assert.ok(mayBeNoise, `${bad} of at least ${SCORE_MIN}: ${scores.join(" ")}\n${lost}`);
  }
}

// By its address, which browsers trust as they trust https: only that can be had without a
// certificate, and best practices ask for it.
test("Lighthouse has next to nothing against it", () => isGood(board.url));

test("nor against it when it asks for a token", async () => {
  const closed = await Board.start(undefined, "[server]\nread = []\n");
  try {
    await isGood(closed.url);
  } finally {
    await closed.kill();
  }
});
