// Moving pictures in a real browser against the real binary: ENCKE_BIN=path node --test
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { deflateSync } from "node:zlib";
import { Board, launch, phone, shot } from "./harness.mjs";
import { chunk } from "./png.mjs";

const SIDE = 48;

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

/** A PNG of one colour; not compressed if it is to be large. */
function png([red, green, blue], side = SIDE, level = 9) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  header.set([8, 2], 8); // eight bits each of red, green, blue
  const row = Buffer.from([0, ...Array.from({ length: side }, () => [red, green, blue]).flat()]);
  const rows = deflateSync(Buffer.concat(Array.from({ length: side }, () => row)), { level });
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", header),
    chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0))]);
}

async function publish(topic, body, type = "image/png") {
  const answer = await fetch(`${board.url}/topics/${topic}`, {
    method: "PUT", headers: { "Content-Type": type }, body,
  });
  assert.equal(answer.status, 200, await answer.clone().text());
  return answer.json();
}

/** Runs `act` with a fresh page; afterwards nothing may have gone wrong inside it. */
async function withPage(act) {
  const page = await phone(browser);
  try {
    await act(page);
    // A page without an icon of its own asks for one that is not there.
    assert.deepEqual(page.faults.filter((fault) => !/404/.test(fault)), []);
  } finally {
    await page.context().close();
  }
}

/** Shows a moving picture of `topics` on a page of the board that has no content policy. */
async function show(page, topics) {
  await page.goto(`${board.url}/health`);
  await page.evaluate((query) => {
    const image = new Image(240, 240);
    image.src = `/events/multipart?topics=${query}`;
    document.body.replaceChildren(image);
  }, topics);
}

/** Waits until the picture on the page has this colour, as a canvas reads it. */
const becomes = (page, colour) => page.waitForFunction((want) => {
  const image = document.querySelector("img");
  if (!image.naturalWidth) return false;
  const context = Object.assign(document.createElement("canvas"), { width: 9, height: 9 }).getContext("2d");
  context.drawImage(image, 0, 0, 9, 9);
  return [...context.getImageData(4, 4, 1, 1).data].slice(0, 3).every((part, n) => Math.abs(part - want[n]) < 9);
}, colour, { timeout: 10_000 });

const COLOURS = [[200, 30, 30], [30, 200, 30], [30, 30, 200], [220, 220, 40], [30, 200, 200]];

test("an image moves: picture after picture, without a script", () =>
  withPage(async (page) => {
    await publish("cam/front", png(COLOURS[0]));
    await show(page, "cam/front");
    await becomes(page, COLOURS[0]);
    for (const colour of [...COLOURS, ...COLOURS].slice(1)) {
      await publish("cam/front", png(colour));
      await becomes(page, colour);
    }
    await shot(page, "picture");
  }));

test("JPEG and PNG in turns, large and small, between other events", () =>
  withPage(async (page) => {
    await page.goto(`${board.url}/health`);
    const jpegs = await page.evaluate((colours) => colours.map((colour) => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
      const context = canvas.getContext("2d");
      context.fillStyle = `rgb(${colour})`;
      context.fillRect(0, 0, 64, 64);
      return canvas.toDataURL("image/jpeg", 0.9).split(",")[1];
    }), COLOURS);
    await show(page, "cam/side,demo/%2B");
    for (const [n, colour] of COLOURS.entries()) {
      await board.publish("demo/x", n);
      await publish("cam/side", Buffer.from(jpegs[n], "base64"), "image/jpeg");
      await becomes(page, colour);
      const next = COLOURS[(n + 2) % COLOURS.length];
      const large = png(next, 200, 0);
      assert.ok(large.length > 120_000 && large.length <= 131_072, `${large.length} bytes`);
      await publish("cam/side", large);
      await becomes(page, next);
    }
  }));

test("a page of another origin shows it, and a picture by its address", () =>
  withPage(async (page) => {
    const { id } = await publish("cam/front", png(COLOURS[2]));
    await page.setContent(`<body style="margin:0"><img width=200 height=200 style="display:block"
      src="${board.url}/events/multipart?topics=cam/front"><img width=200 height=200
      src="${board.url}/pictures/cam/front?id=${id}">`, { waitUntil: "commit" });
    const loaded = (n) => page.waitForFunction((at) => document.images[at].naturalWidth > 0, n);
    await loaded(0);
    await loaded(1);
    await publish("cam/front", png(COLOURS[3], 20));
    await page.waitForFunction((side) => document.images[0].naturalWidth === side, 20);
    assert.equal(await page.evaluate(() => document.images[1].naturalWidth), SIDE);
    await shot(page, "picture-elsewhere");
  }));

test("fetch reads the parts", () =>
  withPage(async (page) => {
    await page.goto(`${board.url}/health`);
    const reads = page.evaluate(async () => {
      const answer = await fetch("/events/multipart?topics=parts&snapshot=0");
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      while (!text.includes('"value":19}')) text += (await reader.read()).value;
      await reader.cancel();
      return [answer.headers.get("content-type"), text];
    });
    await new Promise((done) => setTimeout(done, 300));
    for (let n = 0; n < 20; n += 1) await board.publish("parts", n);
    const [type, text] = await reads;
    assert.equal(type, "multipart/x-mixed-replace; boundary=encke");
    const parts = text.split("--encke\r\n").filter((part) => part.includes("\r\n\r\n"));
    const messages = parts.map((part) => JSON.parse(part.split("\r\n\r\n")[1]));
    assert.ok(messages[0].hello);
    assert.deepEqual(messages.slice(1).map(({ value }) => value), Array.from({ length: 20 }, (_, n) => n));
  }));
