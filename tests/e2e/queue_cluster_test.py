"""The queue on three nodes that are killed, paused, cut off, drained and restarted while publishers and consumers go on:
total_queue.py says what must be true of it in the end. SECONDS (50) of trouble, SEED."""
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import unittest

from belfry import BINARY, CHEAP, SLOW, main
from cluster import Cluster, ClusterTest
from total_queue import Entry, Judge, Load, Topic, number_of

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from drilling.lab import Lab  # noqa: E402
from drilling.nodes import Unable  # noqa: E402

SEED = int(os.environ.get("SEED", str(random.randrange(1 << 30))))
SECONDS = float(os.environ.get("SECONDS", "50"))
READY_S = 60


def topics():
    return [Topic("ordered", keys=30, publishers=3, pace=0.1, streams=1),
            Topic("urgent", priorities=(None, None, 0, 7, 5000, 1 << 31), delayed=0.1),
            Topic("wide", publishers=3, keys=40, partitions=3, visibility_ms=2000, streams=1),
            Topic("wide.nokeys", partitions=3, delayed=0.05),
            Topic("tries", keys=10, max_attempts=4, visibility_ms=700, streams=1, ack=0.35, nack=0.35, late=0.1, extend=0.1),
            Topic("once", groups=("only",), retain_acked=False, publishers=2),
            Topic("once.tries", groups=("only",), retain_acked=False, keys=10, max_attempts=4, visibility_ms=500, ack=0.4, nack=0.3)]


class Trouble:
    """Faults, one at a time, until the time is over; then everything is whole again."""

    def __init__(self, cluster, chance):
        self.cluster, self.chance, self.done = cluster, chance, []

    def run(self, seconds, kinds):
        until, round_ = time.monotonic() + seconds * SLOW, 0
        while time.monotonic() < until:
            kind = kinds[round_] if round_ < len(kinds) else self.chance.choice(kinds)
            victim = self.cluster.most_leading() if self.chance.random() < 0.7 else self.chance.randrange(3)
            self.done.append("%s %d" % (kind, victim))
            getattr(self, kind)(victim)
            self.cluster.wait_ready(timeout=READY_S)
            time.sleep(self.chance.uniform(0.5, 2))
            round_ += 1

    def away(self, least=0.3, most=2.5):
        time.sleep(self.chance.uniform(least, most))

    def kill(self, i):
        self.cluster.kill(i)
        self.away()
        self.cluster.launch(i)

    def kill_all(self, _):
        for i in self.chance.sample(range(3), 3):
            self.cluster.kill(i)
        self.cluster.start(self.chance.sample(range(3), 3), lambda: self.chance.uniform(0, 0.3))

    def pause(self, i):
        process = self.cluster.nodes[i].process
        process.send_signal(signal.SIGSTOP)
        try:
            self.away(0.5, 4)
        finally:
            process.send_signal(signal.SIGCONT)

    def restart(self, i):
        self.cluster.stop(i)
        self.away(0, 1)
        self.cluster.launch(i)

    def drain(self, i):
        node, other = self.cluster.nodes[i], self.cluster.nodes[(i + 1) % 3]
        with open(node.data + "/identity") as f:
            name = re.search(r"^node (\S+)$", f.read(), re.M).group(1)
        for flags in ((), ("--off",)):
            done = subprocess.run([BINARY, "drain", name, *flags, "--data", other.data], capture_output=True, text=True, timeout=30 * SLOW)
            if done.returncode != 0:
                raise AssertionError(done.stdout + done.stderr)
            self.away(0.3, 1.5)


class Cut(Trouble):
    """A node's cable to the other nodes is pulled: clients still reach it."""

    def cut(self, i):
        node = self.cluster.nodes[i]
        node.cable("down")
        try:
            self.away(0.5, 5)
        finally:
            node.cable("up")


class LabCluster:
    """What Trouble needs of a Cluster, of nodes in network namespaces."""

    def __init__(self):
        self.lab = Lab(3, BINARY, CHEAP)
        self.nodes = self.lab.nodes

    def most_leading(self):
        return max(range(3), key=lambda i: len(self.nodes[i].leads()))

    def wait_ready(self, timeout):
        until = time.monotonic() + timeout * SLOW
        while not all(n.is_ready() for n in self.nodes):
            if time.monotonic() > until:
                raise AssertionError("not ready: %r" % [n.get("/readyz?verbose") for n in self.nodes])
            time.sleep(0.02)

    def kill(self, i):
        self.nodes[i].local_kill()

    def launch(self, i):
        self.nodes[i].local_start()


