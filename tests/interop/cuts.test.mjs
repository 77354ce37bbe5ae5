// Node's clients that reconnect by themselves, on a bad line: npm's eventsource and, around it,
// reconnecting-eventsource. A proxy ends, resets and swallows; every number that is published must
// come once and in order, or its loss must be told to the number, and each must wait as long as
// `retry:` said. What of CORS is for browsers is tried with Chromium: npm's eventsource has no
// origin and keeps no cookies.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import http from "node:http";
import { describe, test } from "node:test";
import { EventSource } from "eventsource";
import ReconnectingEventSource from "reconnecting-eventsource";
import { launch } from "../browser/harness.mjs";
import { CuttingProxy, Server, sleep } from "./common.mjs";
import { QUIET, publishSlowly, range, sequence, withFollower } from "./follower.mjs";

const NUMBERS = 1000;

const address = (url, last) => `${url}/events/sse?since=${last}`;
const native = (url, last) => new EventSource(address(url, last));
const reconnecting = (url, last) => new ReconnectingEventSource(
  address(url, last), { eventSourceClass: EventSource, max_retry_time: 500 });

/** Each connection came as late behind the end of the one before as that one was told. */
function assertRetryObeyed({ log }) {
  for (const [n, { begun }] of log.entries()) {
    if (n === 0 || log[n - 1].way === 503) continue;
    const before = log[n - 1];
    // What was not told yet is npm eventsource's own 3 s.
    const waited = begun - before.ended;
    const told = before.retryMs ?? 3000;
    assert.ok(waited >= told - 50 && waited < told + 3000, `waited ${waited} of ${told} ms`);
  }
}

/** Runs in a page: follows `url` until `count` messages came, or it is closed; what it saw. */
function followInPage({ url, count, withCredentials }) {
  return new Promise((done) => {
    const seen = { values: [], hellos: [], errors: 0, closed: false };
    const source = new EventSource(url, { withCredentials });
    source.addEventListener("hello", ({ data }) => seen.hellos.push(JSON.parse(data)));
    source.onerror = () => {
      seen.errors += 1;
      seen.closed = source.readyState === EventSource.CLOSED;
      if (seen.closed) done(seen);
    };
    source.onmessage = ({ data }) => {
      seen.values.push(JSON.parse(data).value);
      if (seen.values.length < count) return;
      source.close();
      done(seen);
    };
  });
}

/** A page of another origin: the same one under two names. */
async function elsewhere() {
  const site = http.createServer((_, answer) => {
    answer.setHeader("Content-Type", "text/html; charset=utf-8").end("<!DOCTYPE html><title>else</title>");
  });
  await new Promise((done) => site.listen(0, "127.0.0.1", done));
  const { port } = site.address();
  return { site, friend: `http://127.0.0.1:${port}`, other: `http://localhost:${port}` };
}

