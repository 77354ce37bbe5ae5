// npm's ws, the WebSocket of Node: events, both ways, two clients that talk, pings, close codes,
// limits, resuming, draining.
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { describe, test } from "node:test";
import WebSocket from "ws";
import { CuttingProxy, Server, sleep } from "./common.mjs";

const NUMBERS = 1500;

/** A WebSocket whose messages are a list. */
class Client {
  constructor(url, options = {}) {
    this.messages = [];
    this.pings = 0;
    this.socket = new WebSocket(url.replace(/^http/, "ws"), options.protocols ?? [], options);
    this.socket.on("message", (data, isBinary) => {
      this.messages.push(isBinary ? data : JSON.parse(data.toString()));
    });
    this.socket.on("ping", () => (this.pings += 1));
    this.socket.on("error", (error) => (this.error = error));
    this.closed = new Promise((done) => {
      this.socket.on("close", (code, reason) => done({ code, reason: reason.toString() }));
    });
  }

  static async open(url, options) {
    const client = new Client(url, options);
    await client.until((one) => one.hello, "hello");
    return client;
  }

  say(message) {
    this.socket.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  async until(isIt, what, seconds = 10) {
    for (let ms = 0; ms < seconds * 1000; ms += 10) {
      const found = this.messages.find(isIt);
      if (found) return found;
      assert.equal(this.error, undefined);
      await sleep(10);
    }
    assert.fail(`${what}: not within ${seconds} s; ${JSON.stringify(this.messages.slice(-3))}`);
  }

  values(topic) {
    return this.messages.filter((one) => one.topic === topic).map((one) => one.value);
  }
}

/** Runs `body` with a server and the address of its WebSockets, and closes it. */
async function withServer(body, config) {
  const server = await Server.start(config);
  try {
    await body(server, `${server.url}/events/ws`);
  } finally {
    await server.close();
  }
}

describe("ws", { concurrency: true }, () => {
  test("events arrive; the sub-protocol is chosen, compression is not", async () => {
    await withServer(async (server, url) => {
      await server.publish("a/b", 1);
      const client = await Client.open(url, { protocols: ["other", "encke.v1"] });
      assert.equal(client.socket.protocol, "encke.v1");
      assert.equal(client.socket.extensions, "");
      await client.until((one) => one.topic === "a/b" && one.value === 1, "the last event");
      const values = [21.5, "two", [3, null], { four: false }, "\u00e4\u2028\ud83d\ude00<&>\n\"\\", null];
      for (const value of values) await server.publish("a/b", value);
      await client.until((one) => one.topic === "a/b" && one.value === null, "the newest");
      assert.deepEqual(client.values("a/b"), [1, ...values]);
      client.socket.close(4000, "enough");
      assert.equal((await client.closed).code, 4000);
    });
  });

  test("two clients talk over room/x", async () => {
    await withServer(async (server, url) => {
      const [ann, ben] = [await Client.open(`${url}?topics=room/x`), await Client.open(url)];
      ben.say({ subscribe: ["room/#"], ref: 1 });
      await ben.until((one) => one.ack?.ref === 1, "the acknowledgement");
      assert.equal(ben.messages.filter((one) => one.hello).length, 2);
      ann.say({ publish: { topic: "room/x", value: { from: "ann", text: "hello <ben>" } }, ref: 7 });
      const ack = (await ann.until((one) => one.ack, "the acknowledgement")).ack;
      assert.deepEqual([ack.ref, ack.subscribers], [7, 2]);
      const said = { from: "ann", text: "hello <ben>" };
      for (const client of [ann, ben]) {
        const event = await client.until((one) => one.topic === "room/x", "what was said");
        assert.deepEqual([event.id, event.value], [ack.id, said]);
      }
      ben.say({ unsubscribe: ["room/#"], ref: 2 });
      await ben.until((one) => one.ack?.ref === 2, "the acknowledgement");
      ann.say({ publish: { topic: "room/x", value: "gone?" } });
      await ann.until((one) => one.value === "gone?", "what was said");
      await sleep(100);
      assert.ok(!ben.messages.some((one) => one.value === "gone?"));
      ann.say({ publish: { topic: "encke/x", value: 1 }, ref: 9 });
      const { error } = await ann.until((one) => one.error, "the error");
      assert.deepEqual([error.ref, error.status], [9, 403]);
      ann.socket.close();
      ben.socket.close();
    });
  });

  test("what breaks a rule is told so by its code, and so is what is too long", async () => {
    await withServer(async (_, url) => {
      const long = await Client.open(url);
      const space = 65536 - '{"publish":{"topic":"a","value":1}}'.length;
      long.say(`{"publish":{"topic":"a","value":1}}${" ".repeat(space)}`);
      await long.until((one) => one.ack, "the acknowledgement");
      long.say(" ".repeat(65537));
      assert.equal((await long.closed).code, 1009);
      const binary = await Client.open(url);
      binary.socket.send(Buffer.from([1, 2, 3]));
      assert.equal((await binary.closed).code, 1003);
      const empty = await Client.open(url);
      empty.say("no JSON");
      assert.equal((await empty.until((one) => one.error, "the error")).error.status, 400);
      empty.socket.close();
      assert.equal((await empty.closed).code, 1000);
    });
  });

  test("pings are answered, in the middle of a message, too", async () => {
    await withServer(async (_, url) => {
      const client = await Client.open(url);
      const pong = once(client.socket, "pong");
      client.socket.send('{"publish":{"topic":"a",', { fin: false });
      client.socket.ping("are you there");
      assert.equal((await pong)[0].toString(), "are you there");
      client.socket.send('"value":5}}', { fin: true });
      await client.until((one) => one.topic === "a" && one.value === 5, "the event");
      client.socket.close();
    });
  });

  test("without a proper upgrade it is 426", async () => {
    await withServer(async (server, url) => {
      const answer = await fetch(url);
      assert.equal(answer.status, 426);
      assert.equal(answer.headers.get("sec-websocket-version"), "13");
      const socket = net.connect(server.port, "127.0.0.1");
      socket.write("GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n" +
        "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
        "Sec-WebSocket-Version: 8\r\n\r\n");
      const [head] = await once(socket, "data");
      assert.match(head.toString(), /^HTTP\/1\.1 426 /);
      socket.destroy();
    });
  });

  test("a connection that is cut again and again goes on without a gap", async () => {
    await withServer(async (server) => {
      // From here on, for one that is cut before its hello would else begin with the newest.
      let { id: last } = await server.publish("n", -1);
      const proxy = await CuttingProxy.start(server.port, 20000, 12);
      const values = [];
      const follow = async () => {
        while (values.at(-1) !== NUMBERS - 1) {
          const client = new Client(`${proxy.url}/events/ws?topics=n&since=${last}`);
          client.socket.on("message", (data) => {
            const one = JSON.parse(data.toString());
            if (one.hello) assert.deepEqual([one.hello.lost, one.hello.reset], [0, false]);
            if (one.topic) values.push(one.value);
            last = one.id ?? (one.heartbeat ?? one.hello)?.id ?? last;
            if (one.value === NUMBERS - 1) client.socket.close();
          });
          await client.closed;
        }
      };
      const followed = follow();
      await sleep(200);
      await server.publishNumbers("n", 0, NUMBERS);
      await followed;
      assert.deepEqual(values, Array.from({ length: NUMBERS }, (_, n) => n));
      assert.ok(proxy.cuts > 3, `${proxy.cuts} of ${proxy.plan}`);
      proxy.close();
    });
  });

  test("binary events are postcard", async () => {
    await withServer(async (server, url) => {
      await server.publish("a", "b");
      const client = new Client(`${url}?format=postcard&topics=a`);
      for (let ms = 0; ms < 5000 && client.messages.length < 2; ms += 10) await sleep(10);
      const [hello, event] = client.messages;
      assert.deepEqual([hello[0], event[0]], [1, 0]);
      assert.equal(event.subarray(event.length - 5, event.length).toString("latin1"), '\x03"b"\x00');
      client.socket.close();
    });
  });

  test("a server that goes down says so", async () => {
    const server = await Server.start();
    const client = await Client.open(`${server.url}/events/ws`);
    const ended = server.end();
    const { busy } = await client.until((one) => one.busy, "busy");
    assert.equal(busy.reason, "draining");
    assert.equal((await client.closed).code, 1001);
    assert.equal(await ended, 0);
    await server.close().catch(() => {});
  });
});
