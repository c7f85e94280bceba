"""Three nodes share the hashing of passwords: evenly in turn, by who is busy, by who is slow; whoever dies or
stops on the way costs no request. Which node did it says X-Belfry-Node. SECONDS (4) of load a case."""
import collections
import concurrent.futures
import os
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

from belfry import SLOW, Node, main
from cluster import free_ports

SECONDS = float(os.environ.get("SECONDS_EACH", "4"))
# Long enough to outweigh what surrounds a hash; still a fraction of the default.
COST = ["--argon2-memory-kib", "4096", "--argon2-passes", "1"]


class Cluster:
    """Three nodes that found a cluster together."""

    def __init__(self, *flags, size=3):
        addresses = ["127.0.0.1:%d" % p for p in free_ports(size)]
        self.nodes = [Node("--join", ",".join(addresses), *COST, *flags) for _ in addresses]
        for node, address in zip(self.nodes, addresses):
            node.peer_listen = address
        with concurrent.futures.ThreadPoolExecutor(size) as pool:
            list(pool.map(lambda n: n.start(timeout=60), self.nodes))
        self.wait_until_whole()

    def wait_until_whole(self):
        """Every node is ready and has a fresh report of all."""
        until = time.monotonic() + 30 * SLOW
        names = set()
        while time.monotonic() < until:
            up = [n for n in self.nodes if n.process.poll() is None]
            answers = [n.client().get("/readyz") for n in up]
            names = {a.headers["X-Belfry-Node"] for a in answers}
            seen = [set(values(n, "belfry_balance_sent_total")) for n in up]
            if all(a.status == 200 for a in answers) and all(names <= s for s in seen):
                self.names = [a.headers["X-Belfry-Node"] for a in answers]
                return
            time.sleep(0.05)
        raise AssertionError("the cluster is not whole: %s" % names)

    def close(self):
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
        with concurrent.futures.ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda n: n.close(), self.nodes))


def values(node, family):
    """{node id: value} of a family of /metrics."""
    text = node.client().get("/metrics").text
    return {m.group(1): float(m.group(2)) for m in re.finditer(r'^%s\{node="([^"]+)"\} (\S+)$' % family, text, re.M)}


class Load:
    """Sign-ups at one node by some clients, until told to stop: who did them, and what failed."""
    names = 0
    lock = threading.Lock()

    def __init__(self, node, clients=8):
        self.node, self.stopping = node, False
        self.by, self.failures = collections.Counter(), []
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def run(self):
        client = self.node.client()
        while not self.stopping:
            with Load.lock:
                Load.names += 1
                name = "u%d" % Load.names
            try:
                answer = client.post("/v1/auth/signup", {"username": name, "email": name + "@example.org", "password": "correct horse"})
                if answer.status == 201:
                    self.by[answer.headers["X-Belfry-Node"]] += 1
                else:
                    self.failures.append((answer.status, answer.text))
            except OSError as error:
                self.failures.append(repr(error))

    def stop(self):
        self.stopping = True
        for t in self.threads:
            t.join()
        return self.by

    def count(self):
        return sum(self.by.values())

    def wait_for(self, more, seconds=60):
        """Until so many more are done."""
        goal, until = self.count() + more, time.monotonic() + seconds * SLOW
        while self.count() < goal and time.monotonic() < until:
            time.sleep(0.02)
        if self.count() < goal:
            raise AssertionError("too few sign-ups: %d of %d; %s" % (self.count(), goal, self.failures[:3]))


def load_for(node, seconds, **kw):
    load = Load(node, **kw)
    time.sleep(seconds)
    load.stop()
    return load


