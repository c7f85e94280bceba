"""The facade beanstalkd: dialogues that are beanstalkd's own to the byte (played against Debian's beanstalkd 1.12 as well),
client libraries as they are, and what beanstalkd cannot do: workers at any node of a cluster, whose jobs outlive nodes.
ROUNDS (3) of kill -9 under load; DIALOGUES=0 leaves out those against Debian's beanstalkd."""
import collections
import os
import shutil
import socket
import struct
import threading
import time
import unittest

import beanstalkd_clients
import beanstalkd_dialogues
from belfry import SLOW, main
from facade import FacadeTest, facade_cluster

ROUNDS = int(os.environ.get("ROUNDS", "3"))


class Beanstalk:
    """A connection: one command, one answer."""

    def __init__(self, port, timeout=30):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout * SLOW)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def say(self, command, body=None):
        """The words of the answer; of one with a body, and the body."""
        text = command.encode() + b"\r\n" + (body + b"\r\n" if body is not None else b"")
        self.socket.sendall(text)
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed")
        words = line.decode().split()
        if words[0] in ("RESERVED", "FOUND", "OK"):
            words.append(self.file.read(int(words[-1]) + 2)[:-2])
        return words

    def put(self, body, priority=1024, delay=0, ttr=60):
        return self.say("put %d %d %d %d" % (priority, delay, ttr, len(body)), body)

    def stats(self, command):
        text = self.say(command)[-1].decode()
        return dict(line.split(": ", 1) for line in text.splitlines()[1:])


