"""What nginx and Node's http server answer to the bytes of the conformance cases, beside Encke.

Prints Markdown: the cases in which one of them answers with another class of status than Encke, or
treats the connection otherwise, with who is right by RFC 9110 and 9112 (verdicts.tab). It judges
nothing by itself and is no test; the Rust suite holds Encke to the same files.

    ENCKE_BIN=target/debug/encke tests/.venv/bin/python tests/conformance/compare.py [NN-topic..]
"""

import concurrent.futures
import os
import pathlib
import re
import socket
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))
import common  # noqa: E402

QUIET_S = 0.5
AT_ONCE = 12
PROBE = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}

# nginx as a proxy before itself: so it has to read every request to its end, as an origin would.
NGINX = """
client_max_body_size 64k;
server { listen 127.0.0.1:{port}; location / { proxy_pass http://unix:{folder}/sink:; } }
server {
  listen unix:{folder}/sink;
  location = / { return 200 "page\\n"; }
  location = /health { return 200 "ok\\n"; }
  location /topics { return 200 "topics\\n"; }
  location /metrics { return 200 "metrics\\n"; }
  location / { return 404; }
}
"""
NODE = """
const server = require("node:http").createServer((request, answer) => {
  let path = "?";
  try {
    path = decodeURI(new URL(request.url, "http://localhost").pathname);
  } catch {}
  const known = /^\\/(health|topics(\\/.*)?|metrics)?$/.test(path);
  request.on("error", () => {});
  request.resume().on("end", () => {
    answer.statusCode = known ? 200 : 404;
    answer.end("node\\n");
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""


class Case:
    """One case: where it stands, and stages of (bytes to send, answers to wait for)."""

    def __init__(self, group, title):
        self.group, self.title = group, title
        self.stages, self.expected = [], []

    def sends(self, line):
        times = re.match(r">(\*(\d+))? (.*)$", line, re.S)
        assert times, f"{self.group}: not a line of bytes: {line}"
        if not self.stages or self.stages[-1][1]:
            self.stages.append([b"", 0])
        self.stages[-1][0] += unescaped(times[3]) * int(times[2] or 1)

    def expects(self, line):
        assert self.stages, f"{self.group}: an answer before any byte: {line}"
        self.stages[-1][1] += 1
        self.expected.append(line[1:].split())

    @property
    def heads(self):
        """Which answers come without a body."""
        return ["head" in words[1:] for words in self.expected if words[0] not in ("100", "hold")]

    @property
    def is_held(self):
        """Whether it is about a stream or a held poll, which the others do not have."""
        return any(b"/events" in sent for sent, _ in self.stages)


def unescaped(text):
    def one(found):
        return bytes([int(found[1], 16)]) if found[1] else ESCAPES[found[2].decode()]

    return re.sub(rb"\\(?:x([0-9a-fA-F]{2})|(.))", one, text.encode())


def cases(path):
    found = []
    for line in path.read_text().split("\n"):
        if line.startswith("# "):
            found.append(Case(path.stem, line[2:]))
        elif line.startswith(">"):
            found[-1].sends(line)
        elif line.startswith("<"):
            found[-1].expects(line)
        else:
            assert not line or line.startswith(";"), f"{path.name}: {line}"
    return found


class Talk:
    """A connection to a server that may answer anything."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(QUIET_S)
        self.got, self.is_open = b"", True

    def say(self, sent):
        """Sends, and collects what comes until it is silent or over."""
        try:
            self.socket.sendall(sent)
        except OSError:
            pass
        try:
            while piece := self.socket.recv(1 << 16):
                self.got += piece
            self.is_open = False
        except TimeoutError:
            pass
        except OSError:
            self.is_open = False


