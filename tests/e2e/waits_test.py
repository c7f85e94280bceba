"""What scripts wait for, and commands that are joined: build/belfry_waits, whose kind `tally` only tests want
(tests/waits/tally.c). A tally is counted up with POST /v1/tally/{id}, and waited for with GET ?above=&wait_ms=."""
import concurrent.futures
import contextlib
import os
import resource
import socket
import statistics
import threading
import time
import unittest
import uuid

import belfry
from belfry import Node, SLOW

belfry.BINARY = os.environ.get("BELFRY_WAITS", belfry.BINARY + "_waits")
from cluster import Cluster  # noqa: E402  takes BINARY through belfry.Node

with contextlib.suppress(ValueError, OSError):
    resource.setrlimit(resource.RLIMIT_NOFILE, (10000, 10000))
WAITERS = int(os.environ.get("WAITERS", "300"))


def tally_id(partition=1):
    """An id of that partition: the 12 bits behind the version (node/base/id.h)."""
    raw = bytearray(uuid.uuid4().bytes)
    raw[0:6] = int(time.time() * 1000).to_bytes(6, "big")
    raw[6], raw[7] = 0x80 | partition >> 8, partition & 255
    raw[8] = 0x80 | raw[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(raw)))


class Waits(unittest.TestCase):
    def good(self, answer):
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json

    def add(self, client, tally, **query):
        return client.post("/v1/tally/%s?%s" % (tally, "&".join("%s=%s" % pair for pair in query.items())))

    def wait(self, client, tally, above, ms):
        return client.get("/v1/tally/%s?above=%d&wait_ms=%d" % (tally, above, ms))

    def count_many(self, tokens_and_ports, tally, threads, each, refuse=False):
        """Adds from many connections at once; the answers of those that were not refused."""
        def run(n):
            port, token = tokens_and_ports[n % len(tokens_and_ports)]
            client = belfry.Client(port, token)
            out = []
            for i in range(each):
                refused = refuse and i % 3 == 0
                answer = self.add(client, tally, refuse="true" if refused else "false")
                self.assertEqual(answer.status, 409 if refused else 200, answer.text)
                out += [] if refused else [answer.json]
            client.close()
            return out
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            return [answer for answers in pool.map(run, range(threads)) for answer in answers]

    def check_counted(self, answers):
        self.assertEqual(sorted(a["count"] for a in answers), list(range(1, len(answers) + 1)))
        for answer in answers:
            self.assertGreaterEqual(answer["seen"], answer["count"])  # script_applied

    def waiters(self, port, token, tally, above, ms, count):
        """Raw sockets that wait."""
        request = "GET /v1/tally/%s?above=%d&wait_ms=%d HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n" % (tally, above, ms, token)
        sockets = []
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", port), timeout=20 * SLOW)
            s.sendall(request.encode())
            sockets.append(s)
        time.sleep(0.5 * SLOW)
        return sockets

    def latencies(self, adder, waiter, tally, rounds):
        """From a change's begin until who waits for it elsewhere has its answer, in ms."""
        self.add(adder, tally)
        count, out = self.good(self.wait(waiter, tally, 0, 0))["seen"], []
        for _ in range(rounds):
            got = []
            thread = threading.Thread(target=lambda above=count: got.append((self.good(self.wait(waiter, tally, above, 20000)), time.monotonic())))
            thread.start()
            time.sleep(0.02 * SLOW)
            begun = time.monotonic()
            self.good(self.add(adder, tally))
            thread.join()
            answer, at = got[0]
            self.assertTrue(answer["rung"])
            self.assertEqual(answer["seen"], count + 1)
            out.append((at - begun) * 1000)
            count += 1
        return statistics.median(out)

    def adding(self, client, tally, rounds):
        out = []
        for _ in range(rounds):
            time.sleep(0.02 * SLOW)
            begun = time.monotonic()
            self.good(self.add(client, tally))
            out.append((time.monotonic() - begun) * 1000)
        return statistics.median(out)

    def large(self, cluster, clients):
        """A large item from every node, and again when one that was away comes back."""
        size, big = 2200 * 1024, [tally_id(p) for p in range(1, 5)]
        for one in big:
            for c in clients:
                self.assertEqual(self.good(self.add(c, one, size=size))["bytes"], size)
        cluster.kill(2)
        for one in big:
            for _ in range(3):
                self.assertEqual(self.good(self.add(clients[0], one, size=3 * 2**20 - 1))["bytes"], 3 * 2**20 - 1)
        cluster.launch(2)
        cluster.wait_ready(2)
        clients[2].close()
        for one in big:
            answer = self.good(self.wait(clients[2], one, 0, 0))
            self.assertEqual((answer["seen"], answer["bytes"]), (6, 3 * 2**20 - 1))

    def test_one_node(self):
        node = Node("--partitions", "4", "--workers", "2")
        self.addCleanup(node.close)
        node.start()
        client = node.signup("ada")
        listener = node.client(client.token)
        self.addCleanup(client.close)
        self.addCleanup(listener.close)
        tally = tally_id()
        answers = self.count_many([(node.port, client.token)], tally, 64, 20, refuse=True)
        self.check_counted(answers)
        entries = len({a["index"] for a in answers})
        print("one node: %d items in %d entries" % (len(answers), entries))
        self.assertLess(entries, len(answers))
        begun = time.monotonic()
        answer = self.good(self.wait(client, tally, 10**6, 300))
        self.assertFalse(answer["rung"])
        self.assertGreaterEqual(time.monotonic() - begun, 0.29)
        self.assertLess(time.monotonic() - begun, 0.3 + SLOW)
        self.assertEqual(self.add(client, tally, size=3 * 2**20).status, 413)
        print("one node: rung after %.2f ms" % self.latencies(client, listener, tally_id(2), 30))
        # Many wait for one; some go; the others hear.
        other = tally_id(3)
        waiting = self.waiters(node.port, client.token, other, 0, 60000, WAITERS)
        while len(waiting) > WAITERS * 2 // 3:
            waiting.pop().close()
        self.good(self.add(client, other))
        for s in waiting:
            self.assertIn(b"200 OK", s.recv(65536).split(b"\r\n")[0])
        # Who closes its side while it waits is let go.
        gone = self.waiters(node.port, client.token, other, 10, 60000, 1)[0]
        gone.shutdown(socket.SHUT_WR)
        self.assertEqual(gone.recv(100), b"")
        gone.close()
        # A stop answers who waits.
        for s in waiting:
            s.close()
        waiting = self.waiters(node.port, client.token, other, 10, 60000, WAITERS)
        begun = time.monotonic()
        node.process.terminate()
        for s in waiting:
            text = s.recv(65536)
            self.assertIn(b"200 OK", text.split(b"\r\n")[0])
            self.assertIn(b'"draining":true', text)
            s.close()
        self.assertLess(time.monotonic() - begun, 5 * SLOW)
        self.assertEqual(node.process.wait(timeout=30 * SLOW), 0, node.log_text()[-2000:])

    def test_cluster(self):
        with Cluster(3, "--partitions", "4", "--workers", "2") as cluster:
            client = cluster.nodes[0].signup("ada")
            clients = [n.client(client.token) for n in cluster.nodes]
            for each in [client, *clients]:
                self.addCleanup(each.close)
            time.sleep(1)
            tally = tally_id()
            ports = [(n.port, client.token) for n in cluster.nodes]
            answers = self.count_many(ports, tally, 48, 15, refuse=True)
            self.check_counted(answers)
            print("three nodes: %d items in %d entries" % (len(answers), len({a["index"] for a in answers})))
            self.assertLess(len({a["index"] for a in answers}), len(answers))
            for p in range(1, 5):
                print("three nodes, partition %d: rung after %s ms" % (p, ["%.2f" % self.latencies(clients[0], c, tally_id(p), 15) for c in clients[1:]]))
            for p in range(1, 5):
                print("three nodes, partition %d: added and applied in %s ms" % (p, ["%.2f" % self.adding(c, tally_id(p), 15) for c in clients]))
            if SLOW < 4:  # a sanitizer of threads takes longer over such an item than leaders are waited for
                self.large(cluster, clients)
            # Leaders change while items gather: each is counted once.
            tally = tally_id(2)
            stop = threading.Timer(0.3 * SLOW, cluster.stop, [2])
            stop.start()
            answers = self.count_many(ports[:2], tally, 32, 40)
            stop.join()
            self.check_counted(answers)
            cluster.stop_all()


if __name__ == "__main__":
    unittest.main(verbosity=2)