class Total(ClusterTest):
    def trouble(self, trouble, addresses, token, kinds, of=topics()):
        load = Load(addresses, token, of, SEED)
        load.create()
        load.start()
        try:
            trouble.run(SECONDS, kinds)
            load.stop_publishing()
            time.sleep(3 * SLOW)  # longer than a node tries what it was asked
            load.drain(90 + SECONDS)  # consumers that misbehave fall behind
        finally:
            load.stop()
        judge = Judge(load)
        print("%s\n%s" % (", ".join(trouble.done), judge.report()), flush=True)
        self.assertEqual(judge.wrong, [], "seed %d" % SEED)
        self.assertGreater(judge.counts["acked"], 500)

    def test_nothing_is_lost_or_comes_again_whatever_nodes_do(self):
        print("seed", SEED, flush=True)
        cluster = self.cluster()
        token = cluster.signup(0, "ada").token
        self.trouble(Trouble(cluster, random.Random(SEED)), [("127.0.0.1", n.port) for n in cluster.nodes], token,
                     ["kill", "pause", "drain", "restart", "kill_all"])
        time.sleep(0.5)
        cluster.stop_all()
        self.check_replicas(cluster)

    def check_replicas(self, cluster):
        """Undamaged, and those that applied the same have the same."""
        hashes = {}
        for i, node in enumerate(cluster.nodes):
            done = subprocess.run([BINARY, "verify", "--data", node.data], capture_output=True, text=True, timeout=120 * SLOW)
            self.assertEqual(done.returncode, 0, done.stdout)
            for partition, applied, what in re.findall(r"partition (\d+): applied (\d+), (rows \d+, hash [0-9a-f]{16})", done.stdout):
                self.assertEqual(hashes.setdefault((partition, applied), what), what, "partition %s of node %d" % (partition, i))
        self.assertLess(len(hashes), 3 * 17, "nothing to compare")

    def test_a_node_that_is_cut_off_acknowledges_nothing_that_is_lost(self):
        print("seed", SEED, flush=True)
        try:
            cluster = LabCluster()
            self.addCleanup(cluster.lab.close, False)
            cluster.lab.open()
        except Unable as e:
            raise unittest.SkipTest(str(e))
        addresses = [(n.host, n.port) for n in cluster.nodes]
        name = {"username": "ada", "email": "ada@example.org", "password": "correct horse"}
        load = Load(addresses, "", [], SEED)
        token = Entry(load, 0).ask("POST", "/v1/auth/signup", name, {"Authorization": ""}, timeout=10).content["access_token"]
        self.trouble(Cut(cluster, random.Random(SEED)), addresses, token, ["cut", "cut", "kill", "cut"])


class Delays(ClusterTest):
    COUNT, SPREAD_MS = 600, 10000

    def test_delayed_messages_over_three_changes_of_the_leader(self):
        print("seed", SEED, flush=True)
        chance = random.Random(SEED)
        cluster = self.cluster()
        token = cluster.signup(0, "ada").token
        topic = Topic("later", publishers=0, visibility_ms=4000, ack=1, nack=0, late=0, extend=0)
        load = Load([("127.0.0.1", n.port) for n in cluster.nodes], token, [topic], SEED)
        load.create()
        for first in range(0, self.COUNT, 20):
            load.send(topic, 0, first, [self.message(i, chance) for i in range(first, first + 20)], Entry(load, first))
        partition = number_of(load.published[0].ids)[0]
        load.start()
        stamps, stop = [], threading.Event()
        try:
            for _ in range(3):
                leader = cluster.leader(partition)
                cluster.kill(leader)
                stamps.append(time.time())
                time.sleep(1.5)
                cluster.launch(leader)
                cluster.wait_ready(timeout=READY_S)
                stop.wait(chance.uniform(0.2, 0.8))
            load.drain()
        finally:
            load.stop()
        judge = Judge(load)
        late = sorted(d.wall - self.due_s(judge, d) for all_ in load.deliveries.values() for d in all_ if d.attempt == 1)
        self.assertEqual(judge.wrong, [], "seed %d" % SEED)
        for group in topic.groups:
            self.assertEqual(load.group(topic, group)["acked"], self.COUNT)
        struck = sum(min(stamps) < self.due_s(judge, d) < max(stamps) for d in load.deliveries["later", "a"])
        self.assertGreater(struck, 50, "due while leaders changed")
        print("%s; late by p50 %.3f s, p99 %.3f s, max %.3f s; %d due while leaders changed" % (
            judge.report(), late[len(late) // 2], late[len(late) * 99 // 100], late[-1], struck), flush=True)

    def message(self, i, chance):
        """By a delay or by a time, every other one."""
        ms = chance.randrange(500, self.SPREAD_MS)
        due = int(time.time() * 1000) + ms
        at = {"delay_ms": ms} if i % 2 else {"deliver_at": "%s.%03dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(due // 1000)), due % 1000)}
        return {"body": "m%d" % i, "dedup_id": "m%d" % i, **at}

    def due_s(self, judge, delivery):
        return judge.due_s(judge.by_body[delivery.body], delivery)


class Many(unittest.TestCase):
    """The measuring scripts, with few messages: they too say what is missing."""

    def script(self, name, **environment):
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", name)
        done = subprocess.run([sys.executable, path], env={**os.environ, "BELFRY": os.path.abspath(BINARY), **environment},
                              capture_output=True, text=True, timeout=300 * SLOW)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_all_leases_end_at_one_moment(self):
        self.assertIn("nothing is missing", self.script("dead_letters", COUNT="20000", LIMIT=str(round(10 * SLOW))))

    def test_many_topics_over_a_restart(self):
        self.assertIn("200 topics, 20000 messages", self.script("queue_start", COUNT="20000", TOPICS="200", ROUNDS="2", SAMPLES="100"))


if __name__ == "__main__":
    main()
