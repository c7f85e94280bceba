"""tools/drill itself: a short drill of three nodes reports what happened, and nothing is lost, doubled or stale. How long
pauses are is not judged here: other work on the machine decides."""
import json
import os
import subprocess
import sys
import time
import unittest

from belfry import SLOW, main
from cluster import Cluster

DRILL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "drill")


class Drill(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(3)

    @classmethod
    def tearDownClass(cls):
        for node in cls.cluster.nodes:  # started again by drills: not children of ours
            pid = pid_of(node.data)
            if pid and pid != node.process.pid:
                os.kill(pid, 9)
        cls.cluster.close()

    def drill(self, *flags, nodes=True):
        named = ["--data", ",".join(n.data for n in self.cluster.nodes)] if nodes else []
        done = subprocess.run([sys.executable, DRILL, *named, "--connections", "12", "--warm-up", "0.5", "--client-timeout",
                               str(10 * SLOW), "--json", *flags], capture_output=True, text=True, timeout=120 * SLOW)
        return done, json.loads(done.stdout) if done.stdout.startswith("{") else None

    def check(self, done, report, rounds):
        self.assertIsNotNone(report, done.stderr)
        for what in ("lost", "duplicated", "stale", "unasked", "unchecked"):
            self.assertEqual(report[what], [], done.stderr)
        self.assertIsNone(report["trouble"])
        self.assertEqual(len(report["rounds"]), rounds)
        self.assertGreater(report["requests"], 0)
        self.assertGreater(report["acknowledged"], 0)
        self.assertGreater(report["reads_checked"], 0)
        self.assertEqual(set(report["latency_s"]["all"]), {"p50", "p99", "max"})
        self.assertGreater(report["pause_s"]["p50"], 0)
        self.assertGreaterEqual(report["pause_s"]["max"], report["pause_s"]["p50"])
        self.assertIn("steal", report["machine"])
        for r in report["rounds"]:
            self.assertGreater(r["answers"], 0)
            self.assertGreaterEqual(r["ready_s"], 0)
        self.assertEqual(done.returncode, 1 if report["wrong"] else 0)
        self.assertEqual(report["failed"], 0, report["failures"])

    def test_kill(self):
        done, report = self.drill("--fault", "kill", "--rounds", "2", "--every", "3", "--away", "0.7")
        self.check(done, report, 2)
        self.assertTrue(all(r["led"] > 0 for r in report["rounds"]))

    def test_pause(self):
        done, report = self.drill("--fault", "stop", "--rounds", "1", "--every", "3", "--away", "1.5")
        self.check(done, report, 1)
        self.assertTrue(any(key.startswith("back") for key in report["at_struck_node"]))

    def test_what_cannot_be_done_is_said_at_once(self):
        began = time.monotonic()
        done, _ = self.drill("--fault", "isolate")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("--isolate-command", done.stderr)
        done, _ = self.drill("--nodes", "http://127.0.0.1:1,http://127.0.0.1:2", nodes=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--kill-command", done.stderr)
        self.assertLess(time.monotonic() - began, 10 * SLOW)


def pid_of(data):
    tool = os.path.join(os.path.dirname(DRILL), "pid")
    found = subprocess.run([tool, data], capture_output=True, text=True).stdout.strip()
    return int(found) if found else None


if __name__ == "__main__":
    main()
