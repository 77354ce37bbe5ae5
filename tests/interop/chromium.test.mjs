// Chromium against the real binary, by way of a wire that is recorded: what it really sent and got.
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, test } from "node:test";
import { launch, live, phone } from "../browser/harness.mjs";
import { Server } from "./common.mjs";

let browser;
let server;

before(async () => {
  browser = await launch();
  server = await Server.start();
  await server.publish("a", 1);
});

after(async () => {
  await browser?.close();
  await server?.close();
});

/** A relay that keeps the bytes of each connection, as one character a byte. */
async function recorded() {
  const wire = { connections: [] };
  wire.listener = net.createServer((near) => {
    const connection = { sent: "", got: "" };
    wire.connections.push(connection);
    const far = net.connect(server.port, "127.0.0.1");
    near.on("data", (piece) => (connection.sent += piece.toString("latin1")) && far.write(piece));
    far.on("data", (piece) => (connection.got += piece.toString("latin1")) && near.write(piece));
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on("error", () => to.destroy()).on("end", () => to.end()).on("close", () => to.destroy());
    }
  });
  await new Promise((done) => wire.listener.listen(0, "127.0.0.1", done));
  wire.url = `http://127.0.0.1:${wire.listener.address().port}/`;
  wire.asked = () => wire.connections.flatMap(({ sent }) => [...sent.matchAll(/^GET (\S+) /gm)]
    .map(([, path]) => path.replace(/\?.*/, "")));
  return wire;
}

async function withPage(act) {
  const page = await phone(browser);
  const wire = await recorded();
  try {
    await page.goto(wire.url);
    await live(page);
    await act(page, wire);
    assert.deepEqual(page.faults, []);
  } finally {
    await page.context().close();
    wire.listener.close();
  }
}

/** The bytes of the answers to requests for the page, in order. */
const pages = (wire) => wire.connections.flatMap(({ sent, got }) => {
  const asked = [...sent.matchAll(/^GET (\S+) [^]*?\r\n\r\n/gm)];
  const answers = got.split(/(?=HTTP\/1\.1 \d\d\d )/);
  return asked.flatMap(([head, path], n) => (path === "/" ? [{ head, answer: answers[n] }] : []));
});

test("the page comes compressed once, and is then asked for by its tag", () =>
  withPage(async (page, wire) => {
    for (let n = 0; n < 3; n += 1) {
      await page.reload();
      await live(page);
    }
    const [first, ...again] = pages(wire);
    assert.match(first.answer, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(first.answer, /\r\nContent-Encoding: gzip\r\n/);
    const tag = /\r\nETag: (.*)\r\n/.exec(first.answer)[1];
    assert.equal(again.length, 3);
    for (const { head, answer } of again) {
      assert.ok(head.includes(`\r\nIf-None-Match: ${tag}\r\n`), head);
      assert.match(answer, /^HTTP\/1\.1 304 Not Modified\r\n/);
      assert.ok(answer.endsWith("\r\n\r\n"), "a 304 with a body");
      assert.ok(answer.length < 800, `${answer.length} bytes`);
    }
    const titles = await page.locator("header, main").count();
    assert.ok(titles >= 2, "the page from the cache is whole");
  }));

test("connections are kept: the stream takes one, all else shares", () =>
  withPage(async (page, wire) => {
    const before = wire.connections.length;
    assert.ok(before <= 3, `${before} connections for the first page`);
    const values = await page.evaluate(async () => {
      const read = [];
      for (let n = 0; n < 100; n += 1) {
        const answer = await fetch(n % 2 ? "topics/a" : "nothing", { cache: "no-store" });
        read.push(answer.ok ? (await answer.json()).value : (await answer.text(), answer.status));
      }
      return read;
    });
    assert.deepEqual(values, Array.from({ length: 100 }, (_, n) => (n % 2 ? 1 : 404)));
    assert.equal(wire.connections.length - before, 0, "connections for 100 requests one by one");
    page.faults.splice(0, page.faults.length, ...page.faults.filter((fault) => !/404/.test(fault)));
  }));

test("five streams of one page get the same events", () =>
  withPage(async (page) => {
    await page.goto(`${server.url}/?plain`); // which has no stream of its own
    const seen = page.evaluate(() => Promise.all(Array.from({ length: 5 }, () => new Promise((done) => {
      const values = [];
      const source = new EventSource("/events/sse?topics=six&snapshot=0");
      source.addEventListener("hello", () => (document.title += "h"));
      source.onmessage = ({ data }) => {
        values.push(JSON.parse(data).value);
        if (values.length === 500) done((source.close(), values));
      };
    }))));
    await page.waitForFunction(() => document.title.endsWith("hhhhh"));
    await server.publishNumbers("six", 0, 500);
    for (const values of await seen) assert.deepEqual(values, Array.from({ length: 500 }, (_, n) => n));
  }));

test("fetch reads a stream, and a form posts a value", () =>
  withPage(async (page) => {
    const reads = page.evaluate(async () => {
      const reader = (await fetch("events/stream?topics=s&format=raw&snapshot=0")).body
        .pipeThrough(new TextDecoderStream()).getReader();
      const pieces = [];
      while (pieces.join("").split("\n").length < 22) pieces.push((await reader.read()).value);
      await reader.cancel();
      return pieces.join("").split("\n").slice(1, 21);
    });
    await new Promise((done) => setTimeout(done, 300));
    for (let n = 0; n < 20; n += 1) await server.publish("s", n);
    assert.deepEqual(await reads, Array.from({ length: 20 }, (_, n) => String(n)));
    const posted = await page.evaluate(() => fetch("topics/form", { method: "POST",
      body: new URLSearchParams("21.5") }).then((answer) => answer.status));
    assert.equal(posted, 200);
  }));
