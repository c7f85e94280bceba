"""What the end-to-end tests share: a node in a temporary directory on a free port, and a client.

Standard library only. A test file runs alone: BELFRY=path/to/belfry python3 tests/e2e/api_test.py
"""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import warnings

BINARY = os.environ.get("BELFRY", "build/belfry")
SLOW = float(os.environ.get("BELFRY_SLOW", "1"))  # sanitizers: time-outs are stretched by this
os.environ.setdefault("BELFRY_WORKERS", "2")  # also where a node would have one alone: threads that meet are to be tested
CHEAP = ["--argon2-memory-kib", "8", "--argon2-passes", "1"]


class Node:
    """A node of its own; start, kill and stop it at will, the data stays until close()."""

    def __init__(self, *flags):
        self.dir = tempfile.mkdtemp(prefix="belfry-")
        self.data = os.path.join(self.dir, "data")
        self.flags = list(flags)
        self.listen = "127.0.0.1:0"
        self.peer_listen = "127.0.0.1:0"
        self.prefix = []  # a command that runs the binary
        self.process = None
        self.port = None

    def launch(self, *flags):
        """Starts it without waiting; gives the place in its log from which this run writes."""
        self.log = open(os.path.join(self.dir, "log"), "ab")
        at = self.log.tell()
        self.process = subprocess.Popen(
            [*self.prefix, BINARY, "serve", "--data", self.data, "--listen", self.listen, "--peer-listen", self.peer_listen, *CHEAP, *self.flags, *flags],
            stderr=self.log, stdout=self.log)
        return at

    def start(self, *flags, timeout=30):
        at = self.launch(*flags)
        until = time.monotonic() + timeout * SLOW
        while time.monotonic() < until:
            text = self.log_text()[at:]
            ready = re.search(r'"msg":"ready","detail":"HTTP on port (\d+)', text)
            if ready:
                self.port = int(ready.group(1))
                return self
            if self.process.poll() is not None:
                raise AssertionError("the node did not start:\n" + text[-3000:])
            time.sleep(0.005)
        raise AssertionError("the node did not become ready:\n" + self.log_text()[at:][-3000:])

    def log_text(self):
        with open(os.path.join(self.dir, "log"), "rb") as f:
            return f.read().decode("utf-8", "replace")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60 * SLOW)
        if code != 0:
            raise AssertionError("exit status %d\n%s" % (code, self.log_text()[-3000:]))

    def close(self):
        if self.process and self.process.poll() is None:
            self.stop()
        if self.process:
            self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def client(self, token=None):
        return Client(self.port, token)

    def signup(self, name, password="correct horse"):
        answer = self.client().post("/v1/auth/signup", {"username": name, "email": "".join(c if c.isalnum() or c in ".-" else "=%x" % ord(c) for c in name) + "@example.org", "password": password})
        if answer.status != 201:
            raise AssertionError("signup: %d %s" % (answer.status, answer.text))
        client = self.client(answer.json["access_token"])
        client.refresh_token = answer.json["refresh_token"]
        client.user = answer.json["user"]
        return client


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.text = body.decode("utf-8", "replace")

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def code(self):
        return self.json["code"]


class Client:
    """One kept-alive connection; opened again when the node closed it."""

    def __init__(self, port, token=None):
        self.port, self.token = port, token
        self.connection = None

    def request(self, method, path, body=None, headers=None, raw=False):
        headers = dict(headers or {})
        if self.token:
            headers.setdefault("Authorization", "Bearer " + self.token)
        if body is not None and not raw:
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * SLOW)
        try:
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except Exception:
            self.connection.close()
            self.connection = None
            raise
        if response.will_close:
            self.connection.close()
            self.connection = None
        return answer

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.request("POST", path, body, **kw)

    def put(self, path, body=None, **kw):
        return self.request("PUT", path, body, **kw)

    def patch(self, path, body=None, **kw):
        return self.request("PATCH", path, body, **kw)

    def delete(self, path, **kw):
        return self.request("DELETE", path, **kw)

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None


def raw(port, data, parts=None, wait=True):
    """Sends bytes as they are and returns all that comes until the node closes or goes silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=5 * SLOW) as s:
        try:
            for part in parts or [data]:
                s.sendall(part)
                if parts:
                    time.sleep(0.002)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the node has heard enough
        s.settimeout(0.5 * SLOW if wait else 0.05)
        out = b""
        try:
            while True:
                got = s.recv(65536)
                if not got:
                    return out, True
                out += got
        except socket.timeout:
            return out, False
        except ConnectionResetError:
            return out, True


class NodeTest(unittest.TestCase):
    """A node for all tests of the class."""
    flags = ()
    maxDiff = 2000

    @classmethod
    def setUpClass(cls):
        cls.node = Node(*cls.flags).start()

    @classmethod
    def tearDownClass(cls):
        cls.node.close()

    def expect(self, answer, status, code=None):
        self.assertEqual(answer.status, status, answer.text)
        if code:
            self.assertEqual(answer.headers["Content-Type"], "application/problem+json")
            problem = answer.json
            self.assertEqual(problem["code"], code, answer.text)
            self.assertEqual(problem["status"], status)
            self.assertEqual(problem["request_id"], answer.headers["X-Request-Id"])
        return answer


def main():
    warnings.simplefilter("ignore", ResourceWarning)  # clients are closed by going out of use
    unittest.main(verbosity=1, warnings="ignore")
