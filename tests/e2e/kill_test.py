"""kill -9 in the middle of concurrent writes, again and again: after each restart every acknowledged
write is there, once, and nothing half-made is. ROUNDS=50 is what the release is checked with."""
import collections
import os
import random
import threading
import time

from belfry import Node, NodeTest, SLOW, main

ROUNDS = int(os.environ.get("ROUNDS", "50"))
WRITERS = 6


class Kill(NodeTest):
    def test_kill_while_writing(self):
        seed = int(os.environ.get("SEED", str(random.randrange(1 << 30))))
        print("seed", seed, "rounds", ROUNDS)
        chance = random.Random(seed)
        user = self.node.signup("writer")
        acknowledged, attempted, deleted, maybe_deleted = {}, set(), set(), set()
        signed, tried = {}, {}
        lock = threading.Lock()

        def write(round_, n, stop):
            mine = []
            client = self.node.client(user.token)
            i = 0
            while not stop.is_set():
                i += 1
                title = "r%d.%d.%d" % (round_, n, i)
                try:
                    if i % 7 == 3:
                        name = "u%d-%d-%d" % (round_, n, i)
                        with lock:
                            tried[name] = True
                        answer = self.node.client().post("/v1/auth/signup", {"username": name, "email": name + "@x.org", "password": "password1"})
                        if answer.status == 201:
                            with lock:
                                signed[name] = answer.json["user"]["id"]
                    elif i % 5 == 0 and mine:
                        victim = mine.pop()
                        with lock:
                            maybe_deleted.add(victim)
                        if client.delete("/v1/reminders/" + acknowledged[victim]).status == 204:
                            with lock:
                                deleted.add(victim)
                    else:
                        with lock:
                            attempted.add(title)
                        answer = client.post("/v1/reminders", {"title": title, "public": i % 2 == 0})
                        if answer.status == 201:
                            with lock:
                                acknowledged[title] = answer.json["id"]
                            mine.append(title)
                except Exception:
                    return  # the node is gone

        for round_ in range(ROUNDS):
            stop = threading.Event()
            threads = [threading.Thread(target=write, args=(round_, n, stop)) for n in range(WRITERS)]
            for t in threads:
                t.start()
            time.sleep(chance.uniform(0.02, 0.25) * SLOW)
            self.node.kill()
            stop.set()
            for t in threads:
                t.join()
            self.node.start()
            if round_ % 10 == 9 or round_ == ROUNDS - 1:
                self.check(user, acknowledged, attempted, deleted, maybe_deleted)
        self.check_names(signed, tried)
        print("writes acknowledged", len(acknowledged), "deletes", len(deleted), "signups", len(signed), "of", len(tried))

    def check(self, user, acknowledged, attempted, deleted, maybe_deleted):
        client = self.node.client(user.token)
        found, cursor = [], ""
        while cursor is not None:
            page = self.expect(client.get("/v1/reminders?limit=200" + ("&cursor=" + cursor if cursor else "")), 200).json
            found += [(r["title"], r["id"]) for r in page["items"]]
            cursor = page["next_cursor"]
        counts = collections.Counter(title for title, _ in found)
        ids = dict(found)
        self.assertEqual([t for t in counts if counts[t] > 1], [], "doubled")
        self.assertEqual([t for t in acknowledged if t not in maybe_deleted and ids.get(t) != acknowledged[t]], [], "lost")
        self.assertEqual([t for t in deleted if t in ids], [], "came back")
        self.assertEqual([t for t in ids if t not in attempted], [], "out of nowhere")

    def check_names(self, signed, tried):
        """Each name tried belongs to a whole account, or to nobody; nothing is left pending."""
        client = self.node.client()
        until = time.monotonic() + 60 * SLOW
        while "belfry_records{kind=\"pending_names\"} 0\n" not in client.get("/metrics").text:
            self.assertLess(time.monotonic(), until, "names stay pending")
            time.sleep(0.2)
        metrics = client.get("/metrics").text
        count = {k: int(metrics.split("belfry_records{kind=\"%s\"} " % k)[1].split()[0]) for k in ("accounts", "names")}
        self.assertEqual(count["names"], 2 * count["accounts"], count)
        for name in tried:
            profile = client.get("/v1/users/" + name)
            login = client.post("/v1/auth/login", {"login": name + "@x.org", "password": "password1"})
            if name in signed:
                self.assertEqual((profile.status, login.status), (200, 200), name)
                self.assertEqual(login.json["user"]["id"], signed[name])
            else:
                self.assertIn((profile.status, login.status), [(200, 200), (404, 401)], name)
                if profile.status == 404:  # both names can be had again
                    again = client.post("/v1/auth/signup", {"username": name, "email": name + "@x.org", "password": "password1"})
                    self.assertEqual(again.status, 201, again.text)


class Locks(NodeTest):
    def test_two_nodes_never_share_a_directory(self):
        other = Node()
        other.data = self.node.data
        with self.assertRaisesRegex(AssertionError, "another belfry uses"):
            other.start()
        self.expect(self.node.client().get("/readyz"), 200)
        other.log.close()

    def test_stop_is_in_order_and_loses_nothing(self):
        user = self.node.signup("stopper")
        made = [user.post("/v1/reminders", {"title": "t%d" % i}).json["id"] for i in range(20)]
        self.node.stop()
        self.assertIn('"msg":"stopped","detail":"in order"', self.node.log_text())
        self.node.start()
        self.assertNotIn("did not stop in order", self.node.log_text())
        items = self.node.client(user.token).get("/v1/reminders").json["items"]
        self.assertEqual([r["id"] for r in items], made[::-1])


if __name__ == "__main__":
    main()
