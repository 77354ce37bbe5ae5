// Node's fetch (undici) against the real binary: keep-alive, streams both ways, giving up.
import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { after, before, test } from "node:test";
import { Server, sleep } from "./common.mjs";

let server;

before(async () => {
  server = await Server.start();
});

after(() => server?.close());

/** A relay before the server that counts connections; `url` leads through it. */
async function counting() {
  const relay = { connections: 0 };
  relay.listener = net.createServer((near) => {
    relay.connections += 1;
    const far = net.connect(server.port, "127.0.0.1");
    for (const [from, to] of [[near, far], [far, near]]) {
      from.pipe(to);
      from.on("error", () => to.destroy()).on("close", () => to.destroy());
    }
  });
  await new Promise((done) => relay.listener.listen(0, "127.0.0.1", done));
  relay.url = `http://127.0.0.1:${relay.listener.address().port}`;
  return relay;
}

const viewers = async () => (await (await fetch(`${server.url}/health`)).json()).viewers;

async function until(isSo, what) {
  for (let tries = 0; tries < 250; tries += 1) {
    if (await isSo()) return;
    await sleep(20);
  }
  assert.fail(`${what}: not within 5 s`);
}

/** The lines of a streamed body, each as it comes. */
async function* lines(body) {
  let text = "";
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    text += piece;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
    }
  }
}

test("connections are kept, also behind errors and 304", async () => {
  const relay = await counting();
  let tag = "";
  for (let n = 0; n < 50; n += 1) {
    const put = { method: "PUT", body: String(n), headers: { "Content-Type": "application/json" } };
    assert.equal((await (await fetch(`${relay.url}/topics/a`, put)).json()).subscribers, 0);
    assert.equal((await (await fetch(`${relay.url}/topics/a`)).json()).value, n);
    const missing = await fetch(`${relay.url}/nothing`);
    assert.equal(missing.status, 404);
    await missing.text();
    const head = await fetch(relay.url, { method: "HEAD" });
    assert.equal(head.status, 200);
    assert.equal(await head.text(), "");
    const page = await fetch(relay.url, { headers: tag ? { "If-None-Match": tag } : {} });
    assert.equal(page.status, tag ? 304 : 200);
    assert.equal((await page.text()).length > 0, !tag);
    tag = page.headers.get("etag");
  }
  // fetch closes behind each HEAD, in case a server is so bad as to send a body.
  assert.ok(relay.connections <= 51, `${relay.connections} connections for 250 requests`);
  relay.listener.close();
});

test("a stream is read as it comes, to the byte", async () => {
  const answer = await fetch(`${server.url}/events/stream?topics=down`);
  assert.equal(answer.headers.get("content-type"), "application/x-ndjson; charset=utf-8");
  const read = lines(answer.body);
  assert.ok(JSON.parse((await read.next()).value).hello);
  const published = server.publishNumbers("down", 0, 2000);
  for (let n = 0; n < 2000; n += 1) assert.equal(JSON.parse((await read.next()).value).value, n);
  await published;
  await read.return();
  await until(async () => (await viewers()) === 0, "the viewer that left is gone");
});

test("what is published alone arrives alone and at once", async () => {
  const answer = await fetch(`${server.url}/events/stream?topics=one&format=raw&snapshot=0`);
  const reader = answer.body.getReader();
  await reader.read();
  for (let n = 0; n < 30; n += 1) {
    await server.publish("one", n);
    assert.equal(new TextDecoder().decode((await reader.read()).value), `${n}\n`);
  }
  await reader.cancel();
});

test("a body without a length is sent in chunks and taken", async () => {
  async function* pieces() {
    yield new TextEncoder().encode("[0");
    for (let n = 1; n < 500; n += 1) yield new TextEncoder().encode(`,${n}`);
    yield new TextEncoder().encode("]");
  }
  for (let again = 0; again < 5; again += 1) {
    const answer = await fetch(`${server.url}/topics/up`, {
      method: "PUT", duplex: "half", body: ReadableStream.from(pieces()),
      headers: { "Content-Type": "application/json" },
    });
    assert.ok(answer.ok, await answer.text());
    const { value } = await (await fetch(`${server.url}/topics/up`)).json();
    assert.deepEqual(value, Array.from({ length: 500 }, (_, n) => n));
  }
});

test("a body that is too long is refused in words", async () => {
  for (let again = 0; again < 5; again += 1) {
    const answer = await fetch(`${server.url}/topics/up`, { method: "PUT", body: "x".repeat(1e6) });
    assert.equal(answer.status, 413);
    assert.match(await answer.text(), /1000000 bytes, at most 65536/);
  }
});

test("giving up frees the place", async () => {
  const { id } = await (await fetch(`${server.url}/topics`)).json();
  for (const path of ["sse", "stream", `poll?since=${id}`]) {
    const abort = new AbortController();
    const gone = fetch(`${server.url}/events/${path}`, { signal: abort.signal })
      .then((answer) => answer.text());
    await until(async () => (await viewers()) === 1, path);
    abort.abort();
    await assert.rejects(gone, { name: "AbortError" });
    await until(async () => (await viewers()) === 0, `${path} is gone`);
  }
});

test("two hundred at once", async () => {
  const answers = await Promise.all(Array.from({ length: 200 }, async (_, n) => {
    await server.publish(`many/n${n % 100}`, n % 100);
    return (await (await fetch(`${server.url}/topics/many/n${n % 100}`)).json()).value;
  }));
  assert.deepEqual(answers, Array.from({ length: 200 }, (_, n) => n % 100));
});

test("node:http with an agent that keeps, Expect, and an upgrade that is not taken", async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const ports = new Set();
  const ask = (options, body) => new Promise((done, fail) => {
    const request = http.request(server.url, { agent, ...options }, (answer) => {
      ports.add(answer.socket.localPort);
      let text = "";
      answer.setEncoding("utf8").on("data", (piece) => (text += piece));
      answer.on("end", () => done({ status: answer.statusCode, text }));
    });
    request.on("error", fail);
    if (!body) return request.end();
    request.on("continue", () => request.end(body));
    return request.flushHeaders();
  });
  for (let n = 0; n < 20; n += 1) {
    assert.equal((await ask({ path: "/topics" })).status, 200);
    const headers = { Expect: "100-continue", "Content-Type": "text/plain", "Content-Length": 7 };
    const put = await ask({ path: "/topics/expect", method: "PUT", headers }, `"n ${n % 10} "`.padEnd(7));
    assert.equal(put.status, 200, put.text);
    // A protocol that is not spoken here is ignored, and the answer is that to a plain GET.
    const upgrade = { Connection: "Upgrade, keep-alive", Upgrade: "h2c" };
    assert.equal((await ask({ path: "/health", headers: upgrade })).status, 200);
  }
  assert.equal(ports.size, 1, "one connection");
  agent.destroy();
});
