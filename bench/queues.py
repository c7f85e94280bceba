"""What the measuring scripts of the queue share: a client that counts on answers, threads, memory of nodes, latencies."""
import http.client
import json
import os
import threading
import time


class Client:
    """One kept-alive connection to one node."""

    def __init__(self, port, token):
        self.port, self.token, self.connection = port, token, None

    def ask(self, method, path, body=None, timeout=120):
        """The bytes of a good answer; anything else ends the measuring."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        self.connection.request(method, path, raw, {"Authorization": "Bearer " + self.token, "Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError("%s %s: %d %s" % (method, path, answer.status, text[:500]))
        return text

    def json(self, method, path, body=None):
        return json.loads(self.ask(method, path, body))

    def timed(self, method, path, body=None):
        began = time.perf_counter()
        text = self.ask(method, path, body)
        return time.perf_counter() - began, text


def in_threads(count, work):
    """work(n) in each; the first error is raised."""
    errors = []

    def guard(n):
        try:
            work(n)
        except Exception as e:
            errors.append(e)
    threads = [threading.Thread(target=guard, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def publish_many(clients, path, count, batch=1000, body="a message of little size %08d"):
    """COUNT messages by all clients; seconds."""
    began, lock, left = time.monotonic(), threading.Lock(), [count]

    def work(n):
        while True:
            with lock:
                size = min(batch, left[0])
                left[0] -= size
                at = left[0]
            if size == 0:
                return
            clients[n].ask("POST", path + "/messages", {"messages": [{"body": body % (at + i)} for i in range(size)]})
    in_threads(len(clients), work)
    return time.monotonic() - began


def anonymous_mib(cluster):
    """RssAnon of each node."""
    sizes = []
    for node in cluster.nodes:
        with open("/proc/%d/status" % node.process.pid) as f:
            sizes.append(next(int(line.split()[1]) for line in f if line.startswith("RssAnon")) / 1024)
    return sizes


def of(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def spread(values):
    return "p50 %.2f ms, p99 %.2f ms, max %.1f ms" % tuple(1000 * v for v in (of(values, 0.5), of(values, 0.99), max(values, default=float("nan"))))


def number(name, usual):
    return int(os.environ.get(name, str(usual)))
