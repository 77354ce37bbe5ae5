"""nginx in front, as most people set it up: reading works at once and unbuffered, writing does not."""

import http.client
import json
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import common

CONF = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{target}; {more} }} }}
}}
"""
HTTP_11 = 'proxy_http_version 1.1; proxy_set_header Connection "";'
MARKED = HTTP_11 + " proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
BUSY_S = 5


class Nginx:
    def __init__(self, target, more):
        self.folder = tempfile.TemporaryDirectory(prefix="encke-nginx-")
        self.port = common.free_port()
        folder = pathlib.Path(self.folder.name)
        conf = CONF.format(folder=folder, port=self.port, target=target, more=more)
        (folder / "conf").write_text(conf)
        # Debian keeps it where only root's PATH leads.
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        assert program, "nginx is missing; scripts/test installs it"
        self.process = subprocess.Popen(
            [program, "-p", folder, "-c", folder / "conf", "-e", folder / "error.log"])
        common.wait_until(self.answers, what="nginx")

    def answers(self):
        assert self.process.poll() is None, "nginx ended"
        try:
            return self.request("GET", "/health")[0] == 200
        except OSError:
            return False

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def end(self):
        self.process.terminate()
        self.process.wait(5)
        self.folder.cleanup()


class Proxy(unittest.TestCase):
    def behind(self, more, config=common.QUIET):
        self.server = common.Server(config)
        self.addCleanup(self.server.folder.cleanup)
        self.addCleanup(self.server.end)
        nginx = Nginx(self.server.port, more)
        self.addCleanup(nginx.end)
        return nginx

    def assert_stream_is_live(self, nginx, path):
        connection = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=BUSY_S)
        connection.request("GET", path)
        answer = connection.getresponse()
        self.assertEqual(answer.status, 200)
        for n in range(3):
            self.server.request("PUT", "/topics/a", f'"number {n}"')
            line = b""
            while f"number {n}".encode() not in line:
                line = answer.readline()  # times out if nginx held it back
                self.assertTrue(line, f"{path} ended")
        answer.close()
        connection.close()

    def test_reading(self):
        for more in ["", HTTP_11, MARKED]:
            nginx = self.behind(more)
            with self.subTest(more):
                self.assert_stream_is_live(nginx, "/events/sse")
                self.assert_stream_is_live(nginx, "/events/stream")
                viewers = lambda: json.loads(self.server.request("GET", "/health")[2])["viewers"]
                common.wait_until(lambda: viewers() == 0, BUSY_S, "viewers that left are gone")
                status, body = nginx.request("GET", "/events/poll")
                self.assertEqual((status, json.loads(body)["events"][0]["value"]), (200, "number 2"))
                status, body = nginx.request("GET", "/topics")
                self.assertEqual((status, len(json.loads(body)["topics"])), (200, 1))
                self.assertIn("<!doctype html>", nginx.request("GET", "/")[1].lower())

    def test_writing_is_refused(self):
        trusted = '[server]\ntrusted_proxies = ["127.0.0.1"]\n'
        for more, config in [("", ""), (MARKED, ""), (HTTP_11, trusted), ("", trusted)]:
            nginx = self.behind(more, config)
            for method, path in [("POST", "/topics/a"), ("PUT", "/topics/a"), ("POST", "/topics"),
                                 ("DELETE", "/topics/a"), ("POST", "/nothing")]:
                with self.subTest(more=more, method=method, path=path):
                    status, body = nginx.request(method, path, '"from outside"')
                    self.assertEqual(status, 403, body)
                    self.assertRegex(body, r"only this board|never local|trusted_proxies")
            self.assertEqual(nginx.request("GET", "/topics/a")[0], 404)


if __name__ == "__main__":
    common.main()
