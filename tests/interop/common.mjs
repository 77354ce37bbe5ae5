// What the JavaScript interop tests share: a server of their own and a proxy that cuts.
//
// Everything listens on 127.0.0.1, every wait ends, and only processes started here are ended.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

const BINARY =
  process.env.ENCKE_BIN ?? new URL("../../target/release/encke", import.meta.url).pathname;
const QUIET = '[sources]\nexclude = ["#"]\n';

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function listen(server) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server.address().port;
}

/** A running Encke without sources of its own, unless `config` says otherwise. */
export class Server {
  static async start(config = QUIET) {
    const server = new Server();
    const probe = net.createServer();
    server.port = await listen(probe);
    await new Promise((done) => probe.close(done));
    server.url = `http://127.0.0.1:${server.port}`;
    server.folder = mkdtempSync(path.join(tmpdir(), "encke-interop-"));
    server.config = path.join(server.folder, "encke.toml");
    writeFileSync(server.config, config);
    await server.startAgain();
    return server;
  }

  async startAgain() {
    const listens = ["--listen", `127.0.0.1:${this.port}`];
    this.child = spawn(BINARY, ["serve", "--config", this.config, ...listens], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    this.exited = once(this.child, "exit");
    for (let tries = 0; tries < 500; tries += 1) {
      assert.equal(this.child.exitCode, null, "the server ended before it answered");
      if (await fetch(`${this.url}/health`).then((answer) => answer.ok, () => false)) return;
      await sleep(20);
    }
    assert.fail("the server did not answer within 10 s");
  }

  /** Ends it; what it exited with, or the signal. */
  async end(how = "SIGTERM") {
    this.child.kill(how);
    const [code, signal] = await this.exited;
    return code ?? signal;
  }

  async close() {
    await this.end();
    rmSync(this.folder, { recursive: true });
  }

  async publish(topic, value) {
    return this.send("PUT", `/topics/${topic}`, value);
  }

  /** Publishes the numbers from `from` to below `to`, in order, at most 100 in one request. */
  async publishNumbers(topic, from, to) {
    for (let at = from; at < to; at += 100) {
      const length = Math.min(100, to - at);
      await this.send("POST", "/topics", Array.from({ length }, (_, n) => ({ topic, value: at + n })));
    }
  }

  async send(method, to, value) {
    const body = JSON.stringify(value);
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(this.url + to, { method, headers, body });
    assert.ok(answer.ok, await answer.clone().text());
    return answer.json();
  }
}

/** A generator of numbers from 0 to below 1, from a seed (mulberry32). */
function seeded(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * A proxy that harms its first `cuts` connections, each after 0 to `bytesMax` bytes of answer.
 *
 * `ways` are how, in turn: `fin` ends the connection, `rst` resets it, `hole` carries nothing for
 * `holeMs` and then resets it. A number is a status: the gateway's own answer, without asking the
 * server. With `early`, every second cut is within the first 600 bytes: in the head, in the hello;
 * without, none is. `log` has each connection's
 * request line, its times and the last `retry:` its client was told by then. The seed is told, so
 * that a failure can be repeated with ENCKE_SEED.
 */
export class CuttingProxy {
  static async start(targetPort, bytesMax, cuts, { ways = ["fin"], holeMs = 400, early = true } = {}) {
    const proxy = new CuttingProxy();
    const seed = Number(process.env.ENCKE_SEED ?? Math.floor(Math.random() * 2 ** 32));
    const random = seeded(seed);
    Object.assign(proxy, { cuts: 0, log: [], ends: new Set(), retryMs: null, targetPort, holeMs });
    proxy.planned = Array.from({ length: cuts }, (_, n) => ({
      way: ways[n % ways.length],
      left: Math.floor(early ? random() * (n % 2 ? bytesMax : 600) : 600 + random() * bytesMax),
    }));
    proxy.plan = `seed ${seed}: ${proxy.planned.map(({ way, left }) => `${way} at ${left}`)}`;
    proxy.listener = net.createServer((client) => proxy.carry(client));
    proxy.port = await listen(proxy.listener);
    proxy.url = `http://127.0.0.1:${proxy.port}`;
    return proxy;
  }

  carry(client) {
    const { way, left } = this.planned.shift() ?? { left: Infinity };
    const entry = { begun: Date.now(), asked: "", way };
    this.ends.add(client);
    client.on("close", () => {
      entry.ended ??= Date.now();
      this.ends.delete(client);
    });
    this.log.push(entry);
    client.once("data", (head) => (entry.asked = head.toString("latin1")));
    if (typeof way === "number") return this.answer(client, entry);
    const server = net.connect(this.targetPort, "127.0.0.1");
    const drop = () => [client, server].forEach((socket) => socket.destroy());
    for (const socket of [client, server]) socket.on("error", drop).on("close", drop);
    client.on("data", (piece) => server.write(piece));
    const link = { client, server, entry, way, left, text: "" };
    server.on("data", (piece) => this.pass(link, piece));
    return undefined;
  }

  /** What a gateway says when the server is away. */
  answer(client, entry) {
    client.on("error", () => {}).once("data", () => {
      this.cut(entry);
      client.end(`HTTP/1.1 ${entry.way} Away\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    });
  }

  pass(link, piece) {
    if (link.left < 0) return;
    const part = piece.subarray(0, link.left);
    link.left -= part.length;
    link.text = (link.text + part.toString("latin1")).slice(-20_000);
    const told = [...link.text.matchAll(/^retry: (\d+)\n/gm)].at(-1);
    if (told) this.retryMs = Number(told[1]);
    if (link.left > 0) return void link.client.write(part);
    link.left = -1;
    if (link.way === "fin") {
      this.cut(link.entry);
      link.client.end(part);
      link.server.destroy();
      return;
    }
    link.client.write(part, () => setTimeout(() => {
      this.cut(link.entry);
      link.client.resetAndDestroy();
      link.server.resetAndDestroy();
    }, link.way === "hole" ? this.holeMs : 50)); // A reset may overtake what its client has not read.
  }

  cut(entry) {
    this.cuts += 1;
    entry.ended = Date.now();
    entry.retryMs = this.retryMs;
  }

  /** Ends what there is; with a status, the next connection is told that. */
  breakAll(status) {
    if (status) this.planned.unshift({ way: status, left: 0 });
    for (const client of this.ends) client.end();
  }

  close() {
    this.listener.close();
  }
}
