// Signing in and out, and a board without a free place, in a real browser against the real binary:
// ENCKE_BIN=path node --test
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { after, before, test } from "node:test";
import { Board, Link, flaws, launch, live, phone, saysInHeader, shot, sleep, tile }
  from "./harness.mjs";

const NAME = "board.test"; // of no address here but by this rule
const SECRET = "q7Zk2vN0w4";
const TOKEN = `phone.${SECRET}`;
const CLOSED = "[server]\nread = []\n";

let browser;

before(async () => {
  browser = await launch([`--host-resolver-rules=MAP ${NAME} 127.0.0.1`]);
});

after(() => browser?.close());

/** A row of the configuration for `SECRET`; `more` is TOML. */
const token = (more = "", name = "phone") => `[[token]]\nname = "${name}"
sha256 = "${createHash("sha256").update(SECRET).digest("hex")}"\nread = ["#"]\n${more}\n`;

/** Runs `act` with a board of this configuration and a fresh page, which must not have gone wrong:
 *  the browser's own notes of a request that was refused are none of its faults. */
async function withBoard(config, options, act) {
  const board = await Board.start(undefined, config);
  const page = await phone(browser, options);
  page.asked = [];
  page.on("request", (request) => page.asked.push(new URL(request.url())));
  try {
    await act(board, page);
    const isRefusal = (fault) => /status of (400|401|429|503)/.test(fault);
    assert.deepEqual(page.faults.filter((fault) => !isRefusal(fault)), []);
  } finally {
    await page.context().close();
    await board.kill();
  }
}

const panel = (page) => page.locator("#sign");
const field = (page) => page.getByLabel("Token");
const saysInPanel = (page, words, timeout = 10_000) =>
  panel(page).getByText(words).waitFor({ timeout });

/** The footer says who is signed in. */
const isSignedIn = (page, name = "phone") =>
  page.locator("#who").getByText(`Signed in as ${name}`).waitFor();

async function enter(page, words) {
  await field(page).fill(words);
  await panel(page).getByRole("button", { name: "Sign in" }).click();
}

/** Nothing the page or its history keeps has the secret; the cookie has, which no script reads. */
async function keepsNoSecret(page) {
  const tab = await page.context().newCDPSession(page);
  const { entries } = await tab.send("Page.getNavigationHistory");
  const kept = await page.evaluate(() => [location.href, document.cookie, document.URL,
    document.documentElement.outerHTML, document.title, JSON.stringify({ ...localStorage }),
    JSON.stringify({ ...sessionStorage }), JSON.stringify(history.state),
    ...[...document.querySelectorAll("input")].map((input) => input.value)]);
  // What somebody typed or scanned is the browser's own to remember.
  for (const text of [...kept, ...entries.map(({ url, title }) => url + title)]) {
    assert.ok(!text.includes(SECRET), `the secret is in ${text.slice(0, 200)}`);
  }
}

async function cookie(page, host) {
  const cookies = await page.context().cookies();
  return cookies.filter((one) => one.domain === host).map((one) =>
    [one.name, one.value, one.httpOnly, one.sameSite, one.secure, one.path].join(" "));
}

test("a link signs a phone in, and leaves nothing of it behind", () =>
  withBoard(CLOSED + token(), {}, async (board, page) => {
    await page.goto(`${board.url}/#token=${TOKEN}`);
    await live(page);
    await isSignedIn(page);
    assert.equal(page.url(), `${board.url}/`);
    assert.deepEqual(await cookie(page, "127.0.0.1"), [`encke ${TOKEN} true Strict false /`]);
    await keepsNoSecret(page);
    await page.waitForSelector(".tile .number");
    assert.equal(await panel(page).isVisible(), false);
    const paths = page.asked.filter((url) => url.protocol === "http:").map((url) => url.pathname);
    assert.deepEqual(paths.slice(0, 3), ["/", "/session", "/events/sse"]);
    await page.locator("#who").scrollIntoViewIfNeeded();
    await shot(page, "signed-in");
    assert.deepEqual(await flaws(page), []);

    // The browser remembers, and is asked for it after the first picture only.
    page.asked.length = 0;
    await page.reload();
    await live(page);
    await isSignedIn(page);
    const again = page.asked.filter((url) => url.protocol === "http:").map((url) => url.pathname);
    assert.deepEqual(again.slice(0, 2), ["/", "/events/sse"]);

    // A link that is followed in a page that is open.
    await page.getByRole("button", { name: "Sign out" }).click();
    await saysInPanel(page, /those who have a token/);
    await page.evaluate((hash) => { location.hash = hash; }, `token=${TOKEN}`);
    await isSignedIn(page);
    assert.ok(!page.url().includes("token"), page.url());
    await keepsNoSecret(page);
  }));

