"""A full disk, and a disk that fails: reads go on, nothing acknowledged is missing, and what can heal heals without
a restart. Needs to mount a small tmpfs: it fails where that cannot be."""
import os
import shutil
import subprocess
import time
import unittest

from belfry import BINARY, Node, NodeTest, SLOW, main

SHIM = os.path.join(os.path.dirname(os.path.abspath(BINARY)), "power_shim.so")
SUDO = [] if os.geteuid() == 0 else ["sudo", "-n"]


def until(what, seconds=20):
    end = time.monotonic() + seconds * SLOW
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class Full(NodeTest):
    flags = ("--log-segment-mib", "4", "--disk-reserve-mib", "6", "--durable-interval-ms", "100")

    def setUp(self):
        self.node = Node(*self.flags)
        os.makedirs(self.node.data)
        subprocess.run([*SUDO, "mount", "-t", "tmpfs", "-o", "size=80m,mode=0777", "tmpfs", self.node.data], check=True)
        self.addCleanup(self.unmount)
        self.node.start()
        self.user = self.node.signup("filler")
        self.made = {}

    def unmount(self):
        if self.node.process.poll() is None:
            self.node.kill()
        gone = lambda: subprocess.run([*SUDO, "umount", self.node.data], capture_output=True).returncode == 0
        self.assertTrue(until(gone, 5))
        self.node.log.close()
        shutil.rmtree(self.node.dir)

    @classmethod
    def setUpClass(cls):
        pass

    @classmethod
    def tearDownClass(cls):
        pass

    def post(self, size=20000):
        title = "t%d" % len(self.made)
        answer = self.user.post("/v1/reminders", {"title": title, "content": "x" * size})
        if answer.status == 201:
            self.made[answer.json["id"]] = title
        return answer

    def fill_by_writing(self):
        for _ in range(5000):
            answer = self.post()
            if answer.status != 201:
                return answer
        self.fail("the disk never was full")

    def fill_from_outside(self, to_the_last=True):
        """Somebody else takes all the room there is."""
        self.filler = self.node.data + "/somebody-elses"
        with open(self.filler, "ab", buffering=0) as f:
            try:
                while True:
                    f.write(b"z" * 65536)
            except OSError:
                pass

    def check_reads(self, client=None):
        client = client or self.node.client(self.user.token)
        for id_, title in self.made.items():
            answer = self.expect(client.get("/v1/reminders/" + id_), 200)
            self.assertEqual(answer.json["title"], title)

    def heals(self):
        pid = self.node.process.pid
        self.assertTrue(until(lambda: self.post(100).status == 201), self.node.client().get("/readyz").text)
        self.assertTrue(until(lambda: self.node.client().get("/readyz").status == 200))
        self.assertEqual((self.node.process.pid, self.node.process.poll()), (pid, None))

    def restart_and_check(self):
        self.node.kill()
        self.node.start()
        self.user = self.node.client(self.user.token)
        self.check_reads(self.user)

    def test_filled_by_its_own_writes(self):
        topic = "/v1/topics/full"
        self.expect(self.user.put(topic, {}), 201)
        self.expect(self.user.post(topic + "/messages", {"messages": [{"body": "x" * 1000}] * 100}), 201)
        self.expect(self.fill_by_writing(), 507, "disk_full")
        self.expect(self.user.post(topic + "/messages", {"messages": [{"body": "x"}]}), 507, "disk_full")
        for _ in range(4):  # consumers make room
            got = self.expect(self.user.post(topic + "/groups/g/receive", {"max": 25}), 200).json["messages"]
            self.assertEqual(len(got), 25)
            self.expect(self.user.post(topic + "/groups/g/ack", {"receipts": [m["receipt"] for m in got]}), 200)
        ready = self.node.client().get("/readyz")
        self.assertEqual(ready.status, 503)
        self.assertIn("[-] disk: disk_full", ready.text)
        self.check_reads()
        for id_ in list(self.made)[::2]:  # deletions are taken
            self.expect(self.user.delete("/v1/reminders/" + id_), 204)
            del self.made[id_]
        self.restart_and_check()
        self.assertIn(self.post().status, (201, 507))  # the log shrinks, the state's file never does
        more = subprocess.run([*SUDO, "mount", "-o", "remount,size=112m", self.node.data])
        self.assertEqual(more.returncode, 0)
        self.heals()
        self.restart_and_check()

    def test_filled_by_somebody_else(self):
        for _ in range(50):
            self.expect(self.post(), 201)
        self.fill_from_outside()
        self.assertTrue(until(lambda: self.post().status == 507))
        self.fill_from_outside()  # what the node gave back is taken too
        for _ in range(5):
            self.expect(self.post(), 507, "disk_full")
        self.check_reads()
        os.remove(self.filler)
        self.heals()
        self.check_reads()
        self.restart_and_check()

    def test_deletions_and_a_start_when_full_to_the_last_byte(self):
        for _ in range(50):
            self.expect(self.post(), 201)
        time.sleep(0.3 * SLOW)  # the spare file is made
        self.fill_from_outside()
        self.assertTrue(until(lambda: self.post().status == 507))
        for id_ in list(self.made)[:20]:
            self.expect(self.user.delete("/v1/reminders/" + id_), 204)
            del self.made[id_]
        self.restart_and_check()
        self.expect(self.post(), 507, "disk_full")
        os.remove(self.filler)
        self.heals()
        self.restart_and_check()

    def test_under_load_until_full_again_and_again(self):
        import threading
        for _ in range(3):
            stop, lock = threading.Event(), threading.Lock()

            def write():
                client = self.node.client(self.user.token)
                while not stop.is_set():
                    title = "w%d" % time.monotonic_ns()
                    answer = client.post("/v1/reminders", {"title": title, "content": "y" * 9000})
                    if answer.status == 201:
                        with lock:
                            self.made[answer.json["id"]] = title
                    elif answer.status not in (503, 504, 507):
                        raise AssertionError(answer.text)
            threads = [threading.Thread(target=write) for _ in range(3)]
            for t in threads:
                t.start()
            time.sleep(0.2 * SLOW)
            self.fill_from_outside()
            time.sleep(0.3 * SLOW)
            self.fill_from_outside()
            time.sleep(0.5 * SLOW)
            stop.set()
            for t in threads:
                t.join()
            self.check_reads()
            os.remove(self.filler)
            self.heals()
        self.restart_and_check()


