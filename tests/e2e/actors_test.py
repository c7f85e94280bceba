"""Actors through HTTP: overload, passivation, reactivation."""
import os
import re
import signal
import threading
import time

from belfry import Node, NodeTest, SLOW, main


def metric(client, name):
    return float(re.search(r"^%s (\S+)$" % name, client.get("/metrics").text, re.M).group(1))


class Actors(NodeTest):
    flags = ("--mailbox-limit", "2", "--actor-idle-ms", "300")

    def test_a_full_mailbox_is_overloaded_and_others_are_not(self):
        busy, calm = self.node.signup("busy"), self.node.signup("calm")
        statuses, lock = [], threading.Lock()

        def work():
            client = self.node.client(busy.token)
            for _ in range(40):
                answer = client.post("/v1/reminders", {"title": "t"})
                with lock:
                    statuses.append(answer.status)
                if answer.status == 503:
                    assert answer.code == "overloaded" and answer.json["retryable"] and answer.headers["Retry-After"], answer.text
        threads = [threading.Thread(target=work) for _ in range(32)]
        for t in threads:
            t.start()
        calm_statuses = {calm.post("/v1/reminders", {"title": "t"}).status for _ in range(50)}
        for t in threads:
            t.join()
        self.assertEqual(set(statuses), {201, 503})
        self.assertEqual(calm_statuses, {201})
        self.assertGreater(metric(calm, "belfry_mailbox_overloads_total"), 0)
        # What was accepted is there, what was refused is not.
        count, cursor = 0, ""
        while cursor is not None:
            page = busy.get("/v1/reminders?limit=200" + ("&cursor=" + cursor if cursor else "")).json
            count, cursor = count + len(page["items"]), page["next_cursor"]
        self.assertEqual(count, statuses.count(201))

    def test_idle_actors_are_passivated_and_come_back(self):
        user = self.node.signup("sleepy")
        path = self.expect(user.post("/v1/reminders", {"title": "before"}), 201).headers["Location"]
        activated = metric(user, "belfry_actors_activated_total")
        until = time.monotonic() + 15 * SLOW
        while metric(user, "belfry_actors_live") > 0:
            self.assertLess(time.monotonic(), until)
            time.sleep(0.05)
        self.assertGreater(metric(user, "belfry_actors_passivated_total"), 0)
        self.assertEqual(self.expect(user.get(path), 200).json["title"], "before")
        self.assertEqual(self.expect(user.patch(path, {"title": "after"}), 200).json["title"], "after")
        self.assertGreater(metric(user, "belfry_actors_activated_total"), activated)


class Hashers(NodeTest):
    def helpers(self):
        with open("/proc/%d/task/%d/children" % (self.node.process.pid, self.node.process.pid)) as f:
            return [int(pid) for pid in f.read().split()]

    def test_a_hashing_process_that_dies_is_replaced_and_all_end_with_the_node(self):
        self.node.signup("first")
        for round_ in range(3):
            self.assertTrue(self.helpers() or round_)
            for pid in self.helpers():
                os.kill(pid, signal.SIGKILL)
            self.expect(self.node.client().post("/v1/auth/login", {"login": "first", "password": "correct horse"}), 200)
            self.node.signup("next%d" % round_)
        helpers = self.helpers()
        self.node.kill()
        until = time.monotonic() + 10 * SLOW
        while any(os.path.exists("/proc/%d" % pid) and "Z" not in open("/proc/%d/stat" % pid).read().split()[2] for pid in helpers):
            self.assertLess(time.monotonic(), until)
            time.sleep(0.05)
        self.node.start()


class OtherPartitions(NodeTest):
    def test_other_numbers_of_partitions_and_workers(self):
        for flags in [("--partitions", "1", "--workers", "1"), ("--partitions", "40", "--workers", "3")]:
            node = Node(*flags).start()
            try:
                user = node.signup("one")
                self.expect(user.post("/v1/reminders", {"title": "t", "public": True}), 201)
                node.stop()
                node.start("--partitions", "7")  # ignored: fixed at founding
                self.assertEqual(len(node.client(user.token).get("/v1/reminders?scope=all").json["items"]), 1)
            finally:
                node.close()


if __name__ == "__main__":
    main()
