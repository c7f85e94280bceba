"""The power fails: a node's every write, sync and change of a directory is recorded (tests/power/shim.c) while it
is written to, killed, stopped and started; then images of its disk are made as a power failure at any moment may
leave it: what was synced is there, of everything else each 512-byte sector is the old or the new one, names not
synced may be lost. Each image must start; nothing acknowledged is missing, nothing is half-made, and no group's
term or vote goes back. IMAGES=1000 is what the release is checked with."""
import json
import os
import random
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import time
import traceback
import unittest

from belfry import BINARY, Node, main

IMAGES = int(os.environ.get("IMAGES", "100"))
SHIM = os.path.join(os.path.dirname(os.path.abspath(BINARY)), "power_shim.so")
CREATE, WRITE, SYNC_BEGIN, SYNC_END, DIR_SYNC_BEGIN, DIR_SYNC_END, RENAME, UNLINK, MKDIR, TRUNCATE = range(1, 11)
ZEROS, SECTOR, HARD_STATE = 1, 512, 2
# Without what is kept for other replicas the log is dropped while it is recorded.
FLAGS = ("--log-segment-mib", "4", "--log-keep-mib", "0", "--durable-interval-ms", "40", "--workers", "2")


def hard_states(data):
    """(group, term, vote) of the hard states in a batch of log records."""
    at, found = 0, []
    while at + 48 <= len(data):
        crc, length, chain, group, kind, flags, index, term = struct.unpack_from("<IIIHBBQQ", data, at)
        if kind == HARD_STATE:
            found.append((group, term, index))
        at += (48 + length + 7) & ~7
    return found


class File:
    def __init__(self):
        self.durable, self.pending, self.covered, self.states = bytearray(), [], 0, []

    def write(self, at, data):
        self.pending.append((at, data))

    @staticmethod
    def apply(content, at, data):
        if len(content) < at + len(data):
            content.extend(bytes(at + len(data) - len(content)))
        content[at:at + len(data)] = data

    def sync(self):
        for at, data in self.pending[:self.covered]:
            self.apply(self.durable, at, data)
        del self.pending[:self.covered]
        self.covered = 0

    def image(self, chance):
        """What may be left of it: each unsynced write wholly, not at all, or torn by sectors."""
        content = bytearray(self.durable)
        mood = chance.random()  # some failures lose nearly all, some nearly nothing
        for at, data in self.pending:
            how = chance.random()
            if how < mood * 0.8:
                continue
            if how < 0.9:
                self.apply(content, at, data)
                continue
            for sector in range(at - at % SECTOR, at + len(data), SECTOR):
                low, high = max(sector, at), min(sector + SECTOR, at + len(data))
                if chance.random() < 0.5:
                    self.apply(content, low, data[low - at:high - at])
        return content


class Disk:
    """What is on the disk for sure, and what is only on its way."""

    def __init__(self, root):
        self.root, self.files = root, {}
        self.names, self.changes = {}, []  # durable names; changes of names not yet synced, in order
        self.live = {}  # names as the node sees them
        self.hard = {}  # group -> (term, vote), synced

    def feed(self, op, inode, at, data, path):
        if path.endswith("/lock.mdb"):
            return  # LMDB makes it anew when nobody has it open
        if op == CREATE:
            self.files[inode] = self.live[path] = File()
            self.changes.append(("link", path, self.files[inode]))
        elif op == WRITE:
            self.live[path].write(at, data)
            if path.endswith(".seg"):
                self.live[path].states += [(len(self.live[path].pending), s) for s in hard_states(data)]
        elif op == TRUNCATE:
            raise AssertionError("nobody truncates files")
        elif op == SYNC_BEGIN:
            self.live[path].covered = len(self.live[path].pending)
        elif op == SYNC_END:
            file = self.live[path]
            for number, (group, term, vote) in file.states:
                if number <= file.covered:
                    self.hard[group] = max(self.hard.get(group, (0, 0)), (term, vote))
            file.states = [(n - file.covered, s) for n, s in file.states if n > file.covered]
            file.sync()
        elif op == DIR_SYNC_BEGIN:
            self.begun = len(self.changes)
        elif op == DIR_SYNC_END:
            keep = []
            for i, change in enumerate(self.changes):
                if i < self.begun and os.path.dirname(change[1]) == path:
                    self.rename(self.names, change)
                else:
                    keep.append(change)
            self.changes = keep
        else:
            change = {RENAME: ("rename", path, data.decode() if data else None), UNLINK: ("unlink", path), MKDIR: ("link", path, None)}[op]
            self.rename(self.live, change)
            self.changes.append(change)

    @staticmethod
    def rename(names, change):
        kind, path = change[:2]
        if kind == "link":
            names[path] = change[2]
        elif kind == "unlink":
            names.pop(path, None)
        elif path in names:
            names[change[2]] = names.pop(path)

    def image(self, chance, to):
        names = dict(self.names)
        left = {}  # of each directory's changes the first so many are kept: they are written in order
        for change in self.changes:
            left.setdefault(os.path.dirname(change[1]), []).append(change)
        for changes in left.values():
            for change in changes[:chance.randint(0, len(changes))]:
                self.rename(names, change)
        shutil.rmtree(to, ignore_errors=True)
        os.makedirs(to)
        for path in sorted(names):
            target = os.path.join(to, os.path.relpath(path, self.root))
            if not os.path.isdir(os.path.dirname(target)):
                continue  # its directory is lost
            if names[path] is None:
                os.makedirs(target, exist_ok=True)
                continue
            content = names[path].image(chance)
            if path.endswith("/running"):  # the system that comes up is another one
                content[:8] = b"00000000"[:len(content)]
            with open(target, "wb") as f:
                end = len(content.rstrip(b"\0"))
                f.write(content[:end])
                f.truncate(len(content))