class Failing(NodeTest):
    """Calls that fail, injected below the node (tests/power/shim.c)."""

    def setUp(self):
        self.node = Node("--durable-interval-ms", "100")
        os.makedirs(self.node.data)
        self.fault = self.node.dir + "/fault"
        os.environ.update(LD_PRELOAD=SHIM, POWER_DIR=self.node.data, POWER_JOURNAL=self.node.dir + "/journal", POWER_FAULT=self.fault)
        try:
            self.node.start()
        finally:
            for name in ("LD_PRELOAD", "POWER_DIR", "POWER_JOURNAL", "POWER_FAULT"):
                del os.environ[name]
        self.addCleanup(self.node.close)
        self.user = self.node.signup("unlucky")
        self.made = [self.user.post("/v1/reminders", {"title": "t%d" % i}).json["id"] for i in range(20)]

    @classmethod
    def setUpClass(cls):
        pass

    @classmethod
    def tearDownClass(cls):
        pass

    def fail(self, line):
        with open(self.fault + ".tmp", "w") as f:
            f.write(line)
        os.rename(self.fault + ".tmp", self.fault)

    def check_reads(self):
        client = self.node.client(self.user.token)
        for id_ in self.made:
            self.expect(client.get("/v1/reminders/" + id_), 200)

    def expect_read_only(self, part):
        self.assertTrue(until(lambda: self.node.client(self.user.token).post("/v1/reminders", {"title": "x"}).status == 503))
        self.expect(self.user.post("/v1/reminders", {"title": "x"}), 503, "read_only")
        ready = self.node.client().get("/readyz")
        self.assertEqual(ready.status, 503)
        self.assertIn("[-] " + part, ready.text)
        self.assertIn("restart", ready.text)
        self.check_reads()
        os.remove(self.fault)  # the disk is well again: the node does not believe it before a restart
        time.sleep(0.3 * SLOW)
        self.expect(self.user.post("/v1/reminders", {"title": "x"}), 503, "read_only")
        self.node.kill()
        self.node.start()
        self.check_reads()
        self.expect(self.node.client(self.user.token).post("/v1/reminders", {"title": "well"}), 201)

    def test_a_failed_sync_of_the_log(self):
        self.fail("sync /log/ 5")
        self.expect_read_only("log")

    def test_a_failed_write_of_the_log(self):
        self.fail("write /log/ 5")
        self.expect_read_only("log")

    def test_a_failed_write_of_the_state(self):
        self.fail("write /state/ 5")
        self.expect_read_only("state")

    def test_a_failed_sync_of_the_state(self):
        """No further durable points: the log is kept, so writes are safe and go on; the node asks for a restart."""
        self.fail("sync /state/ 5")
        self.expect(self.user.post("/v1/reminders", {"title": "x"}), 201)
        self.assertTrue(until(lambda: self.node.client().get("/readyz").status == 503))
        self.assertIn("[-] durable points", self.node.client().get("/readyz").text)
        self.made.append(self.expect(self.user.post("/v1/reminders", {"title": "y"}), 201).json["id"])
        self.check_reads()
        os.remove(self.fault)
        self.node.kill()
        self.node.start()
        self.assertIn("taken back to its durable point", self.node.log_text())
        self.check_reads()
        self.assertEqual(self.node.client().get("/readyz").status, 200)

    def test_a_full_disk_at_every_write(self):
        for part in ("/log/", "/state/", "durable"):
            self.fail("write %s 28" % part)
            time.sleep(0.3 * SLOW)
            client = self.node.client(self.user.token)
            answer = client.post("/v1/reminders", {"title": "z"})
            self.assertIn(answer.status, (201, 503, 504, 507), answer.text)
            if answer.status == 201:
                self.made.append(answer.json["id"])
            self.check_reads()
            os.remove(self.fault)
            self.assertTrue(until(lambda: self.node.client(self.user.token).post("/v1/reminders", {"title": "w"}).status == 201), part + self.node.client().get("/readyz").text)
            self.assertTrue(until(lambda: self.node.client().get("/readyz").status == 200))
        self.node.kill()
        self.node.start()
        self.check_reads()


if __name__ == "__main__":
    main()