test("it does by a name on plain http, too", () =>
  withBoard(`[server]\nread = []\nhosts = ["${NAME}"]\n${token()}`, {}, async (board, page) => {
    const url = `http://${NAME}:${board.port}`;
    await page.goto(`${url}/#token=${TOKEN}`);
    await live(page);
    await isSignedIn(page);
    assert.equal(await page.evaluate(() => window.isSecureContext), false);
    assert.deepEqual(await cookie(page, NAME), [`encke ${TOKEN} true Strict false /`]);
    await keepsNoSecret(page);
    await page.getByRole("button", { name: "Sign out" }).click();
    await saysInPanel(page, /those who have a token/);
    assert.deepEqual(await cookie(page, NAME), []);
  }));

test("a closed board asks for a token, says what is wrong with it, and lets go", () =>
  withBoard(CLOSED + token(), {}, async (board, page) => {
    await page.goto(board.url);
    await saysInPanel(page, "This board shows its values to those who have a token.");
    await saysInHeader(page, /Sign in to see the values/);
    assert.equal(await page.locator(".tile").count(), 0);
    const kind = await field(page).evaluate((node) => [node.type, node.autocomplete]);
    assert.deepEqual(kind, ["password", "current-password"]);
    const small = await page.$$eval("#sign button, #sign input", (nodes) =>
      nodes.filter((node) => node.getBoundingClientRect().height < 44).map((node) => node.id));
    assert.deepEqual(small, [], "smaller than a finger");
    await shot(page, "sign-in");
    assert.deepEqual(await flaws(page), []);
    await page.emulateMedia({ colorScheme: "dark" });
    await shot(page, "sign-in-dark");
    assert.deepEqual(await flaws(page), []);

    await enter(page, "phone.wrong");
    await saysInPanel(page, /This token is not known here.*“encke token NAME”/);
    assert.equal(await field(page).inputValue(), "");
    await enter(page, "two words");
    await saysInPanel(page, /This is no token\. One looks like NAME\.SECRET/);
    await shot(page, "sign-in-wrong");
    const before = page.asked.length;
    await sleep(3000);
    assert.equal(page.asked.length, before, "a closed page asks nothing");

    await enter(page, ` ${board.url}/#token=${TOKEN}\n`);
    await live(page);
    await isSignedIn(page);
    assert.equal(await panel(page).isVisible(), false);
    await keepsNoSecret(page);
    await board.publish("demo/x", 7);
    await tile(page, "demo/x").waitFor();

    await page.getByRole("button", { name: "Sign out" }).click();
    await saysInPanel(page, /those who have a token/);
    assert.deepEqual(await cookie(page, "127.0.0.1"), []);
    assert.equal(await page.locator(".tile").count(), 0);
    assert.ok(!(await page.content()).includes("demo/x"));
  }));

test("a link with a wrong token is said so, and what is open stays", () =>
  withBoard(token(), {}, async (board, page) => {
    await page.goto(`${board.url}/#token=phone.wrong`);
    await saysInPanel(page, /This token is not known here/);
    await live(page);
    await page.waitForSelector(".tile");
    assert.equal(page.url(), `${board.url}/`);
    await enter(page, SECRET); // alone it is enough
    await isSignedIn(page);
    await live(page);
    assert.equal(await panel(page).isVisible(), false);
  }));

test("after five wrong tokens the next try waits, and the page counts the seconds", () =>
  withBoard(CLOSED + token(), {}, async (board, page) => {
    const wrong = async () => (await fetch(`${board.url}/session`,
      { method: "POST", body: "phone.wrong" })).status;
    await page.goto(board.url);
    await saysInPanel(page, /those who have a token/);
    for (let i = 0; i < 5; i += 1) assert.equal(await wrong(), 401);
    for (const wait of [1000, 2000]) {
      await sleep(wait + 100);
      assert.equal(await wrong(), 401);
    }
    await enter(page, TOKEN);
    await saysInPanel(page, /Too many wrong tokens came from this address\. Try again in \d s\./);
    const button = panel(page).getByRole("button", { name: "Sign in" });
    assert.equal(await button.isDisabled(), true);
    await shot(page, "sign-in-wait");
    assert.deepEqual(await flaws(page), []);
    await saysInPanel(page, "Now you can try again.");
    await enter(page, TOKEN);
    await isSignedIn(page);
  }));

