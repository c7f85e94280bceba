"""Backups: made under load, read back, restored into a new cluster; refused when a bit is flipped or the key is
another one, before anything is written."""
import glob
import os
import random
import re
import subprocess
import threading
import time
import unittest

from belfry import BINARY, Node, NodeTest, SLOW, main


def run(*args):
    return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=120 * SLOW)


def hashes(text):
    """partition -> (applied, rows, hash), as verify and backup print them."""
    return {int(m[0]): m[1:] for m in re.findall(r"partition (\d+): applied (\d+), rows (\d+), hash ([0-9a-f]+)", text)}


class Backup(NodeTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.key = cls.node.dir + "/key"
        assert run("secret", cls.key).returncode == 0
        cls.user = cls.node.signup("writer")

    def good(self, done):
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_under_load_and_restored(self):
        made, stop, lock = {}, threading.Event(), threading.Lock()

        def write(n):
            client, i = self.node.client(self.user.token), 0
            while not stop.is_set():
                i += 1
                title = "t%d.%d" % (n, i)
                answer = client.post("/v1/reminders", {"title": title, "content": "c" * (i % 50) * 100})
                with lock:
                    made[answer.json["id"]] = title
        threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
        for t in threads:
            t.start()
        time.sleep(0.5 * SLOW)
        files = []
        for i in range(3):
            with lock:
                before = dict(made)
            file = "%s/b%d" % (self.node.dir, i)
            printed = hashes(self.good(run("backup", file, "--data", self.node.data, "--key-file", self.key)))
            files.append((file, before, printed))
            time.sleep(0.2 * SLOW)
        stop.set()
        for t in threads:
            t.join()
        for file, before, printed in files:
            self.assertEqual(hashes(self.good(run("verify", file, "--key-file", self.key))), printed)
            node = Node()
            self.addCleanup(node.close)
            self.assertEqual(hashes(self.good(run("restore", file, "--data", node.data, "--key-file", self.key))), printed)
            verify = self.good(run("verify", "--data", node.data))  # the hashes, computed anew from what is there
            self.assertEqual(hashes(verify), printed)
            node.start()
            identities = [open(d + "/identity").read() for d in (node.data, self.node.data)]
            for line in ("cluster", "node"):
                a, b = (re.search(line + " (.*)", i).group(1) for i in identities)
                self.assertNotEqual(a, b)
            client, found, cursor = node.client(self.user.token), {}, ""
            while cursor is not None:
                page = self.expect(client.get("/v1/reminders?limit=200" + ("&cursor=" + cursor if cursor else "")), 200).json
                found.update((r["id"], r["title"]) for r in page["items"])
                cursor = page["next_cursor"]
            self.assertEqual({i: found.get(i) for i in before}, before)
            self.assertEqual({i: t for i, t in found.items() if made.get(i) != t}, {})
            self.expect(client.post("/v1/reminders", {"title": "after"}), 201)
            self.expect(client.post("/v1/auth/login", {"login": "writer", "password": "correct horse"}), 200)
            node.kill()
            node.start()
            node.stop()

    def test_damaged_or_wrong_key_is_refused_before_anything_is_written(self):
        file, other = self.node.dir + "/damaged", self.node.dir + "/otherkey"
        self.good(run("backup", file, "--data", self.node.data, "--key-file", self.key))
        self.good(run("secret", other))
        data = open(file, "rb").read()
        chance = random.Random(os.environ.get("SEED"))
        broken = [data[:n] for n in (0, 7, 20, 40, len(data) // 2, len(data) - 1)] + [data + b"x"]
        for at in [0, 9, 33, len(data) - 1] + [chance.randrange(len(data)) for _ in range(30)]:
            broken.append(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1:])
        target = self.node.dir + "/target"
        for content in broken:
            with open(file, "wb") as f:
                f.write(content)
            verify = run("verify", file, "--key-file", self.key)
            self.assertEqual((verify.returncode, verify.stdout.split("\n")[0]), (1, "damaged"))
            self.assertEqual(run("restore", file, "--data", target, "--key-file", self.key).returncode, 1)
            self.assertFalse(os.path.exists(target))
        with open(file, "wb") as f:
            f.write(data)
        self.assertEqual(run("restore", file, "--data", target, "--key-file", other).returncode, 1)
        self.assertFalse(os.path.exists(target))
        self.assertEqual(run("restore", file, "--data", self.node.data, "--key-file", self.key).returncode, 1)
        self.assertIn("exists", run("backup", file, "--data", self.node.data, "--key-file", self.key).stderr)
        os.chmod(other, 0o644)
        self.assertIn("others may read", run("verify", file, "--key-file", other).stderr)

    @unittest.skipIf("asan" in BINARY or "tsan" in BINARY, "the shim cannot be preloaded there; the release build runs it")
    def test_a_restore_cut_short(self):
        file = self.node.dir + "/whole"
        user = self.node.signup("cutter")
        for i in range(30):
            user.post("/v1/reminders", {"title": "t%d" % i})
        printed = hashes(self.good(run("backup", file, "--data", self.node.data, "--key-file", self.key)))
        shim = os.path.join(os.path.dirname(os.path.abspath(BINARY)), "power_shim.so")
        for step in range(1, 120):
            node = Node()
            self.addCleanup(node.close)
            args = [BINARY, "restore", file, "--data", node.data, "--key-file", self.key]
            env = dict(os.environ, LD_PRELOAD=shim, POWER_KILL_AT=str(step))
            if subprocess.run(args, capture_output=True, env=env).returncode != 137:
                break
            if os.path.exists(node.data + "/restoring"):
                with self.assertRaisesRegex(AssertionError, "cut short"):
                    node.start()
                self.assertEqual(hashes(self.good(run(*args[1:]))), printed)
            elif os.path.exists(node.data + "/restoring.tmp"):
                self.assertEqual(hashes(self.good(run(*args[1:]))), printed)
            elif os.path.exists(node.data):
                self.assertEqual(os.listdir(node.data) == [] or hashes(run("verify", "--data", node.data).stdout) == printed, True)
        else:
            self.fail("it never ended")
        self.assertGreater(step, 10)
        self.assertEqual(hashes(self.good(run("verify", "--data", node.data))), printed)
        node.start()
        node.kill()
        with open(node.data + "/running", "r+b") as f:  # the system goes down
            f.write(b"00000000")
        node.start()
        self.assertEqual(len(self.expect(node.client(user.token).get("/v1/reminders"), 200).json["items"]), 30)

    def test_on_a_schedule_and_asked_for(self):
        where = self.node.dir + "/scheduled"
        node = Node("--backup-dir", where, "--backup-key-file", self.key, "--backup-every-s", "1", "--backup-keep", "2").start()
        self.addCleanup(node.close)
        admin = node.signup("boss")
        self.expect(admin.post("/v1/cluster/backup"), 403, "forbidden")
        self.expect(node.client().post("/v1/cluster/backup"), 401)
        self.good(run("admin", "boss", "--data", node.data))
        token = node.client().post("/v1/auth/login", {"login": "boss", "password": "correct horse"}).json["access_token"]
        client = node.client(token)
        self.expect(client.post("/v1/cluster/backup"), 202)
        until, seen = time.monotonic() + 30 * SLOW, set()
        while len(seen) < 4:
            self.assertLess(time.monotonic(), until)
            seen |= set(glob.glob(where + "/*.backup"))
            time.sleep(0.05)
        time.sleep(0.3 * SLOW)
        status = self.expect(client.get("/v1/cluster/backup"), 200).json
        self.assertTrue(status["running"] or (status["last"]["ok"] and status["last"]["bytes"] > 0), status)
        node.stop()
        kept = sorted(glob.glob(where + "/*"))
        self.assertLessEqual(len(kept), 2)
        self.assertIn("whole", self.good(run("verify", kept[-1], "--key-file", self.key)))

    def test_not_configured(self):
        self.node.signup("chief")
        self.good(run("admin", "chief", "--data", self.node.data))
        token = self.node.client().post("/v1/auth/login", {"login": "chief", "password": "correct horse"}).json["access_token"]
        self.expect(self.node.client(token).post("/v1/cluster/backup"), 409, "conflict")


if __name__ == "__main__":
    main()
