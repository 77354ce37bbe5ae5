"""wget, which keeps connections, follows what a page links to, and resumes what broke off."""

import json
import os
import pathlib
import tempfile

import common


def wget(*args, ok=0, folder=None):
    """What wget prints; it must end with the code `ok` and not try twice."""
    command = ["wget", "--no-config", "--tries=1", "--timeout=8", "-nv", "-S", *args]
    environment = {**os.environ, "LC_ALL": "C"}
    done = common.run(command, (ok,), seconds=30, env=environment, cwd=folder)
    return done.stdout, done.stderr


class Wget(common.WithServer):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.request("PUT", "/topics/a", "41.5")

    def connections(self):
        """How many the server accepted until now, with the one that asks."""
        return self.server.counter("encke_connections_accepted_total")

    def test_reads_with_and_without_keep_alive(self):
        for more in [[], ["--no-http-keep-alive"], ["--header=Accept-Encoding: identity"]]:
            with self.subTest(more=more):
                out, fields = wget(*more, "-O", "-", self.url + "/topics/a")
                self.assertEqual(json.loads(out)["value"], 41.5)
                self.assertIn("HTTP/1.1 200 OK", fields)
                self.assertEqual(fields.count("Connection: close"), int("--no-http-keep-alive" in more))

    def test_many_files_take_one_connection(self):
        before = self.connections()
        urls = [self.url + path for path in ["/", "/topics", "/metrics", "/health", "/events/poll"]]
        with tempfile.TemporaryDirectory() as folder:
            wget("-O", "all", *urls, folder=folder)
            text = (pathlib.Path(folder) / "all").read_text()
        for part in ["<!doctype html>", '"topics":[', "encke_topics 1", '"status":"ok"', '"events":[']:
            self.assertIn(part, text)
        self.assertEqual(self.connections() - before, 2, "wget's and the one that asks")

    def test_compressed(self):
        plain, _ = wget("-O", "-", self.url + "/")
        packed, fields = wget("--compression=auto", "-O", "-", self.url + "/")
        self.assertIn("Content-Encoding: gzip", fields)
        self.assertEqual(packed, plain)

    def test_spider_sends_head(self):
        _, fields = wget("--spider", self.url + "/", self.url + "/topics")
        self.assertEqual(fields.count("HTTP/1.1 200 OK"), 2)
        wget("--spider", self.url + "/nothing", ok=8)

    def test_publishes(self):
        out, _ = wget("-O", "-", "--post-data=7", self.url + "/topics/b")
        self.assertIn("subscribers", json.loads(out))
        with tempfile.NamedTemporaryFile("w") as file:
            file.write('"' + "x" * 8000 + '"')
            file.flush()
            wget("-O", "-", "--method=PUT", f"--body-file={file.name}", self.url + "/topics/c")
            file.write("x" * 3_000_000)
            file.flush()
            _, fields = wget("-O", "-", f"--post-file={file.name}", self.url + "/topics/c", ok=8)
        self.assertIn("413 Content Too Large", fields)
        wget("-O", "-", "--method=DELETE", self.url + "/topics/b")
        _, fields = wget("-O", "-", self.url + "/topics/b", ok=8)
        self.assertIn("404 Not Found", fields)

    def test_a_mirror_of_the_page(self):
        with tempfile.TemporaryDirectory() as folder:
            wget("-r", "-l", "1", "-nH", "-A", "index.html,?plain", self.url + "/", folder=folder)
            page = (pathlib.Path(folder) / "index.html").read_text()
        self.assertEqual(page, wget("-O", "-", self.url + "/")[0])

    def test_going_on_with_half_a_file_gets_it_whole(self):
        """There are no ranges: 200 with everything, which wget notices."""
        whole = wget("-O", "-", self.url + "/")[0]
        with tempfile.TemporaryDirectory() as folder:
            half = pathlib.Path(folder) / "index.html"
            half.write_text(whole[:1000])
            wget("-c", self.url + "/", folder=folder)
            self.assertEqual(half.read_text(), whole)

    def test_a_stream_is_read_until_its_deadline(self):
        command = ["timeout", "1", "wget", "-q", "-O", "-", self.url + "/events/stream"]
        text = common.run(command, (124,), seconds=10).stdout
        self.assertIn('"hello"', text.split("\n")[0])
        self.assertIn('"value":41.5', text)


if __name__ == "__main__":
    common.main()
