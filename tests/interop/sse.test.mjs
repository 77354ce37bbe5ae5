// npm's eventsource, the EventSource of Node: live events, a restart told as reset, being told to
// come back. It reconnects by itself, after the time that the server's `retry:` says. What a bad
// line does to it is in cuts.test.mjs.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { EventSource } from "eventsource";
import { Server, sleep } from "./common.mjs";

/** An EventSource whose events of all names are one list. */
class Source {
  constructor(url) {
    this.events = [];
    this.source = new EventSource(url);
    for (const type of ["message", "hello", "heartbeat", "busy"]) {
      this.source.addEventListener(type, ({ data, lastEventId }) => {
        this.events.push({ type, data: JSON.parse(data), lastEventId });
      });
    }
  }

  of(type) {
    return this.events.filter((event) => event.type === type);
  }

  values() {
    return this.of("message").map((event) => event.data.value);
  }

  async until(isSo, seconds, what) {
    for (let ms = 0; ms < seconds * 1000; ms += 20) {
      if (isSo()) return;
      await sleep(20);
    }
    assert.fail(`${what}: not within ${seconds} s; the last were ${JSON.stringify(this.events.slice(-3))}`);
  }
}

/** Runs `body` with a server and an open EventSource, and closes both. */
async function withSource(body, { config } = {}) {
  const server = await Server.start(config);
  const source = new Source(`${server.url}/events/sse`);
  try {
    await body(server, source);
  } finally {
    source.source.close();
    await server.close();
  }
}

describe("eventsource", { concurrency: true }, () => {
  test("live events arrive, of readings too", async () => {
    await withSource(async (server, source) => {
      await source.until(() => source.of("hello").length === 1, 10, "hello");
      const values = [21.5, "two", [3, null], { four: false }, "\u00e4\u2028\ud83d\ude00<&>\n\"\\", null];
      for (const value of values) await server.publish("a/b", value);
      const mine = () => source.of("message").filter((event) => event.data.topic === "a/b");
      await source.until(() => mine().length === values.length, 10, "what was published");
      assert.deepEqual(mine().map((event) => event.data.value), values);
      for (const event of mine()) assert.equal(event.lastEventId, event.data.id);
      const readings = () => source.of("message").filter((event) => event.data.topic === "cpu/usage");
      await source.until(() => readings().length >= 2, 30, "readings of the processor");
    }, { config: "" });
  });

  test("a heartbeat moves the cursor, and a killed server that came back resets it", async () => {
    await withSource(async (server, source) => {
      await source.until(() => source.of("hello").length === 1, 10, "hello");
      await server.publish("a", 1);
      await source.until(() => source.of("heartbeat").length === 1, 10, "heartbeat");
      const [{ data, lastEventId }] = source.of("heartbeat");
      assert.equal(lastEventId, data.id);
      assert.match(data.id, /-1$/);
      assert.equal(await server.end("SIGKILL"), "SIGKILL");
      await server.startAgain();
      await source.until(() => source.of("hello").length === 2, 30, "hello after the restart");
      const [before, after] = source.of("hello").map((event) => event.data);
      assert.deepEqual([before.reset, after.reset, after.lost], [false, true, 0]);
      assert.notEqual(before.log, after.log);
      await server.publish("a", 2);
      await source.until(() => source.values().at(-1) === 2, 10, "an event after the restart");
      assert.deepEqual(source.values(), [1, 2]);
    }, { config: '[server]\nheartbeat = 1\n[sources]\nexclude = ["#"]\n' });
  });

  test("a server that stops says busy, and is found again", async () => {
    await withSource(async (server, source) => {
      await source.until(() => source.of("hello").length === 1, 10, "hello");
      await server.publish("a", 1);
      await source.until(() => source.values().length === 1, 10, "an event");
      assert.equal(await server.end("SIGTERM"), 0);
      await server.startAgain();
      await source.until(() => source.of("hello").length === 2, 30, "hello after the restart");
      assert.deepEqual(source.of("busy").map(({ data }) => data.reason), ["draining"]);
      // Busy has no id, so the cursor stayed at the event: a new log does not know that.
      assert.deepEqual(source.of("hello").map(({ data }) => data.reset), [false, true]);
    });
  });

  test("an EventSource that finds no place comes back", { timeout: 90_000 }, async () => {
    const config = '[limits]\nviewers = 1\n[sources]\nexclude = ["#"]\n';
    await withSource(async (server, first) => {
      await first.until(() => first.of("hello").length === 1, 10, "hello");
      const second = new Source(`${server.url}/events/sse`);
      try {
        await second.until(() => second.of("busy").length === 1, 10, "busy");
        assert.equal(second.of("busy")[0].data.reason, "full");
        const { retry } = second.of("busy")[0].data;
        assert.ok(retry >= 10_000 && retry <= 60_000, `${retry}`);
        assert.notEqual(second.source.readyState, EventSource.CLOSED);
        first.source.close();
        await second.until(() => second.of("hello").length === 1, retry / 1000 + 10, "hello");
      } finally {
        second.source.close();
      }
    }, { config });
  });
});
