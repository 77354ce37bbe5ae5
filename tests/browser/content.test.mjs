// What the page may do, as a real browser understands its fields: ENCKE_BIN=path node --test
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";
import { Board, freePort, launch, live, phone, tile } from "./harness.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** Anybody's server, which lets everybody read it. */
async function stranger(body = "stranger") {
  const server = http.createServer((_, answer) => {
    answer.setHeader("Access-Control-Allow-Origin", "*");
    answer.setHeader("Content-Type", "text/html");
    answer.end(body);
  });
  server.listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  server.host = `127.0.0.1:${server.address().port}`;
  return server;
}

async function withBoard(config, act) {
  const board = await Board.start(undefined, config);
  const page = await phone(browser);
  try {
    await act(board, page);
  } finally {
    await page.context().close();
    await board.kill();
  }
}

/** The directives that were violated by what `act` does inside the page. */
const violations = (page, act, argument) => page.evaluate(
  async ([source, argument]) => {
    const seen = [];
    const note = (event) => seen.push(event.effectiveDirective);
    document.addEventListener("securitypolicyviolation", note);
    await new Promise((done) => {
      // Not eval, which the policy forbids: the functions are known by their names.
      const acts = {
        script: () => {
          const node = document.createElement("script");
          node.textContent = "window.stranger = true";
          document.body.append(node);
        },
        handler: () => {
          const node = document.createElement("div");
          node.setAttribute("onclick", "window.stranger = true");
          document.body.append(node);
          node.click();
        },
        style: () => {
          const node = document.createElement("style");
          node.textContent = "body { display: none }";
          document.head.append(node);
        },
        image: () => {
          new Image().src = `http://${argument}/x.png`;
        },
        frame: () => {
          const node = document.createElement("iframe");
          node.src = `http://${argument}/`;
          document.body.append(node);
        },
        form: () => {
          const node = document.createElement("form");
          node.action = `http://${argument}/`;
          document.body.append(node);
          node.submit();
        },
        base: () => {
          const node = document.createElement("base");
          node.href = `http://${argument}/`;
          document.head.append(node);
        },
        fetch: () => fetch(`http://${argument}/`).catch(() => {}),
        events: () => new EventSource(`http://${argument}/`),
        socket: () => {
          try {
            new WebSocket(`ws://${argument}/`);
          } catch { /* also a way to be refused */ }
        },
      };
      acts[source]();
      setTimeout(done, 300);
    });
    return seen;
  },
  [act, argument],
);

test("the page runs, and nothing that is put into it", () =>
  withBoard("", async (board, page) => {
    const other = await stranger();
    try {
      const answers = [];
      page.on("response", (answer) => answers.push(answer));
      await page.goto(board.url);
      await live(page);
      await board.publish("demo/x", 1);
      await tile(page, "demo/x").waitFor();
      await page.goto(`${board.url}/?plain`);
      await page.locator("table").getByText("demo/x").waitFor();
      assert.notEqual(await page.evaluate(() => getComputedStyle(document.body).maxWidth), "none");
      assert.deepEqual(page.faults, []);
      await page.goto(board.url);
      await live(page);
      for (const [act, directive] of [["script", "script-src-elem"],
        ["handler", "script-src-attr"], ["style", "style-src-elem"], ["image", "img-src"],
        ["frame", "frame-src"], ["form", "form-action"], ["base", "base-uri"],
        ["fetch", "connect-src"], ["events", "connect-src"], ["socket", "connect-src"]]) {
        const seen = await violations(page, act, other.host);
        assert.ok(seen.length > 0 && seen.every((name) => name === directive), `${act}: ${seen}`);
      }
      assert.equal(await page.evaluate(() => window.stranger), undefined);
      const policies = answers.filter((answer) => new URL(answer.url()).pathname === "/")
        .map((answer) => answer.headers()["content-security-policy"]);
      assert.ok(policies.length > 0 && policies.every(Boolean));
    } finally {
      other.close();
    }
  }));

test("no other site frames the page", () =>
  withBoard("", async (board, page) => {
    const other = await stranger(`<!doctype html><iframe src="${board.url}/"></iframe>
      <iframe src="${board.url}/?plain"></iframe>`);
    try {
      await page.goto(`http://${other.host}/`);
      await page.waitForTimeout(1000);
      const refused = page.faults.filter((fault) => /frame-ancestors|refused/i.test(fault));
      assert.equal(refused.length, 2, page.faults.join("\n"));
      for (const frame of page.frames().slice(1)) {
        assert.equal(await frame.locator("main, table").count(), 0);
      }
    } finally {
      other.close();
    }
  }));

test("the page may connect to push_host, also one that was set while the page was kept", async () => {
  const push = await stranger();
  const port = await freePort();
  const page = await phone(browser);
  let board = await Board.start(port);
  try {
    await page.goto(board.url);
    await live(page);
    for (const act of ["fetch", "socket"]) {
      assert.deepEqual(await violations(page, act, push.host), ["connect-src"], act);
    }
    await board.kill();
    board = await Board.start(port, `[server]\npush_host = "${push.host}"\n`);
    const answer = page.waitForResponse((one) => new URL(one.url()).pathname === "/");
    await page.goto(board.url);
    const policy = (await (await answer).allHeaders())["content-security-policy"];
    assert.ok(policy.endsWith(` ${push.host} ws://${push.host}`), policy);
    await live(page);
    for (const act of ["fetch", "events", "socket"]) {
      assert.deepEqual(await violations(page, act, push.host), [], act);
    }
  } finally {
    await page.context().close();
    await board.kill();
    push.close();
  }
});

test("a page that is kept costs a 304, in its coding", () =>
  withBoard("", async (board, page) => {
    const network = await page.context().newCDPSession(page);
    await network.send("Network.enable");
    const seen = [];
    network.on("Network.responseReceivedExtraInfo", (info) => seen.push(info));
    for (let i = 0; i < 2; i += 1) {
      await page.goto(board.url);
      await live(page);
    }
    const pages = seen.filter((info) => info.headers.ETag);
    assert.deepEqual(pages.map((info) => info.statusCode), [200, 304]);
    assert.equal(pages[0].headers["Content-Encoding"], "gzip");
    assert.equal(pages[1].headers.ETag, pages[0].headers.ETag);
    assert.deepEqual(page.faults, []);
  }));