def journal(path):
    """(end, op, inode, at, data, path) of every record."""
    with open(path, "rb") as f:
        while True:
            head = f.read(29)
            if len(head) < 29:
                return
            op, inode, at, length, flags, path_len = struct.unpack("<BQQIII", head)
            name = f.read(path_len).decode()
            data = bytes(length) if flags & ZEROS else f.read(length)
            yield f.tell(), op, inode, at, data, name


class Recording:
    """A node under load with everything it writes recorded, and what it acknowledged when."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.node = Node(*FLAGS)
        os.makedirs(self.node.data)
        self.path = tempfile.mktemp(prefix="power-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        os.environ.update(POWER_JOURNAL=self.path, POWER_DIR=self.node.data)
        self.made, self.deleted, self.tried, self.dying = {}, {}, set(), set()
        self.lock = threading.Lock()

    def start(self):
        os.environ["LD_PRELOAD"] = SHIM
        try:
            self.node.start()
        finally:
            del os.environ["LD_PRELOAD"]

    def now(self):
        return os.path.getsize(self.path)

    def write(self, round_, n, stop):
        client, mine, i = self.node.client(self.user.token), [], 0
        while not stop.is_set():
            i += 1
            title = "r%d.%d.%d" % (round_, n, i)
            try:
                if i % 6 == 5 and mine:
                    victim = mine.pop(self.chance.randrange(len(mine)))
                    with self.lock:
                        self.dying.add(victim)
                    if client.delete("/v1/reminders/" + self.made[victim][1]).status == 204:
                        with self.lock:
                            self.deleted[victim] = self.now()
                else:
                    with self.lock:
                        self.tried.add(title)
                    answer = client.post("/v1/reminders", {"title": title, "public": i % 2 == 0, "content": "x" * self.chance.choice((0, 50, 5000, 30000))})
                    if answer.status == 201:
                        with self.lock:
                            self.made[title] = (self.now(), answer.json["id"])
                        mine.append(title)
                        if self.chance.random() < 0.3:
                            time.sleep(0.01)
            except Exception:
                return  # the node is gone

    def run(self, rounds):
        self.start()
        self.user = self.node.signup("writer")
        self.signed = self.now()
        for round_ in range(rounds):
            stop = threading.Event()
            threads = [threading.Thread(target=self.write, args=(round_, n, stop)) for n in range(3)]
            for t in threads:
                t.start()
            time.sleep(self.chance.uniform(0.3, 0.8))
            if round_ % 3 == 0:
                self.node.kill()
            stop.set()
            for t in threads:
                t.join()
            if round_ % 3 == 1:
                self.node.stop()
            elif round_ % 3 == 2:
                time.sleep(0.2)  # idle: the log is sealed
                self.node.kill()
                self.system_crash()
            self.start()
        self.node.stop()
        self.end = self.now()

    def system_crash(self):
        """The node shall believe that the system went down: it takes its state back to the durable point."""
        path = self.node.data + "/running"
        with open(path, "r+b") as f:
            f.write(b"11111111")
        name = os.path.realpath(path).encode()
        with open(self.path, "ab") as f:
            inode = os.stat(path).st_ino
            f.write(struct.pack("<BQQIII", WRITE, inode, 0, 8, 0, len(name)) + name + b"11111111")
            for op in (SYNC_BEGIN, SYNC_END):
                f.write(struct.pack("<BQQIII", op, inode, 0, 0, 0, len(name)) + name)

    def close(self):
        self.node.close()
        os.remove(self.path)


def check_image(recording, at, disk, node):
    """None, or what is wrong."""
    verify = subprocess.run([BINARY, "verify", "--data", node.data], capture_output=True, text=True, timeout=60)
    if os.path.exists(node.data + "/identity") and os.path.exists(node.data + "/lock") and os.path.exists(node.data + "/log"):
        if verify.returncode != 0:
            return "verify: " + verify.stdout[:500] + verify.stderr
        seen = {int(m[0]): (int(m[1]), int(m[2])) for m in re.findall(r"partition (\d+):.*term (\d+), vote (\d+)", verify.stdout)}
        for group, hard in disk.hard.items():
            if seen[group][0] < hard[0] or (seen[group][0] == hard[0] and hard[1] not in (0, seen[group][1])):
                return "group %d went back from %s to %s" % (group, hard, seen[group])
    elif disk.hard:
        return "hard states were synced, and the log is gone"
    node.start()
    if node.client().get("/readyz").status != 200:
        return node.client().get("/readyz").text
    if at < recording.signed:
        return None
    client, found, cursor = node.client(recording.user.token), {}, ""
    while cursor is not None:
        answer = client.get("/v1/reminders?limit=200" + ("&cursor=" + cursor if cursor else ""))
        if answer.status != 200:
            return answer.text
        for item in answer.json["items"]:
            if item["title"] in found:
                return "twice: " + item["title"]
            found[item["title"]] = item["id"]
        cursor = answer.json["next_cursor"]
    for title, (when, id_) in recording.made.items():
        if when <= at and title not in recording.dying and found.get(title) != id_:
            return "missing: " + title
    for title, when in recording.deleted.items():
        if when <= at and title in found:
            return "came back: " + title
    strange = [t for t in found if t not in recording.tried]
    if strange:
        return "out of nowhere: " + strange[0]
    made = client.post("/v1/reminders", {"title": "after the power came back"})
    return None if made.status == 201 else made.text


class Power(unittest.TestCase):
    def moments(self, recording, chance):
        """Record ends at which the power fails: anywhere, and around the rare operations."""
        ends, rare = [], []
        for end, op, *_ in journal(recording.path):
            ends.append(end)
            if op in (CREATE, RENAME, UNLINK, MKDIR, DIR_SYNC_END):
                rare.append(len(ends) - 1)
        chosen = [chance.choice(rare) + chance.randint(-3, 3) if i % 3 == 0 else chance.randrange(len(ends)) for i in range(IMAGES)]
        return sorted(ends[min(max(i, 0), len(ends) - 1)] for i in chosen)

    def worker(self, recording, moments, seed, share, out):
        chance, failures, started = random.Random(seed * 2 + share), [], 0
        disk = Disk(os.path.realpath(recording.node.data))
        node = Node(*FLAGS)
        todo = iter(moments[share::2])
        at = next(todo, None)
        for end, op, inode, offset, data, path in journal(recording.path):
            disk.feed(op, inode, offset, data, path)
            while at is not None and at <= end:
                disk.image(chance, node.data)
                wrong = None
                try:
                    wrong = check_image(recording, end, disk, node)
                except Exception as e:
                    wrong = repr(e)
                if node.process and node.process.poll() is None:
                    node.kill()
                started += 1
                if wrong and len(failures) < 5:
                    failures.append("at %d of %d: %s" % (end, recording.end, wrong))
                at = next(todo, None)
            if at is None:
                break
        shutil.rmtree(node.dir, ignore_errors=True)
        with open(out, "w") as f:
            json.dump([started, failures], f)

    def test_power_failures(self):
        seed = int(os.environ.get("SEED", str(random.randrange(1 << 30))))
        recording = Recording(seed)
        self.addCleanup(recording.close)
        recording.run(7)
        moments = self.moments(recording, random.Random(seed))
        print("seed", seed, "images", IMAGES, "journal", recording.end >> 20, "MiB, acknowledged", len(recording.made), "deleted", len(recording.deleted))
        children = []
        for share in range(2):
            out = tempfile.mktemp(prefix="power-result-")
            pid = os.fork()
            if pid == 0:
                try:
                    self.worker(recording, moments, seed, share, out)
                    os._exit(0)
                finally:
                    traceback.print_exc()
                    os._exit(1)
            children.append((pid, out))
        total, failures = 0, []
        for pid, out in children:
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            with open(out) as f:
                started, wrong = json.load(f)
            os.remove(out)
            total, failures = total + started, failures + wrong
        self.assertEqual(failures, [])
        self.assertEqual(total, IMAGES)
        print("images that started with all that was acknowledged:", total)


if __name__ == "__main__":
    main()