class SameWords(FacadeTest):
    facade = "beanstalkd"

    @unittest.skipIf(SLOW > 1 or os.environ.get("DIALOGUES") == "0" or not shutil.which("beanstalkd"), "of the release build alone")
    def test_the_dialogues_are_those_of_beanstalkd(self):
        with beanstalkd_dialogues.Beanstalkd() as real:
            self.assertGreater(beanstalkd_dialogues.run(real.address, real=True), 100)

    def test_one_node_says_the_same(self):
        count = beanstalkd_dialogues.run(("127.0.0.1", self.facade_port), slack=SLOW, replicated=True)
        self.assertGreater(count, 100)

    def test_a_tube_is_a_topic_that_administrators_see(self):
        with Beanstalk(self.facade_port) as b:
            b.say("use seen")
            self.assertEqual(b.put(b"hello")[0], "INSERTED")
        user = self.node.signup("looker")
        self.assertEqual(user.get("/v1/topics/seen").status, 404)
        self.assertEqual(user.post("/v1/topics/seen/messages", {"messages": [{"body": "x"}]}).status, 403)

    def test_a_topic_for_everybody_is_a_tube(self):
        user = self.node.signup("giver")
        self.assertEqual(user.put("/v1/topics/for.all", {"publish": ["*"], "consume": ["*"], "visibility_ms": 9000}).status, 201)
        self.assertEqual(user.put("/v1/topics/mine", {}).status, 201)
        for topic in ("for.all", "mine"):
            self.assertEqual(user.post("/v1/topics/%s/messages" % topic, {"messages": [{"body": "from HTTP"}]}).status, 201)
        with Beanstalk(self.facade_port) as b:
            b.say("watch for.all"), b.say("watch mine"), b.say("use for.all")
            job = b.say("reserve-with-timeout 5")
            self.assertEqual((job[0], job[-1]), ("RESERVED", b"from HTTP"))
            self.assertEqual(b.stats("stats-job " + job[1])["ttr"], "9")
            self.assertEqual(b.say("delete " + job[1]), ["DELETED"])
            self.assertEqual(b.say("reserve-with-timeout 0"), ["TIMED_OUT"])  # the other one is not for everybody
            self.assertEqual(b.put(b"back")[0], "INSERTED")
            b.say("use mine")
            self.assertEqual(b.put(b"no")[0], "INTERNAL_ERROR")
        got = user.post("/v1/topics/for.all/groups/g/receive", {"max": 9}).json["messages"]
        self.assertEqual([m["body"] for m in got], ["from HTTP", "YmFjaw=="])

    def test_a_job_that_comes_to_the_same_worker_again_is_its(self):
        with Beanstalk(self.facade_port) as b:
            b.say("use again"), b.say("watch again"), b.say("ignore default")
            job = b.put(b"x", ttr=1)
            other = b.put(b"y", priority=9999)
            self.assertEqual(b.say("reserve")[1], job[1])
            until = time.monotonic() + 20 * SLOW
            while b.stats("stats-job " + job[1])["state"] != "ready" and time.monotonic() < until:
                time.sleep(0.05)
            self.assertEqual(b.say("reserve")[1], job[1])
            self.assertEqual(b.say("delete " + job[1]), ["DELETED"])
            self.assertEqual(b.say("peek " + job[1]), ["NOT_FOUND"])
            self.assertEqual(b.say("reserve")[1], other[1])

    def test_jobs_are_given_back_whatever_was_said_last(self):
        long = "n" * 200
        for last in ("use " + long, "watch " + long, "stats-tube " + long, "pause-tube %s 0" % long):
            with Beanstalk(self.facade_port) as b:
                b.say("use last"), b.say("watch last")
                job = b.put(b"x" * 3000, ttr=600)
                self.assertEqual(b.say("reserve-with-timeout 1")[1], job[1])
                b.say(last)
            with Beanstalk(self.facade_port) as b:
                b.say("watch last")
                self.assertEqual(b.say("reserve-with-timeout 20")[1], job[1])
                self.assertEqual(b.say("delete " + job[1]), ["DELETED"])

    def test_connections_that_break_within_a_command_do_no_harm(self):
        for n in range(150):
            b = Beanstalk(self.facade_port)
            b.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets it
            command = [b"use fresh%d\r\nput 0 0 60 5000\r\n" % n + b"z" * 5000 + b"\r\n", b"pause-tube default 0\r\n", b"watch fresh\r\nreserve\r\n",
                       b"stats-tube default\r\n", b"kick 3\r\nstats\r\n", b"put 0 0 60 5000\r\nhalf"][n % 6]
            b.socket.sendall(command)
            time.sleep(0.002 * (n % 4))
            b.close()
        with Beanstalk(self.facade_port) as b:
            for n in range(0, 150, 6):
                b.say("use fresh%d" % n)
                self.assertIn(b.say("peek-ready")[-1], (b"z" * 5000, "NOT_FOUND"))

    def test_what_a_connection_may_have_is_bounded(self):
        with Beanstalk(self.facade_port) as b:
            b.socket.sendall(b"".join(b"watch bounded%d\r\n" % n for n in range(1000)))
            last = [b.file.readline() for _ in range(1000)][-2:]
            self.assertEqual(last, [b"WATCHING 1000\r\n", b"OUT_OF_MEMORY\r\n"])
        with Beanstalk(self.facade_port) as b:
            b.say("use many"), b.say("watch many"), b.say("ignore default")
            for verb, count in ((b"put 0 0 600 1\r\nx\r\n", 5001), (b"reserve-with-timeout 0\r\n", 5001)):
                for at in range(0, count, 100):
                    part = min(100, count - at)
                    b.socket.sendall(verb * part)
                    answers = [b.file.readline() for _ in range(part * (2 if verb[:1] == b"r" and at + part < count else 1))]
            self.assertEqual(answers[-1], b"OUT_OF_MEMORY\r\n")
        with Beanstalk(self.facade_port) as b:  # the connection is gone: all of them are ready again
            until = time.monotonic() + 30 * SLOW
            while b.stats("stats-tube many")["current-jobs-ready"] != "5001" and time.monotonic() < until:
                time.sleep(0.05)
            self.assertEqual(b.stats("stats-tube many")["current-jobs-ready"], "5001")

    def test_jobs_outlive_the_node(self):
        with Beanstalk(self.facade_port) as b:
            b.say("use kept")
            ids = [b.put(b"%d" % n, priority=n)[1] for n in range(3)]
            b.say("watch kept")
            held = b.say("reserve-with-timeout 1")
            self.assertEqual(held[1], ids[0])
            self.assertEqual(b.say("bury %s 7" % held[1]), ["BURIED"])
        self.node.kill()
        self.node.start()
        with Beanstalk(self.facade_port) as b:
            b.say("use kept"), b.say("watch kept")
            self.assertEqual(b.stats("stats-job " + ids[0])["state"], "buried")
            self.assertEqual(b.say("kick 9"), ["KICKED", "1"])
            self.assertEqual([b.say("reserve-with-timeout 1")[1] for _ in ids], [ids[1], ids[2], ids[0]])


class OfCluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster, cls.ports = facade_cluster("beanstalkd")

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()


