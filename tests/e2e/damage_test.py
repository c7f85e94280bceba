"""Flipped bits and cut files: never served, never taken for less data; named by /readyz and by `belfry verify`;
the node stays read-only until the operator has spoken."""
import os
import random
import shutil
import struct
import subprocess
import time

from belfry import BINARY, Node, NodeTest, SLOW, main

PAGE = 4096
BRANCH, LEAF = 1, 2
ENTRY, HARD_STATE = 4, 2


SHIM = os.path.join(os.path.dirname(os.path.abspath(BINARY)), "power_shim.so")


def run(*args, kill_at=None):
    """kill_at: the process ends before that sync or change of a directory (not in sanitizer builds)."""
    env = dict(os.environ, LD_PRELOAD=SHIM, POWER_KILL_AT=str(kill_at)) if kill_at else None
    return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=60 * SLOW, env=env)


def flip(path, at, bit=0):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1 << bit]))


def cut(path, size):
    os.truncate(path, size)


def records(path):
    """(offset, type, length) of every record of a log segment."""
    data = open(path, "rb").read()
    at = 0
    while at + 48 <= len(data):
        length, _, _, kind = struct.unpack_from("<IIHB", data, at + 4)
        if kind == 0:
            return
        yield at, kind, length
        at += (48 + length + 7) & ~7


def newest_meta(path):
    data = open(path, "rb").read(2 * PAGE)
    txn = [struct.unpack_from("<Q", data, PAGE * i + 144)[0] for i in (0, 1)]
    return (txn[1] > txn[0]) * PAGE