class Hindered:
    """A node whose hashing processes run only a part of the time, stopped and continued in turn."""

    def __init__(self, node, share=0.15, period=0.1):
        found = subprocess.run(["pgrep", "-P", str(node.process.pid)], capture_output=True, text=True, check=True)
        self.pids = [int(p) for p in found.stdout.split()]
        self.share, self.period, self.done = share, period, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def signal(self, number):
        for pid in self.pids:
            os.kill(pid, number)

    def run(self):
        while not self.done.is_set():
            self.signal(signal.SIGSTOP)
            self.done.wait(self.period * (1 - self.share))
            self.signal(signal.SIGCONT)
            self.done.wait(self.period * self.share)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.signal(signal.SIGCONT)


class BalanceTest(unittest.TestCase):
    flags = ()

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(*cls.flags)
        cls.nodes = cls.cluster.nodes

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()

    def shares(self, load):
        self.assertEqual(load.failures, [])
        return [load.by[name] for name in self.cluster.names]


class RoundRobin(BalanceTest):
    flags = ("--balance", "round_robin")

    def test_sign_ups_at_one_node_are_hashed_evenly_by_all(self):
        before = values(self.nodes[0], "belfry_balance_sent_total")
        load = load_for(self.nodes[0], SECONDS)
        shares, total = self.shares(load), load.count()
        self.assertGreater(total, 60)
        for share in shares:
            self.assertLess(abs(share - total / 3), max(0.05 * total / 3, 2), shares)
        # What the nodes themselves count is the same.
        sent = values(self.nodes[0], "belfry_balance_sent_total")
        self.assertEqual([sent[n] - before[n] for n in self.cluster.names], shares)
        self.assertEqual(sum(values(self.nodes[0], "belfry_balance_outstanding").values()), 0)
        served = sum(values(n, "belfry_balance_served_total")[self.cluster.names[0]] for n in self.nodes[1:])
        self.assertGreaterEqual(served, shares[1] + shares[2])

    def test_a_login_says_who_compared_the_password(self):
        self.nodes[0].signup("who")
        seen = set()
        for _ in range(6):
            answer = self.nodes[0].client().post("/v1/auth/login", {"login": "who", "password": "correct horse"})
            self.assertEqual(answer.status, 200, answer.text)
            seen.add(answer.headers["X-Belfry-Node"])
        self.assertEqual(seen, set(self.cluster.names))
        for _ in range(3):
            wrong = self.nodes[0].client().post("/v1/auth/login", {"login": "who", "password": "wrong horse"})
            self.assertEqual((wrong.status, wrong.code), (401, "invalid_credentials"))
            nobody = self.nodes[0].client().post("/v1/auth/login", {"login": "nobody", "password": "wrong horse"})
            self.assertEqual((nobody.status, nobody.code), (401, "invalid_credentials"))

    def test_a_command_says_who_carried_it_out(self):
        user = self.nodes[0].signup("what")
        seen = {user.post("/v1/reminders", {"title": "t"}).headers["X-Belfry-Node"] for _ in range(3)}
        self.assertEqual(len(seen), 1)  # the leader of the account's partition
        self.assertLessEqual(seen, set(self.cluster.names))
        self.assertEqual(user.get("/v1/reminders").headers["X-Belfry-Node"], self.cluster.names[0])


class Slow:
    def test_a_slow_node_gets_less_and_its_share_again_later(self):
        with Hindered(self.nodes[2]):
            load_for(self.nodes[0], SECONDS / 2)  # so that it is known
            slow = self.shares(load_for(self.nodes[0], SECONDS))
        self.assertLess(slow[2] * 1.5, min(slow[:2]), slow)
        load_for(self.nodes[0], SECONDS)
        again = self.shares(load_for(self.nodes[0], SECONDS))
        self.assertGreater(again[2] / sum(again), 1.3 * slow[2] / sum(slow), (slow, again))
        self.assertGreater(again[2] * 2, min(again[:2]), again)


class LeastConnections(Slow, BalanceTest):
    flags = ("--balance", "least_connections")