describe("on a bad line", { concurrency: true, timeout: 60_000 }, () => {
  for (const [name, make] of Object.entries({ eventsource: native, "reconnecting-eventsource": reconnecting })) {
    test(`${name}: every number comes once and in order`, async () => {
      const harm = [8000, 6, { ways: ["fin", "rst", "hole"] }];
      await withFollower(make, "", harm, async ({ server, proxy, follower }) => {
        await publishSlowly(server, NUMBERS, 18_000);
        await follower.until(() => follower.values.length >= NUMBERS, 25, "all numbers");
        assert.deepEqual(follower.values, range(0, NUMBERS));
        assert.equal(proxy.cuts, 6);
        assert.ok(follower.hellos.every(({ lost, reset }) => lost === 0 && !reset));
        assertRetryObeyed(proxy);
        const retries = new Set(proxy.log.map(({ retryMs }) => retryMs));
        assert.ok(retries.size > 2, `${[...retries]}`);
      });
    });
  }

  test("eventsource: what was lost while it was away is told to the number", async () => {
    const config = "[limits]\nring_bytes = 65536\n";
    const harm = [1, 0, {}];
    await withFollower(native, config, harm, async ({ server, proxy, follower }) => {
      await server.publishNumbers("count", 0, 10);
      await follower.until(() => follower.values.length === 10, 10, "ten numbers");
      proxy.breakAll();
      await server.publishNumbers("count", 10, 3000);
      await follower.until(() => follower.values.at(-1) === 2999, 20, "the last number");
      assert.ok(follower.lost > 1500, `${follower.lost} lost`);
      assert.deepEqual(follower.values, [...range(0, 10), ...range(10 + follower.lost, 3000)]);
    });
  });

  test("eventsource: a gateway's 503 or 204 is the end, so a full server must say 200", async () => {
    for (const status of [503, 204]) {
      await withFollower(native, "", [1, 1, { ways: [status] }], async ({ proxy, follower }) => {
        await follower.until(() => follower.errors.length > 0, 10, "an error");
        assert.equal(follower.errors[0].code, status);
        assert.equal(follower.source.readyState, EventSource.CLOSED);
        await sleep(1000);
        assert.equal(proxy.log.length, 1, "it came again");
      });
    }
  });

  test("reconnecting-eventsource: comes back behind a gateway, and its newest id counts", async () => {
    // It writes its last id into the address, where it stays when the EventSource inside goes on
    // by itself: then the field is newer.
    const harm = [1, 3, { ways: [503] }];
    await withFollower(reconnecting, "", harm, async ({ server, proxy, follower, id }) => {
      await server.publishNumbers("count", 0, 5);
      await follower.until(() => follower.values.length === 5, 20, "five numbers");
      assert.equal(proxy.cuts, 3);
      proxy.breakAll(503);
      await server.publishNumbers("count", 5, 10);
      await follower.until(() => follower.values.length === 10, 20, "five more");
      const asked = proxy.log.at(-1).asked;
      assert.ok(asked.startsWith(`GET /events/sse?since=${id}&lastEventId=`), asked);
      const old = /lastEventId=(\S+)/.exec(asked)[1];
      assert.equal(sequence(old), sequence(id) + 5);
      proxy.breakAll();
      await server.publishNumbers("count", 10, 15);
      await follower.until(() => follower.values.length === 15, 20, "the last");
      const field = /^Last-Event-ID: (\S+)/im.exec(proxy.log.at(-1).asked)[1];
      assert.equal(sequence(field), sequence(id) + 10);
      assert.ok(proxy.log.at(-1).asked.includes(`lastEventId=${old}`));
      assert.deepEqual(follower.values, range(0, 15));
    });
  });

  test("reconnecting-eventsource: told of an end, killed, and back each time", async () => {
    const harm = [1, 0, {}];
    await withFollower(reconnecting, "", harm, async ({ server, proxy, follower }) => {
      await server.publish("count", 0);
      await follower.until(() => follower.values.length === 1, 10, "an event");
      for (const how of ["SIGTERM", "SIGKILL"]) {
        const { length } = follower.hellos;
        await server.end(how);
        await server.startAgain();
        await server.publish("count", how);
        await follower.until(() => follower.hellos.length > length, 20, `hello behind ${how}`);
        await follower.until(() => follower.values.at(-1) === how, 5, "an event of the new log");
        assert.deepEqual([follower.hellos.at(-1).reset, follower.hellos.at(-1).lost], [true, 0]);
      }
      assert.deepEqual(follower.busy.map(({ reason }) => reason), ["draining"]);
      const [{ at, retry }] = follower.busy;
      const waited = proxy.log[1].begun - at;
      assert.ok(retry >= 1000 && retry <= 5000, `${retry}`);
      assert.ok(waited >= retry - 50 && waited < retry + 3000, `waited ${waited} of ${retry} ms`);
    });
  });

  test("Chromium's EventSource with credentials, from a page of another origin, on a bad line", async () => {
    const browser = await launch();
    const { site, friend, other } = await elsewhere();
    const secret = "0123456789abcdefghijklmnopqrstuv";
    const sha256 = createHash("sha256").update(secret).digest("hex");
    const server = await Server.start(`${QUIET}[server]\nread = []\ncors = ["${friend}"]
  [[token]]\nname = "page"\nsha256 = "${sha256}"\nread = ["#"]\n`);
    const how = { ways: ["fin", "rst", "hole"], early: false };
    const proxy = await CuttingProxy.start(server.port, 3000, 3, how);
    try {
      const { id } = await server.publish("count", -1);
      const context = await browser.newContext();
      const cookie = { name: "encke", value: `page.${secret}`, url: proxy.url, httpOnly: true };
      await context.addCookies([{ ...cookie, sameSite: "Strict" }]);
      const page = await context.newPage();
      await page.goto(friend);
      const url = `${proxy.url}/events/sse?since=${id}`;
      const follow = (how) => page.evaluate(followInPage, { url, count: 300, ...how });
      const all = follow({ withCredentials: true });
      await publishSlowly(server, 300, 8000);
      const { values, hellos, errors } = await all;
      assert.deepEqual(values, range(0, 300), proxy.plan);
      assert.ok(hellos.every(({ lost, reset }) => lost === 0 && !reset));
      assert.deepEqual([proxy.cuts, errors, hellos.length], [3, 3, 4], proxy.plan);
      assertRetryObeyed(proxy);
      // A strict cookie goes to another port, but not along with a request without credentials, and
      // an answer that a page may not read is no stream to it.
      const shut = { values: [], hellos: [], errors: 1, closed: true };
      assert.deepEqual(await follow({ withCredentials: false }), shut);
      await page.goto(other);
      assert.deepEqual(await follow({ withCredentials: true }), shut);
    } finally {
      await browser.close();
      proxy.close();
      await server.close();
      site.close();
    }
  });
});