def live_pages(path, flag):
    """Pages of a kind that the newest transaction reaches."""
    data = open(path, "rb").read()
    root = struct.unpack_from("<Q", data, newest_meta(path) + 128)[0]
    found, todo = [], [root]
    while todo:
        page = todo.pop()
        flags, lower = struct.unpack_from("<HH", data, page * PAGE + 10)
        if flags == flag:
            found.append(page)
        if flags == BRANCH:
            for i in range((lower - 16) // 2):
                node = page * PAGE + struct.unpack_from("<H", data, page * PAGE + 16 + 2 * i)[0]
                todo.append(struct.unpack_from("<I", data, node)[0])
    return found


def live_value(path, text):
    """Where a text stands within an entry of a live leaf."""
    data = open(path, "rb").read()
    for page in live_pages(path, LEAF):
        for i in range((struct.unpack_from("<H", data, page * PAGE + 12)[0] - 16) // 2):
            node = page * PAGE + struct.unpack_from("<H", data, page * PAGE + 16 + 2 * i)[0]
            size, flags, key = struct.unpack_from("<IHH", data, node)
            at = data.find(text, node, node + 8 + key + size)
            if flags == 0 and at > 0:
                return at
    raise AssertionError("not found")


class Damage(NodeTest):
    """One data directory, killed and stopped in order; each test breaks a copy."""
    flags = ("--log-segment-mib", "4")  # quicker to copy

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.user = cls.node.signup("victim")
        cls.items = {}
        for i in range(400):
            title = "reminder number %04d" % i
            cls.items[cls.user.post("/v1/reminders", {"title": title, "content": "c" * (i % 9) * 40}).json["id"]] = title
        time.sleep(0.5 * SLOW)  # the log is idle: sealed
        cls.node.kill()
        cls.killed = cls.node.data + ".killed"
        shutil.copytree(cls.node.data, cls.killed, ignore=shutil.ignore_patterns("*.sock"))
        cls.node.start()
        cls.node.stop()
        cls.stopped = cls.node.data + ".stopped"
        shutil.copytree(cls.node.data, cls.stopped, ignore=shutil.ignore_patterns("*.sock"))

    def copy(self, of=None):
        node = Node(*self.flags)
        shutil.copytree(of or self.killed, node.data)
        self.addCleanup(node.close)
        return node

    def segment(self, node):
        return node.data + "/log/0000000000000001.seg"

    def state(self, node):
        return node.data + "/state/data.mdb"

    def ask(self, node, id_, local):
        return node.client(self.user.token).get("/v1/reminders/%s%s" % (id_, "?consistency=local" if local else ""))

    def expect_read_only(self, node, part):
        """Damaged is what it is called; what is answered is right; nothing is written."""
        verify = run("verify", "--data", node.data)
        self.assertEqual(verify.returncode, 1, verify.stdout + verify.stderr)
        self.assertTrue(verify.stdout.startswith("damaged\n" + part + ":"), verify.stdout)
        node.start()
        ready = node.client().get("/readyz")
        self.assertEqual(ready.status, 503)
        self.assertIn("    %s: " % part, ready.text)
        served = 0
        for id_, title in list(self.items.items())[::7]:
            self.assertEqual(self.ask(node, id_, False).status, 503)
            answer = self.ask(node, id_, True)
            self.assertIn(answer.status, (200, 503), answer.text)
            if answer.status == 200:
                self.assertEqual(answer.json["title"], title)
                self.assertEqual(answer.headers["X-Belfry-Consistency"], "local")
                served += 1
        write = node.client(self.user.token).post("/v1/reminders", {"title": "no"})
        self.assertEqual((write.status, write.code in ("read_only", "quarantined")), (503, True), write.text)
        self.assertEqual(run("verify", "--data", node.data).returncode, 1)  # also beside the node
        self.assertEqual(run("recover", "--data", node.data, "--accept-loss").returncode, 1)  # not beside it
        node.kill()
        node.start()  # it stays so
        self.assertEqual(node.client().get("/readyz").status, 503)
        node.kill()
        return served

    def expect_recovery(self, node, most_lost=0):
        """The operator gives up what is damaged: the node starts, all that it serves is right."""
        self.assertEqual(run("recover", "--data", node.data).returncode, 2)  # not without saying so
        recover = run("recover", "--data", node.data, "--accept-loss")
        self.assertEqual(recover.returncode, 0, recover.stdout + recover.stderr)
        self.assertIn("recovered", recover.stdout)
        verify = run("verify", "--data", node.data)
        self.assertEqual(verify.returncode, 0, verify.stdout)
        node.start()
        self.assertEqual(node.client().get("/readyz").status, 200)
        lost = 0
        answer = self.ask(node, next(iter(self.items)), False)
        if answer.status == 401:  # the keys or the account are among what is lost
            node.kill()
            return
        for id_, title in self.items.items():
            answer = self.ask(node, id_, False)
            lost += answer.status != 200
            self.assertIn(answer.status, (200, 404))
            self.assertTrue(answer.status == 404 or answer.json["title"] == title)
        self.assertLessEqual(lost, most_lost)
        user = node.client(self.user.token)
        made = user.post("/v1/reminders", {"title": "after"})
        if most_lost and made.status == 401:  # the account is lost
            node.kill()
            return
        made = self.expect(made, 201).json["id"]
        for id_ in list(self.items)[:40] + [made]:
            self.assertIn(user.delete("/v1/reminders/" + id_).status, (204, 404))
        self.expect(user.get("/v1/reminders"), 200)
        node.kill()
        node.start()
        node.stop()

    def test_whole(self):
        for of in (self.killed, self.stopped):
            node = self.copy(of)
            verify = run("verify", "--data", node.data)
            self.assertEqual((verify.returncode, verify.stdout.split("\n")[0]), (0, "whole"), verify.stdout)
            recover = run("recover", "--data", node.data, "--accept-loss")
            self.assertEqual(recover.returncode, 0)
            self.assertIn("nothing was changed", recover.stdout)
            node.start()
            busy = run("verify", "--data", node.data)
            self.assertEqual((busy.returncode, "a node uses" in busy.stderr), (2, True))

    def test_a_value(self):
        for of in (self.killed, self.stopped):
            node = self.copy(of)
            flip(self.state(node), live_value(self.state(node), b"reminder number") + 5)
            self.expect_read_only(node, "state")
            self.expect_recovery(node, most_lost=1)

    def test_bookkeeping(self):
        for of in (self.killed, self.stopped):
            node = self.copy(of)
            key = b"partition"  # of the row; a checksum and the value follow it
            flip(self.state(node), live_value(self.state(node), key) + len(key) + 10)
            self.expect_read_only(node, "state")
            self.expect_recovery(node, most_lost=len(self.items))

    def test_a_leaf_and_a_branch(self):
        for flag in (LEAF, BRANCH):
            for part in ("number", "count", "place", "child"):
                node = self.copy()
                page = live_pages(self.state(node), flag)[0] * PAGE
                data = open(self.state(node), "rb").read()
                place = struct.unpack_from("<H", data, page + 16 + 2)[0]
                at = {"number": page, "count": page + 12, "place": page + 18, "child": page + place}[part]
                flip(self.state(node), at, 1)
                self.expect_read_only(node, "state")
                self.expect_recovery(node, most_lost=len(self.items))

    def test_a_meta_page(self):
        for at in (10, 16, 48, 96, 128, 136, 145):
            for of in (self.killed, self.stopped):
                node = self.copy(of)
                flip(self.state(node), newest_meta(self.state(node)) + at, 2)
                self.expect_read_only(node, "state")
        self.expect_recovery(node, most_lost=len(self.items))

    def test_a_log_record(self):
        for kind in (ENTRY, HARD_STATE):
            for of in (self.killed, self.stopped):
                node = self.copy(of)
                found = [r for r in records(self.segment(node)) if r[1] == kind]
                at, _, length = found[-1] if kind == ENTRY else found[len(found) // 2]
                flip(self.segment(node), at + 48 + length // 2 if kind == ENTRY else at + 16)
                served = self.expect_read_only(node, "log")
                self.assertGreater(served, 0)  # the state is whole
                self.expect_recovery(node)

    def test_the_durable_point(self):
        for of in (self.killed, self.stopped):
            for at in (0, 9, 100, 4100, 4200):
                node = self.copy(of)
                flip(node.data + "/durable", at)
                self.assertGreater(self.expect_read_only(node, "durable point"), 0)
            self.expect_recovery(node)

    def test_cut_files(self):
        chance = random.Random(os.environ.get("SEED"))
        for name, part in (("/state/data.mdb", "state"), ("/log/0000000000000001.seg", "log"), ("/durable", "durable point")):
            for of in (self.killed, self.stopped):
                for share in (0, chance.random(), 0.999):
                    node = self.copy(of)
                    size = int(os.path.getsize(node.data + name) * share)
                    cut(node.data + name, size)
                    self.expect_read_only(node, part)
                self.expect_recovery(node, most_lost=len(self.items))

    def cut_recoveries(self, damage, most_lost):
        """A recovery cut short before each of its steps, run again, ends as one that was not."""
        for step in range(1, 60):
            node = self.copy()
            damage(node)
            done = run("recover", "--data", node.data, "--accept-loss", kill_at=step)
            if done.returncode != 137:
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                return
            again = run("recover", "--data", node.data, "--accept-loss")
            self.assertEqual(again.returncode, 0, (step, again.stdout + again.stderr))
            verify = run("verify", "--data", node.data)
            self.assertEqual((verify.returncode, verify.stdout.split("\n")[0]), (0, "whole"), (step, verify.stdout))
            if step % 5 == 1:
                node.start()
                lost = sum(self.ask(node, id_, False).status != 200 for id_ in self.items)
                self.assertLessEqual(lost, most_lost, step)
                node.kill()
            shutil.rmtree(node.data)
        self.fail("it never ended")

    def test_recoveries_cut_short(self):
        def value(node):
            flip(self.state(node), live_value(self.state(node), b"reminder number") + 5)

        def value_and_log(node):
            value(node)
            at, _, length = [r for r in records(self.segment(node)) if r[1] == ENTRY][-1]
            flip(self.segment(node), at + 48 + length // 2)
        self.cut_recoveries(value_and_log, most_lost=2)
        self.cut_recoveries(value, most_lost=1)

    def test_nothing_is_lost_that_another_part_holds(self):
        def recovered(damage):
            node = self.copy()
            damage(node)
            recover = run("recover", "--data", node.data, "--accept-loss")
            self.assertIn("nothing is lost", recover.stdout)
            node.start()
            for id_ in self.items:
                self.expect(self.ask(node, id_, False), 200)
            node.kill()
            # The system goes down before anything else happens: still there.
            flip(node.data + "/running", 0)
            node.start()
            self.expect(self.ask(node, next(iter(self.items)), False), 200)
            node.kill()
        recovered(lambda node: os.remove(self.state(node)))
        recovered(lambda node: flip(self.state(node), newest_meta(self.state(node)) + 128, 3))
        recovered(lambda node: flip(node.data + "/durable", 50))

    def test_bits_anywhere_in_the_state(self):
        """Whatever bit: either it is told, or it meant nothing and every answer is right."""
        chance = random.Random(os.environ.get("SEED"))
        for _ in range(int(os.environ.get("ROUNDS", "20"))):
            node = self.copy(chance.choice((self.killed, self.stopped)))
            size = os.path.getsize(self.state(node))
            flip(self.state(node), chance.randrange(size), chance.randrange(8))
            verify = run("verify", "--data", node.data)
            if verify.returncode == 1:
                self.expect_read_only(node, "state")
            else:
                node.start()
                items = list(self.items.items())
                for id_, title in chance.sample(items, 40):
                    self.assertEqual(self.ask(node, id_, False).json["title"], title)
                node.kill()


if __name__ == "__main__":
    main()
