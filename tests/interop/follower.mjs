// Who follows a log over a bad line, whatever the client: every number must come once and in order,
// or its loss must be told to the number.
import assert from "node:assert/strict";
import { CuttingProxy, Server, sleep } from "./common.mjs";

export const QUIET = '[sources]\nexclude = ["#"]\n';
const KINDS = ["message", "hello", "heartbeat", "busy"];

export const sequence = (id) => Number(id.slice(id.indexOf("-") + 1));

/**
 * Follows all that a log has from behind `last`, and knows what was lost. `make(url, last)` is an
 * EventSource, or what is used like one.
 */
export class Follower {
  constructor(make, url, last) {
    Object.assign(this, { values: [], hellos: [], busy: [], errors: [], lost: 0, told: 0, last });
    this.fault = null;
    this.source = make(url, last);
    for (const kind of KINDS) {
      this.source.addEventListener(kind, (event) => {
        try {
          this.take(kind, JSON.parse(event.data), event.lastEventId);
        } catch (fault) {
          this.fault ??= fault;
        }
      });
    }
    this.source.onerror = (error) => this.errors.push(error);
  }

  take(kind, data, id) {
    if (kind === "busy") return void this.busy.push({ ...data, at: Date.now() });
    if (kind === "hello") {
      if (!data.reset) assert.equal(data.id, this.last, "it goes on where it was");
      this.hellos.push(data);
      this.told = data.lost;
    }
    if (kind === "message") {
      if (this.hellos.at(-1).reset === false) {
        const missed = sequence(id) - sequence(this.last) - 1;
        assert.equal(missed, this.told, `what ${id} comes behind`);
      }
      this.lost += this.told;
      this.told = 0;
      this.values.push(data.value);
    }
    this.last = id;
    return undefined;
  }

  async until(isSo, seconds, what) {
    for (let ms = 0; ms < seconds * 1000; ms += 20) {
      if (this.fault) throw this.fault;
      if (isSo(this)) return;
      await sleep(20);
    }
    assert.fail(`${what}: not within ${seconds} s; the last was ${this.values.at(-1)} at ${this.last}`);
  }
}

export const range = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);

/** A server, a proxy before it and a follower from its first event on. */
export async function withFollower(make, config, [bytesMax, cuts, how], act) {
  const server = await Server.start(QUIET + config);
  let proxy;
  let follower;
  try {
    const { id } = await server.publish("count", -1);
    proxy = await CuttingProxy.start(server.port, bytesMax, cuts, how);
    follower = new Follower(make, proxy.url, id);
    await act({ server, proxy, follower, id });
  } catch (fault) {
    fault.message += ` (${proxy?.plan})`;
    throw fault;
  } finally {
    follower?.source.close();
    proxy?.close();
    await server.close();
  }
}

export async function publishSlowly(server, to, ms) {
  for (let at = 0; at < to; at += 20) {
    await server.publishNumbers("count", at, Math.min(at + 20, to));
    await sleep(ms / (to / 20));
  }
}