test("signing in shows what a token may read, and signing out what anybody may", () =>
  withBoard(`[server]\nread = ["open/#"]\n${token().replace('["#"]', '["mine/#"]')}`, {},
    async (board, page) => {
      for (const topic of ["open/x", "mine/x", "other/x"]) await board.publish(topic, 1);
      const shown = () => page.$$eval(".tile", (tiles) => tiles.map((node) => node.title));
      await page.goto(board.url);
      await live(page);
      await tile(page, "open/x").waitFor();
      assert.deepEqual(await shown(), ["open/x"]);

      await page.getByRole("button", { name: "Sign in" }).click();
      await saysInPanel(page, "With a token this page may show more.");
      await shot(page, "sign-in-open");
      await enter(page, TOKEN);
      await isSignedIn(page);
      await tile(page, "mine/x").waitFor();
      for (const topic of ["open/x", "mine/x", "other/x"]) await board.publish(topic, 2);
      await tile(page, "mine/x").getByText("2", { exact: true }).waitFor();
      await sleep(1000);
      assert.deepEqual(await shown(), ["mine/x"]);
      await page.getByText(/^1 topic ·/).waitFor();

      await page.getByRole("button", { name: "Sign out" }).click();
      await tile(page, "open/x").waitFor();
      await sleep(1000);
      assert.deepEqual(await shown(), ["open/x"]);
      assert.equal(await panel(page).isVisible(), false);
    }));

for (const transport of ["a stream", "polls"]) {
  test(`a token that ends while ${transport} run is missed in words`, async () => {
    const until = Math.ceil(Date.now() / 1000) + 9;
    const open = async (config, act) => withBoard(config + token(`until = ${until}`), {},
      async (board, page) => {
        if (transport === "polls") await page.addInitScript(() => delete window.EventSource);
        await page.goto(`${board.url}/#token=${TOKEN}`);
        await live(page);
        await page.locator("#who").getByText(/Signed in as phone until \w+ \d+/).waitFor();
        await act(page);
        assert.deepEqual(await cookie(page, "127.0.0.1"), []);
      });
    await Promise.all([
      open(CLOSED, async (page) => {
        await saysInPanel(page, "The token phone has ended. Sign in again.", 15_000);
        assert.equal(await page.locator(".tile").count(), 0);
        await shot(page, "token-ended");
        await enter(page, TOKEN);
        await saysInPanel(page, /This token has ended: its until/);
      }),
      open("", async (page) => {
        await saysInHeader(page, /The token phone has ended/, 15_000);
        await live(page);
        await page.waitForSelector(".tile");
        await page.locator("#who").getByText("Sign in").waitFor();
        await shot(page, "token-ended-open");
      }),
    ]);
  });
}

test("a cookie that counts no longer keeps nobody from the page", () =>
  withBoard(token(), {}, async (board, page) => {
    await page.context().addCookies([{ name: "encke", value: "phone.old", url: board.url }]);
    await page.goto(board.url);
    await live(page);
    await page.waitForSelector(".tile");
    assert.deepEqual(await cookie(page, "127.0.0.1"), []);
    assert.equal(await panel(page).isVisible(), false);

    await page.context().addCookies([{ name: "encke", value: "phone.old", url: board.url }]);
    await page.goto(`${board.url}/#token=${TOKEN}`);
    await isSignedIn(page);
    assert.deepEqual(await cookie(page, "127.0.0.1"), [`encke ${TOKEN} true Strict false /`]);
  }));

test("without a script the browser asks for the token itself", async () => {
  const board = await Board.start(undefined, CLOSED + token());
  const options = { javaScriptEnabled: false };
  try {
    const refused = await fetch(`${board.url}/?plain`);
    assert.equal(refused.status, 401);
    assert.match(refused.headers.get("www-authenticate"), /^Basic realm=/);
    const page = await phone(browser, options);
    await assert.rejects(page.goto(board.url).then(() => page.waitForURL(/\?plain/)));
    await page.context().close();
    const knowing = await phone(browser,
      { ...options, httpCredentials: { username: "anybody", password: TOKEN } });
    await board.publish("demo/plain", 5);
    await knowing.goto(board.url);
    await knowing.waitForURL(/\?plain/);
    await knowing.locator("table").getByText("demo/plain").waitFor();
    await knowing.context().close();
  } finally {
    await board.kill();
  }
});

/** Somebody else's stream, held until it is `close`d. It asks until it has a place: the board may not
 *  have seen yet that the one before it went. */
async function viewer(board) {
  for (let tries = 0; tries < 100; tries++, await sleep(20)) {
    const request = http.get(`${board.url}/events/sse`);
    const answer = await new Promise((done, fail) =>
      request.on("response", done).on("error", fail));
    const [hello] = await once(answer.on("error", () => {}), "data");
    if (!/busy/.test(hello)) return answer.resume() && { close: () => request.destroy() };
    request.destroy();
  }
  throw new Error("the board had no place for a viewer for 2 s");
}