class ThreeNodes(OfCluster):
    def test_any_node_says_the_same(self):
        for port in self.ports[:1 if SLOW > 1 else 3]:
            beanstalkd_dialogues.run(("127.0.0.1", port), slack=2 * SLOW, replicated=True)

    @unittest.skipIf(SLOW > 1, "of the release build alone")
    def test_client_libraries_run_as_they_are(self):
        self.assertGreater(beanstalkd_clients.run(("127.0.0.1", self.ports[1]), slack=2), 70)

    def test_a_job_is_put_here_and_reserved_there(self):
        a, b, c = (Beanstalk(p) for p in self.ports)
        for n in range(50):
            tube = "t%d" % (n % 7)
            a.say("use " + tube), b.say("watch " + tube)
            job = a.put(b"x%d" % n)
            self.assertEqual(b.say("reserve-with-timeout 0")[:2], ["RESERVED", job[1]])
            self.assertEqual(c.say("delete " + job[1]), ["NOT_FOUND"])
            self.assertEqual(c.say("peek " + job[1])[-1], b"x%d" % n)
            self.assertEqual(c.stats("stats-job " + job[1])["state"], "reserved")
            self.assertEqual(b.say("delete " + job[1]), ["DELETED"])
            self.assertEqual(a.say("peek " + job[1]), ["NOT_FOUND"])
        for each in (a, b, c):
            each.close()

    def test_workers_wait_at_all_nodes(self):
        got, lock = [], threading.Lock()

        def work(port):
            with Beanstalk(port) as b:
                b.say("watch waited"), b.say("ignore default")
                job = b.say("reserve")
                with lock:
                    got.append(job[-1])
                b.say("delete " + job[1])
        threads = [threading.Thread(target=work, args=(p,)) for p in self.ports for _ in range(4)]
        for t in threads:
            t.start()
        time.sleep(0.3)
        with Beanstalk(self.ports[0]) as b:
            b.say("use waited")
            for n in range(len(threads)):
                b.put(b"%d" % n)
        for t in threads:
            t.join(30 * SLOW)
        self.assertEqual(sorted(got, key=int), [b"%d" % n for n in range(len(threads))])


class Work:
    """Producers and workers at some nodes: what was inserted is deleted, by one of them, and nobody is told of an error."""

    def __init__(self, ports):
        self.ports, self.lock, self.stop = ports, threading.Lock(), False
        self.inserted, self.deleted, self.wrong = set(), collections.Counter(), []
        self.threads = [threading.Thread(target=self.guard, args=(run, port)) for port in ports for run in (self.produce, self.work)]
        for t in self.threads:
            t.start()

    def guard(self, run, port):
        try:
            with Beanstalk(port) as b:
                run(b)
        except Exception as e:  # a connection that breaks, too: these nodes live
            self.wrong.append(repr(e))

    def produce(self, b):
        b.say("use work")
        n = 0
        while not self.stop:
            while len(self.inserted) > sum(self.deleted.values()) + 200 and not self.stop:
                time.sleep(0.01)  # what is left at the end is not much, however slow the workers are
            answer = b.put(b"%d" % n, ttr=3)
            with self.lock:
                if answer[0] == "INSERTED":
                    self.inserted.add(answer[1])
                else:
                    self.wrong.append(answer)
            n += 1

    def work(self, b):
        b.say("watch work")
        while True:
            job = b.say("reserve-with-timeout 2")
            if job[0] == "TIMED_OUT" and self.stop:
                return
            if job[0] != "RESERVED":
                self.wrong += [job] if job[0] not in ("TIMED_OUT", "DEADLINE_SOON") else []
                continue
            answer = b.say("delete " + job[1])
            with self.lock:
                self.deleted[job[1]] += answer[0] == "DELETED"
                self.wrong += [answer] if answer[0] not in ("DELETED", "NOT_FOUND") else []

    def end(self):
        self.stop = True
        for t in self.threads:
            t.join(60 * SLOW)


class Failover(OfCluster):
    def test_jobs_of_a_node_that_dies_come_back(self):
        dying, other = Beanstalk(self.ports[2]), Beanstalk(self.ports[0])
        other.say("use left"), other.say("watch left"), dying.say("watch left")
        job = other.put(b"x", ttr=2)
        self.assertEqual(dying.say("reserve-with-timeout 1")[:2], ["RESERVED", job[1]])
        self.cluster.kill(2)
        again = other.say("reserve-with-timeout 20")
        self.assertEqual(again[:2], ["RESERVED", job[1]])
        self.assertEqual(other.stats("stats-job " + job[1])["timeouts"], "1")
        self.assertEqual(other.say("delete " + job[1]), ["DELETED"])
        self.cluster.launch(2)
        self.cluster.wait_ready()
        other.close(), dying.close()

    def test_no_job_is_lost_or_done_twice_while_nodes_are_killed(self):
        for round_ in range(ROUNDS):
            victim = self.cluster.most_leading()
            work = Work([p for i, p in enumerate(self.ports) if i != victim])
            time.sleep(0.5)
            self.cluster.kill(victim)
            time.sleep(2)
            self.cluster.launch(victim)
            self.cluster.wait_ready()
            time.sleep(0.5)
            work.end()
            self.assertEqual(work.wrong, [])
            self.assertEqual({i for i, n in work.deleted.items() if n > 0}, work.inserted)
            self.assertEqual(max(work.deleted.values()), 1)
            print("round %d: %d jobs" % (round_, len(work.inserted)), flush=True)


if __name__ == "__main__":
    main()