class WeightedResponseTime(Slow, BalanceTest):
    flags = ()

    def test_a_stopped_node_is_left_alone_until_it_is_back(self):
        load = Load(self.nodes[0])
        load.wait_for(30)
        self.nodes[2].process.send_signal(signal.SIGSTOP)
        try:
            load.wait_for(30)
            time.sleep(1.5 * SLOW)
            before = load.by[self.cluster.names[2]]
            load.wait_for(60)
            self.assertEqual(load.by[self.cluster.names[2]], before)
        finally:
            self.nodes[2].process.send_signal(signal.SIGCONT)
        until = time.monotonic() + 30 * SLOW
        while load.by[self.cluster.names[2]] < before + 10 and time.monotonic() < until:
            time.sleep(0.05)
        load.stop()
        self.assertEqual(load.failures, [])
        self.assertGreaterEqual(load.by[self.cluster.names[2]], before + 10)


class Kills(BalanceTest):
    def test_a_node_killed_under_sign_ups_fails_none_and_works_again(self):
        load = Load(self.nodes[0])
        try:
            for victim in (2, 1, 2):
                name = self.cluster.names[victim]
                load.wait_for(40)
                self.nodes[victim].kill()
                load.wait_for(40)
                self.nodes[victim].start(timeout=60)
                before, until = load.by[name], time.monotonic() + 30 * SLOW
                while load.by[name] < before + 5 and time.monotonic() < until:
                    time.sleep(0.05)
                self.assertGreaterEqual(load.by[name], before + 5)
        finally:
            load.stop()
        self.assertEqual(load.failures, [])

    def test_a_node_stopped_in_order_fails_none(self):
        load = Load(self.nodes[0])
        try:
            load.wait_for(40)
            self.nodes[1].stop()
            load.wait_for(40)
        finally:
            load.stop()
            self.nodes[1].start(timeout=60)
            self.cluster.wait_until_whole()
        self.assertEqual(load.failures, [])


class Overload(BalanceTest):
    def test_what_no_node_has_room_for_is_refused_and_the_rest_waits(self):
        """256 wait on each of three nodes; nobody computes for longer than a retry takes."""
        request = 'POST /v1/auth/signup HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s'
        hindered = [Hindered(n) for n in self.nodes]
        for h in hindered:
            h.signal(signal.SIGSTOP)
        try:
            sockets = []
            for i in range(800):
                body = '{"username":"o%d","email":"o%d@example.org","password":"correct horse"}' % (i, i)
                s = socket.create_connection(("127.0.0.1", self.nodes[0].port), timeout=60 * SLOW)
                s.sendall((request % (len(body), body)).encode())
                sockets.append(s)
            time.sleep(2.5)
        finally:
            for h in hindered:
                h.signal(signal.SIGCONT)
        counts = collections.Counter()
        for s in sockets:
            answer = b""
            while True:
                got = s.recv(65536)
                if not got:
                    break
                answer += got
            counts[answer[9:12]] += 1
            if answer[9:12] == b"503":
                self.assertIn(b'"code":"overloaded"', answer)
                self.assertIn(b"Retry-After: ", answer)
        # Nobody takes more than its queue holds; on a busy machine what is known of another's may be a little old.
        self.assertEqual(counts[b"201"] + counts[b"503"], 800)
        self.assertLessEqual(counts[b"201"], 768)
        self.assertGreater(counts[b"201"], 740)
        until = time.monotonic() + 10 * SLOW  # what was sent twice is computed twice
        while any(values(n, "belfry_balance_reported_queue")[name] for n, name in zip(self.nodes, self.cluster.names)):
            self.assertLess(time.monotonic(), until)
            time.sleep(0.1)


class Alone(unittest.TestCase):
    def test_a_policy_that_there_is_not(self):
        node = Node("--balance", "random")
        with self.assertRaisesRegex(AssertionError, "balance"):
            node.start()
        node.close()

    def test_one_node_hashes_by_itself(self):
        node = Node().start()
        answer = node.signup("one").get("/v1/users/me")
        self.assertEqual(list(values(node, "belfry_balance_sent_total").items()), [(answer.headers["X-Belfry-Node"], 1)])
        node.close()


if __name__ == "__main__":
    main()
