// A page left open while fifty topics change ten times a second: does its memory grow?
//
// ENCKE_BIN=path node soak.mjs MINUTES [TABLE]: two tabs, the board's page and a page with the
// library, each looked at after its garbage was collected. Ends with 1 if one of them grew after
// its first minute.
import { Board, launch, phone, sleep } from "./harness.mjs";

const TOPICS = 50;
const EVERY_MS = 100;
const LOOK_MS = 15_000;
/** What a heap may differ by: it is not counted to the byte. */
const GROWTH_BYTES_MAX = 256 * 1024;

const minutes = Number(process.argv[2] ?? 20);
const board = await Board.start(undefined, `[sources]\nexclude = ["#"]\n`);
const browser = await launch();

/** A tab, and how large its heap is now. */
async function open(path, begin) {
  const page = await phone(browser);
  await page.goto(board.url + path);
  await begin(page);
  const wire = await page.context().newCDPSession(page);
  await wire.send("HeapProfiler.enable");
  // The least of three: what is on its way to be drawn while a busy machine looks is not kept.
  const look = async () => {
    let least = Infinity;
    for (let times = 0; times < 3; times += 1) {
      await wire.send("HeapProfiler.collectGarbage");
      least = Math.min(least, (await wire.send("Runtime.getHeapUsage")).usedSize);
      await sleep(100);
    }
    return least;
  };
  return { name: path, page, look, sizes: [] };
}

let isOver = false;
const publishing = (async () => {
  let next = Date.now();
  for (let turn = 0; !isOver; turn += 1) {
    await board.post("/topics", Array.from({ length: TOPICS }, (_, i) => ({
      topic: `soak/t${i}`, value: Math.round(1000 * Math.sin(turn / 10 + i)) / 10 })));
    next += EVERY_MS;
    await sleep(Math.max(0, next - Date.now()));
  }
})();

const tabs = [
  await open("/", (page) => page.waitForSelector("[data-state=live]")),
  await open("/health", async (page) => {
    await page.addScriptTag({ url: "/encke.js" });
    await page.evaluate(() => {
      window.events = 0;
      window.board = new window.Encke();
      window.board.on("soak/#", () => { window.events += 1; });
    });
  }),
];
const began = Date.now();
for (let at = 1; at <= (minutes * 60_000) / LOOK_MS; at += 1) {
  await sleep(Math.max(0, began + at * LOOK_MS - Date.now()));
  for (const tab of tabs) tab.sizes.push(await tab.look());
  const kib = tabs.map(({ sizes }) => (sizes.at(-1) / 1024).toFixed(0));
  console.log(`${((at * LOOK_MS) / 60_000).toFixed(2)} min: ${kib.join(" and ")} KiB`);
}
isOver = true;
await publishing;
const events = await tabs[1].page.evaluate(() => window.events);
const wanted = (TOPICS * minutes * 60_000) / EVERY_MS;
let bad = 0;
const check = (is, words) => {
  console.log(`${is ? "ok" : "NOT OK"}: ${words}`);
  bad += is ? 0 : 1;
};
// What is on its way to be drawn is there or not: the least of a minute counts.
const looks = 60_000 / LOOK_MS;
for (const { name, sizes, page } of tabs) {
  const [first, last] = [sizes.slice(0, looks), sizes.slice(-looks)].map((some) => Math.min(...some));
  const growth = last - first;
  check(growth <= GROWTH_BYTES_MAX, `${name}: ${(first / 1024).toFixed(0)} KiB in the first minute, \
${(last / 1024).toFixed(0)} KiB in the last: ${(growth / 1024).toFixed(0)} KiB more`);
  check(page.faults.length === 0, `${name}: no fault ${page.faults.slice(0, 3).join("; ")}`);
}
check(events >= wanted * 0.9, `${events} events were heard, of about ${wanted}`);
console.log(`soak: ${5 - bad} passed, ${bad} failed`);
await browser.close();
await board.kill();
process.exit(bad ? 1 : 0);