def statuses(got, heads):
    """The status of each answer in `got`; words where it is none."""
    found, heads = [], list(heads)
    while got:
        line = re.match(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n", got)
        if not line or b"\r\n\r\n" not in got:
            return found + ["a body without a head" if not line else "half a head"]
        head, got = got.split(b"\r\n\r\n", 1)
        found.append(line[1].decode())
        if found[-1] == "100":
            continue
        is_bare = heads.pop(0) if heads else False
        if is_bare or found[-1] in ("204", "304"):
            continue
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if length:
            got = got[int(length[1]):]
        elif re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
            whole = re.match(rb"(?s)(?:([0-9a-fA-F]+)\r\n.*?\r\n)*?0\r\n\r\n", got)
            got = got[whole.end():] if whole else b""
        else:
            got = b""
    return found


def outcome(case, port):
    """What a server made of a case: the statuses, and whether another request is answered."""
    talk = Talk(port)
    for sent, _ in case.stages:
        talk.say(sent)
    answered = statuses(talk.got, case.heads)
    fate = "close"
    if talk.is_open and not answered:
        fate = "hold"
    elif talk.is_open:
        talk.got = b""
        talk.say(PROBE)
        again = statuses(talk.got, [])
        # An answer that is not the probe's: the server was in the midst of another request.
        fate = "keep" if again[:1] == ["200"] else "hold" if again or talk.is_open else "close"
    talk.socket.close()
    return answered, fate


def ours(case):
    """What an Encke of its own made of a case, which begins with one topic."""
    with common.Server(common.QUIET) as server:
        server.request("PUT", "/topics/a", "1")
        return outcome(case, server.port)


def kind(result):
    """What is compared: the class of the final statuses, and the fate."""
    answered, fate = result
    return [status[0] for status in answered if status != "100"], fate


def words(result):
    answered, fate = result
    return " ".join([", ".join(answered) or "nothing", fate]).replace("nothing hold", "hold")


def start_node():
    process = subprocess.Popen(["node", "-e", NODE], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def verdicts():
    """Rows of (pattern of group and title, who is right and why)."""
    rows = (HERE / "verdicts.tab").read_text().split("\n")
    parts = [row.split("\t") for row in rows if row and not row.startswith(";")]
    assert all(len(row) == 2 for row in parts), "verdicts.tab: a row is `pattern TAB verdict`"
    return [(re.compile(pattern), verdict) for pattern, verdict in parts]


def verdict_of(case, rules):
    text = f"{case.group}: {case.title}"
    return next((verdict for rule, verdict in rules if rule.search(text)), "not judged yet")


def print_tables(rows, rules):
    for group in sorted({case.group for case, _ in rows}):
        mine = [(case, results) for case, results in rows if case.group == group]
        unlike = [[kind(results[n]) != kind(results[0]) for _, results in mine] for n in (1, 2)]
        print(f"\n### {group}\n\n{len(mine)} cases; nginx differs in {sum(unlike[0])}, "
              f"Node in {sum(unlike[1])}.")
        judged = {}
        for at, (case, results) in enumerate(mine):
            if unlike[0][at] or unlike[1][at]:
                cells = [words(results[0])] + [
                    words(results[n]) if unlike[n - 1][at] else "the same" for n in (1, 2)]
                section, title = case.title.split(": ", 1)
                row = [section, title.replace("|", "\\|"), *cells]
                judged.setdefault(verdict_of(case, rules), []).append(row)
        for verdict, table in judged.items():
            print(f"\n{verdict}\n\n| section | case | Encke | nginx | Node |")
            print("| --- | --- | --- | --- | --- |")
            for row in table:
                print("| " + " | ".join(row) + " |")


def check_ours(rows):
    """Says where Encke over TCP is not as the case file has it; the number of such cases."""
    bad = 0
    for case, results in rows:
        finals = [words for words in case.expected if words[0] not in ("100", "hold")]
        wanted = [words[0] for words in finals], finals[-1][1] if finals else "hold"
        held = case.expected[-1][0] == "hold"
        got = [status for status in results[0][0] if status != "100"], results[0][1]
        if got != (wanted[0], "hold" if held else wanted[1]):
            bad += 1
            print(f"compare: {case.group}: {case.title}: {words(results[0])}, "
                  f"the case says {case.expected}", file=sys.stderr)
    return bad


def main():
    asked = sys.argv[1:]
    paths = [path for path in sorted(HERE.glob("*.case")) if not asked or path.stem in asked]
    every = [case for path in paths for case in cases(path)]
    compared = [case for case in every if not case.is_held]
    with common.Nginx(NGINX) as nginx:
        node, port = start_node()
        try:
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                results = list(pool.map(lambda case: [ours(case)] + [
                    outcome(case, port) for port in (nginx.port, port)], compared))
        finally:
            node.terminate()
            node.wait(5)
    rows = list(zip(compared, results))
    same = sum(kind(a) == kind(b) == kind(c) for _, (a, b, c) in rows)
    print(f"{len(every)} cases; {len(every) - len(compared)} of them are about streams, which the "
          f"others do not have. In {same} of the other {len(compared)} all three do the same.")
    print_tables(rows, verdicts())
    return 1 if check_ours(rows) else 0


if __name__ == "__main__":
    os.environ.setdefault("ENCKE_BIN", common.BIN)
    sys.exit(main())
