// The page behind a proxy that holds answers back: it notices by the silence, says so, finds a way.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, describe, test } from "node:test";
import { launch, live, phone, saysInHeader, shot, sleep, tile } from "../browser/harness.mjs";
import { Server } from "./common.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/**
 * A proxy that collects what comes of an answer: it lets the first `free` bytes of each through,
 * then passes on only when `bytes` have come together, each `everyMs`, or at the answer's end.
 */
class Hoarder {
  static async start(server, { free = 0, bytes = 65_536, everyMs = 3_600_000 }) {
    const proxy = new Hoarder();
    Object.assign(proxy, { port: server.port, free, bytes, everyMs, asked: [] });
    proxy.listener = http.createServer((request, answer) => proxy.carry(request, answer));
    proxy.listener.listen(0, "127.0.0.1");
    await new Promise((done) => proxy.listener.once("listening", done));
    proxy.url = `http://127.0.0.1:${proxy.listener.address().port}/`;
    return proxy;
  }

  carry(request, answer) {
    this.asked.push(request.url.replace(/\?.*/, ""));
    const to = { port: this.port, host: "127.0.0.1", path: request.url, method: request.method };
    const far = http.request({ ...to, headers: request.headers, agent: false });
    far.on("response", (from) => this.hoard(from, answer)).on("error", () => answer.destroy());
    answer.on("close", () => far.destroy());
    request.pipe(far);
  }

  hoard(from, answer) {
    let held = [];
    let free = this.free;
    const length = () => held.reduce((sum, piece) => sum + piece.length, 0);
    const pass = () => {
      if (!answer.headersSent) answer.writeHead(from.statusCode, from.headers);
      if (length() > 0) answer.write(Buffer.concat(held));
      held = [];
    };
    const timer = setInterval(pass, this.everyMs);
    from.on("data", (piece) => {
      held.push(piece);
      free -= piece.length;
      if (free > -piece.length && this.free > 0) pass();
      if (length() >= this.bytes) pass();
    });
    from.on("end", () => (pass(), answer.end()));
    from.on("error", () => answer.destroy());
    answer.on("close", () => clearInterval(timer));
  }

  close() {
    this.listener.close();
    this.listener.closeAllConnections();
  }
}

async function withPage(how, act) {
  const server = await Server.start();
  const page = await phone(browser);
  const proxy = await Hoarder.start(server, how);
  try {
    await act(page, proxy, server);
    assert.deepEqual(page.faults, []);
  } finally {
    await page.context().close();
    proxy.close();
    await server.close();
  }
}

describe("behind a proxy that holds back", { concurrency: true }, () => {
  test("a stream that never comes through: said, then asked for bit by bit", () =>
    withPage({}, async (page, proxy, server) => {
      await server.publish("demo/held", "first");
      await page.goto(proxy.url);
      await saysInHeader(page, /Connection went silent, trying again/, 20_000);
      await shot(page, "buffered-no-answer");
      await live(page);
      await tile(page, "demo/held").getByText("first").waitFor();
      for (const value of ["second", "third"]) {
        await server.publish("demo/held", value);
        await tile(page, "demo/held").getByText(value).waitFor({ timeout: 5000 });
      }
      await saysInHeader(page, /Live, without a stream/);
      await sleep(500);
      await shot(page, "buffered-by-polling");
      assert.ok(proxy.asked.includes("/events/poll"));
    }));

  test("a stream that is stuck behind its beginning is missed after two heartbeats and a half", () =>
    withPage({ free: 150 }, async (page, proxy, server) => {
      await server.publish("demo/stuck", "first");
      await page.clock.install();
      await page.goto(proxy.url);
      await live(page);
      await server.publish("demo/stuck", "second");
      await page.clock.runFor(30_000);
      assert.equal(await page.locator("#words").textContent(), "Live");
      await page.clock.runFor(10_000);
      await saysInHeader(page, /Connection went silent, trying again/);
      await shot(page, "buffered-silent");
      await saysInHeader(page, /Live, without a stream/, 30_000);
      await tile(page, "demo/stuck").getByText("second").waitFor();
      await server.publish("demo/stuck", "fourth");
      await tile(page, "demo/stuck").getByText("fourth").waitFor({ timeout: 5000 });
      // After a while the stream is tried again: the proxy may be gone.
      proxy.free = Infinity;
      await page.clock.fastForward(301_000);
      await live(page);
      await page.clock.runFor(21_000);
      await page.waitForFunction(() => document.querySelector("#words").textContent === "Live");
      await server.publish("demo/stuck", "fifth");
      await tile(page, "demo/stuck").getByText("fifth").waitFor({ timeout: 5000 });
    }));

  test("a stream in slow lumps is taken as it comes", () =>
    withPage({ everyMs: 2500 }, async (page, proxy, server) => {
      await page.goto(proxy.url);
      await live(page);
      for (const value of ["one", "two"]) {
        await server.publish("demo/lumps", value);
        await tile(page, "demo/lumps").getByText(value).waitFor({ timeout: 8000 });
      }
      assert.equal(await page.locator("#words").textContent(), "Live");
      assert.ok(!proxy.asked.includes("/events/poll"));
    }));

  test("lumps that come too late to be live are not waited for", () =>
    withPage({ everyMs: 20_000 }, async (page, proxy, server) => {
      await page.goto(proxy.url);
      await saysInHeader(page, /Connection went silent, trying again/, 20_000);
      await live(page);
      await server.publish("demo/late", "in time");
      await tile(page, "demo/late").getByText("in time").waitFor({ timeout: 5000 });
    }));
});