test("without a free place for viewers the page polls, says so, and comes back", () =>
  withBoard("[limits]\nviewers = 1\n", { colorScheme: "dark" }, async (board, page) => {
    const other = await viewer(board);
    const asked = (path) => page.asked.filter((url) => url.pathname === path);
    const words = /All places for viewers are taken: shown every 5 seconds/;
    await page.clock.install();
    await page.goto(board.url);
    await saysInHeader(page, words);
    await page.waitForSelector(".tile .number");
    await board.publish("demo/x", "one");
    await tile(page, "demo/x").getByText("one").waitFor({ timeout: 6000 });
    await board.publish("demo/x", "two");
    await tile(page, "demo/x").getByText("two").waitFor({ timeout: 6000 });
    await shot(page, "full");
    assert.deepEqual(await flaws(page), []);
    const polls = asked("/events/poll");
    assert.ok(polls.length <= 4 && polls.every((url) => url.search.includes("timeout=0")));
    assert.equal(asked("/events/sse").length, 1);
    assert.equal(await page.locator("#notice").isVisible(), false);

    // Still full when the board said to try again: nothing of that is seen.
    await page.clock.fastForward(60_000);
    await page.waitForRequest(/events\/poll/);
    assert.equal(asked("/events/sse").length, 2);
    await saysInHeader(page, words);

    other.close();
    await page.clock.fastForward(60_000);
    await live(page);
    assert.equal(await page.locator("#words").textContent(), "Live");
    assert.equal(asked("/events/sse").length, 3);
    await board.publish("demo/x", "three");
    await tile(page, "demo/x").getByText("three").waitFor({ timeout: 2000 });
  }));

test("long-polls without a free place come now and then, too", () =>
  withBoard("[limits]\nviewers = 1\n", {}, async (board, page) => {
    const other = await viewer(board);
    await page.addInitScript(() => delete window.EventSource);
    await page.clock.install();
    await page.goto(board.url);
    await saysInHeader(page, /All places for viewers are taken: shown every 5 seconds/);
    await board.publish("demo/x", "one");
    await tile(page, "demo/x").getByText("one").waitFor({ timeout: 6000 });
    other.close();
    await page.clock.fastForward(70_000);
    await live(page);
    await board.publish("demo/x", "two");
    await tile(page, "demo/x").getByText("two").waitFor({ timeout: 2000 });
  }));

/** Connections whose requests never end. */
async function hostiles(board, count) {
  const sockets = Array.from({ length: count }, () => {
    const socket = net.connect(board.port, "127.0.0.1").on("error", () => {});
    socket.write("POST /topics/slow HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n1");
    return socket.resume();
  });
  await sleep(500);
  return { close: () => sockets.forEach((socket) => socket.destroy()) };
}

test("without a free connection the values stay, and the board is left alone", () =>
  withBoard("[limits]\nviewers = 1\npages = 8\n", {}, async (board, page) => {
    const link = await Link.to(board);
    try {
      await page.goto(link.url);
      await live(page);
      await board.publish("demo/x", 1);
      await tile(page, "demo/x").waitFor();
      link.cut();
      const other = await viewer(board);
      const hostile = await hostiles(board, 8);
      link.mend();
      page.asked.length = 0;
      const words = /All connections are taken, trying again in \d+ s — showing values from \d+ s/;
      await saysInHeader(page, words);
      await tile(page, "demo/x").waitFor();
      await shot(page, "turned-away");
      hostile.close();
      other.close();
      await sleep(4000);
      assert.ok(page.asked.length <= 6, page.asked.join("\n")); // each try is a stream and a poll
      await live(page);
    } finally {
      link.close();
    }
  }));

test("one address with too many connections is told so", () =>
  withBoard("", {}, async (board, page) => {
    const link = await Link.to(board);
    try {
      await page.goto(link.url);
      await live(page);
      await page.route(/\/(events|topics|session)/, (route) => route.fulfill({ status: 503,
        contentType: "text/plain; charset=utf-8", headers: { "Retry-After": "4" },
        body: "this address has too many connections: close some, or raise per_address" }));
      link.cut();
      await saysInHeader(page, /This address has too many connections, trying again in [4-8] s/);
      page.asked.length = 0;
      link.mend();
      await sleep(3000);
      assert.deepEqual(page.asked, [], "asked again before the board wanted it");
      await page.unroute(/\/(events|topics|session)/);
      await live(page);
    } finally {
      link.close();
    }
  }));
