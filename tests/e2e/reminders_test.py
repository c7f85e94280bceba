"""Reminders ring: once an occurrence, never early, also behind a restart and a change of leaders; series, snooze,
assignees, and what may not be."""
import datetime
import time
import unittest

from belfry import NodeTest, SLOW, main
from cluster import Cluster
from events import Stream


def iso(ms):
    when = datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone.utc)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (ms % 1000)


def millis(text):
    when = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)
    return round(when.timestamp() * 1000)


def soon(ms=0):
    """A due time a little ahead."""
    return int(time.time() * 1000) + int(300 * SLOW) + ms


def fired_events(port, token, count, ids=None):
    """The reminder.fired events of an account (of these reminders alone): so many, and what comes right behind them."""
    stream, fired = Stream(port, token, "?cursor=0"), []
    try:
        while True:
            event = stream.next(10 if len(fired) < count else 0.2)
            if event.name == "reminder.fired" and (ids is None or event.data["id"] in ids):
                fired.append(event.data)
    except TimeoutError:
        return fired
    finally:
        stream.close()


class Rings(NodeTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.amy = cls.node.signup("amy")
        cls.bob = cls.node.signup("bob")

    def make(self, **fields):
        return self.expect(self.amy.post("/v1/reminders", {"title": "ring", **fields}), 201)

    def get(self, reminder):
        return self.amy.get("/v1/reminders/" + reminder["id"]).json

    def expect(self, answer, status, code=None):
        super().expect(answer, status, code)
        return answer.json if answer.text else None

    def wait_fired(self, reminder, since=None):
        until = time.time() + 10 * SLOW
        while time.time() < until:
            now = self.get(reminder)
            if now.get("fired_at") not in (None, since):
                return now
            time.sleep(0.02)
        self.fail("it does not ring: %s" % now)

    def invalid(self, pointer, answer):
        self.expect(answer, 422)
        self.assertIn(pointer, [e["pointer"] for e in answer.json["errors"]])

    def test_once_and_not_early(self):
        due = soon()
        made = self.make(due_at=iso(due))
        self.assertNotIn("fired_at", made)
        self.assertNotIn("armed_at", made)
        rung = self.wait_fired(made)
        self.assertGreaterEqual(millis(rung["fired_at"]), due)
        self.assertEqual(rung["due_at"], iso(due))
        self.assertEqual(rung["updated_at"], made["updated_at"])  # nobody changed it
        time.sleep(0.3)
        self.assertEqual(self.get(made), rung)
        mine = fired_events(self.node.port, self.amy.token, 1, [made["id"]])
        self.assertEqual([e["fired_at"] for e in mine], [rung["fired_at"]])

    def test_what_was_due_rings_at_once(self):
        self.wait_fired(self.make(due_at="1969-12-31T23:59:59.000Z"))
        self.wait_fired(self.make(due_at=iso(soon(-60000))))

    def test_done_is_silent(self):
        made = self.make(due_at=iso(soon(300)))
        self.expect(self.amy.patch("/v1/reminders/" + made["id"], {"completed": True}), 200)
        never = self.make(due_at=iso(soon(300)), status="done")
        moved = self.make(due_at=iso(soon(300)))
        self.expect(self.amy.patch("/v1/reminders/" + moved["id"], {"due_at": iso(soon(3600000))}), 200)
        gone = self.make(due_at=iso(soon(300)))
        self.expect(self.amy.patch("/v1/reminders/" + gone["id"], {"due_at": None}), 200)
        deleted = self.make(due_at=iso(soon(300)))
        self.expect(self.amy.delete("/v1/reminders/" + deleted["id"]), 204)
        last = self.make(due_at=iso(soon(500)))
        self.wait_fired(last)
        for r in (made, never, moved, gone):
            self.assertNotIn("fired_at", self.get(r))
        self.expect(self.amy.patch("/v1/reminders/" + made["id"], {"status": "doing"}), 200)
        time.sleep(0.3)
        self.assertNotIn("fired_at", self.get(made))  # its time passed while it was done

    def test_moved_it_rings_again(self):
        made = self.make(due_at=iso(soon()))
        first = self.wait_fired(made)
        self.expect(self.amy.patch("/v1/reminders/" + made["id"], {"title": "other"}), 200)
        time.sleep(0.3)
        self.assertEqual(self.get(made)["fired_at"], first["fired_at"])
        due = soon()
        self.expect(self.amy.patch("/v1/reminders/" + made["id"], {"due_at": iso(due)}), 200)
        self.assertGreaterEqual(millis(self.wait_fired(made, first["fired_at"])["fired_at"]), due)

    def test_rung_it_does_not_ring_again_for_its_zone_or_rule(self):
        due = soon()
        made = self.make(due_at=iso(due))
        first = self.wait_fired(made)
        path = "/v1/reminders/" + made["id"]
        self.expect(self.amy.patch(path, {"time_zone": "Europe/Paris"}), 200)
        daily = self.expect(self.amy.patch(path, {"recurrence": "FREQ=DAILY"}), 200)
        self.assertEqual(daily["due_at"], iso(due + 86400000))
        self.expect(self.amy.patch(path, {"recurrence": None}), 200)
        time.sleep(0.3)
        self.assertEqual(self.get(made)["fired_at"], first["fired_at"])

    def test_who_is_unassigned_is_not_shown_what_it_is_now(self):
        made = self.make(title="before", assignee="bob")
        self.expect(self.amy.patch("/v1/reminders/" + made["id"], {"assignee": None, "title": "after", "content": "secret"}), 200)
        stream = Stream(self.node.port, self.bob.token, "?cursor=0")
        while True:
            event = stream.next()
            if event.name == "reminder.unassigned" and event.data["id"] == made["id"]:
                break
        stream.close()
        self.assertEqual((event.data["title"], event.data["content"]), ("before", ""))

    def test_snooze(self):
        made = self.make(due_at=iso(soon()))
        path = "/v1/reminders/%s/snooze" % made["id"]
        first = self.wait_fired(made)
        snoozed = self.expect(self.amy.post(path, {"for_ms": 400}), 200)
        self.assertEqual(snoozed["due_at"], made["due_at"])
        again = self.wait_fired(made, first["fired_at"])
        self.assertGreaterEqual(millis(again["fired_at"]), millis(snoozed["snoozed_until"]))
        self.assertNotIn("snoozed_until", again)
        until = iso(soon(3600000))
        snoozed = self.expect(self.amy.post(path, {"until": until}), 200)
        self.assertEqual(snoozed["snoozed_until"], until)
        done = self.expect(self.amy.patch("/v1/reminders/" + made["id"], {"completed": True}), 200)
        self.assertNotIn("snoozed_until", done)
        self.expect(self.amy.post(path, {"for_ms": 1}), 409, "conflict")
        self.expect(self.bob.post(path, {"for_ms": 1}), 404, "not_found")
        self.invalid("/until", self.amy.post(path, {}))
        self.invalid("/until", self.amy.post(path, {"until": until, "for_ms": 5}))
        self.invalid("/for_ms", self.amy.post(path, {"for_ms": 0}))
        open_ = self.make(due_at=iso(soon(3600000)))
        path = "/v1/reminders/%s/snooze" % open_["id"]
        self.invalid("/until", self.amy.post(path, {"until": iso(soon(-10000))}))
        self.invalid("/until", self.amy.post(path, {"until": "2999-01-01T00:00:00Z"}))
        self.expect(self.amy.post("/v1/reminders/%s/snooze" % self.make()["id"], {"for_ms": 5}), 409, "conflict")
        self.expect(self.amy.post(path, {"for_ms": 5}, headers={"If-Match": '"1"'}), 412, "precondition_failed")

    def test_put_off_before_it_rang(self):
        due = soon(200)
        made = self.make(due_at=iso(due))
        snoozed = self.expect(self.amy.post("/v1/reminders/%s/snooze" % made["id"], {"for_ms": int(1200 * SLOW)}), 200)
        self.assertGreaterEqual(millis(self.wait_fired(made)["fired_at"]), millis(snoozed["snoozed_until"]))

    def test_a_series(self):
        start = soon(-3 * 3600000)  # the first three are missed: each rings once, late
        made = self.make(due_at=iso(start), recurrence="FREQ=HOURLY;COUNT=5", time_zone="Etc/UTC")
        until = time.time() + 10 * SLOW
        while self.get(made)["due_at"] != iso(start + 4 * 3600000) and time.time() < until:
            time.sleep(0.05)
        mine = [e["due_at"] for e in fired_events(self.node.port, self.amy.token, 4, [made["id"]])]
        self.assertEqual(mine, [iso(start + n * 3600000) for n in range(4)])
        path = "/v1/reminders/" + made["id"]
        same = self.expect(self.amy.put(path, {k: self.get(made)[k] for k in ("title", "due_at", "recurrence", "time_zone")}), 200)
        self.assertEqual(same["due_at"], iso(start + 4 * 3600000))  # the same series goes on
        daily = self.expect(self.amy.patch(path, {"recurrence": "RRULE:FREQ=DAILY"}), 200)
        self.assertEqual(daily["due_at"], iso(start + 24 * 3600000))  # another rule: from now on
        done = self.expect(self.amy.patch(path, {"completed": True}), 200)
        self.assertEqual(self.expect(self.amy.patch(path, {"completed": False}), 200)["due_at"], done["due_at"])
        once = self.expect(self.amy.patch(path, {"recurrence": None}), 200)
        self.assertNotIn("recurrence", once)

    def test_a_series_by_the_wall_clock(self):
        rule = "FREQ=DAILY;COUNT=3"  # at 02:30, over the change to daylight-saving time in 2027
        for but, due in (("", "2027-03-13T07:30:00.000Z"), ("20270313T023000", "2027-03-14T07:30:00.000Z"),  # 03:30
                         ("20270313T023000,20270314T023000", "2027-03-15T06:30:00.000Z")):
            made = self.make(due_at="2027-03-13T07:30:00Z", recurrence=rule + ("\nEXDATE:" + but if but else ""), time_zone="America/New_York")
            self.assertEqual(made["due_at"], due)

    def test_a_series_of_long_ago(self):
        start = soon(-3000 * 86400000)
        made = self.make(due_at=iso(start), recurrence="FREQ=DAILY")
        self.assertGreater(millis(made["due_at"]), soon(-8 * 86400000))  # a week of missed ones rings, not eight years
        self.assertEqual((millis(made["due_at"]) - start) % 86400000, 0)
        self.expect(self.amy.delete("/v1/reminders/" + made["id"]), 204)
        self.invalid("/recurrence", self.amy.post("/v1/reminders", {"title": "no", "due_at": iso(start), "recurrence": "FREQ=DAILY;COUNT=9"}))

    def test_what_cannot_be(self):
        due = iso(soon(3600000))
        for recurrence in ("", "DAILY", "FREQ=SECONDLY", "FREQ=DAILY;COUNT=2;UNTIL=20300101", "FREQ=DAILY;NAME=1", "FREQ=DAILY;BYHOUR=24", "x" * 600, "FREQ=DAILY\nRDATE:20260101"):
            self.invalid("/recurrence", self.amy.post("/v1/reminders", {"title": "no", "due_at": due, "recurrence": recurrence}))
        self.invalid("/recurrence", self.amy.post("/v1/reminders", {"title": "no", "due_at": due, "recurrence": "FREQ=DAILY;COUNT=1\nEXDATE;VALUE=DATE:" + due[:10].replace("-", "")}))
        self.invalid("/due_at", self.amy.post("/v1/reminders", {"title": "no", "recurrence": "FREQ=DAILY"}))
        for zone in ("", "Mars/Olympus", "../../etc/passwd", "Europe/Paris\x00", "/etc/localtime", "x" * 70):
            self.invalid("/time_zone", self.amy.post("/v1/reminders", {"title": "no", "due_at": due, "time_zone": zone}))
        made = self.make(due_at=due, recurrence="FREQ=DAILY")
        self.invalid("/due_at", self.amy.patch("/v1/reminders/" + made["id"], {"due_at": None}))
        self.invalid("/due_at", self.amy.put("/v1/reminders/" + made["id"], {"title": "no", "recurrence": "FREQ=DAILY"}))
        self.expect(self.amy.patch("/v1/reminders/" + made["id"], {"fired_at": due}), 422)

    def test_an_assignee_is_told(self):
        made = self.make(due_at=iso(soon(300)), assignee="bob")
        rung = self.wait_fired(made)
        self.expect(self.bob.patch("/v1/reminders/" + made["id"], {"status": "doing"}), 200)
        self.expect(self.amy.patch("/v1/reminders/" + made["id"], {"assignee": None}), 200)
        again = self.make(assignee="bob")
        self.expect(self.amy.delete("/v1/reminders/" + again["id"]), 204)
        want = [("reminder.assigned", made), ("reminder.fired", made), ("reminder.changed", made), ("reminder.unassigned", made), ("reminder.assigned", again), ("reminder.deleted", again)]
        stream, got = Stream(self.node.port, self.bob.token, "?cursor=0"), []
        while len(got) < len(want):
            event = stream.next()
            if event.name and event.data["id"] in (made["id"], again["id"]):
                got.append((event.name, event.data["id"]))
                if event.name == "reminder.fired":
                    self.assertEqual(event.data["fired_at"], rung["fired_at"])
        stream.close()
        self.assertEqual(got, [(name, r["id"]) for name, r in want])

    def test_changed_while_it_rings(self):
        """Series that ring all the time, and are patched at the same moments: every patch is carried out."""
        made = self.make(due_at=iso(soon(-400 * 3600000)), recurrence="FREQ=HOURLY")
        for n in range(30):
            self.expect(self.amy.patch("/v1/reminders/" + made["id"], {"recurrence": "FREQ=HOURLY;COUNT=%d" % (100000 + n), "due_at": iso(soon(-300 * 3600000))}), 200)
        self.assertEqual(self.get(made)["recurrence"], "FREQ=HOURLY;COUNT=100029")
        self.expect(self.amy.delete("/v1/reminders/" + made["id"]), 204)

    def test_zz_missed_while_down(self):
        due = soon(200)
        made = [self.make(due_at=iso(due + n)) for n in range(50)]
        self.node.kill()
        time.sleep(0.8 * SLOW)
        self.node.start()
        type(self).amy, type(self).bob = self.node.client(self.amy.token), self.node.client(self.bob.token)
        for r in made:
            self.assertGreaterEqual(millis(self.wait_fired(r)["fired_at"]), millis(r["due_at"]))
        ids = [r["id"] for r in made]
        self.assertEqual(sorted(e["id"] for e in fired_events(self.node.port, self.amy.token, 50, ids)), sorted(ids))


class Storm(unittest.TestCase):
    """Reminders that are due while leaders are killed: each rings once, none early."""

    def test_leaders_die(self):
        users, due = {}, {}
        with Cluster(3) as cluster:
            for i in range(6):
                users[i] = cluster.nodes[i % 3].signup("user%d" % i)
            first = int(time.time() * 1000) + int(2000 * SLOW)
            for n in range(600):
                user = users[n % 6]
                body = {"title": "storm", "due_at": iso(first + n * 10)}
                if n % 5 == 0:
                    body["assignee"] = "user%d" % ((n + 1) % 6)
                made = user.post("/v1/reminders", body)
                self.assertEqual(made.status, 201, made.text)
                due[made.json["id"]] = (first + n * 10, n)
            for victim in (0, 1, 2):
                time.sleep(1.2 * SLOW)
                cluster.kill(victim)
                time.sleep(0.5 * SLOW)
                cluster.launch(victim)
                cluster.wait_ready(victim)
            time.sleep(max(0, first / 1000 + 7 - time.time()))
            seen = {}
            for i, user in users.items():
                assigned = sum(1 for _, n in due.values() if n % 5 == 0 and (n + 1) % 6 == i)
                for event in fired_events(cluster.nodes[i % 3].port, user.token, 100 + assigned):
                    self.assertGreaterEqual(millis(event["fired_at"]), due[event["id"]][0])
                    seen.setdefault(event["id"], []).append(i)
            for id_, (_, n) in due.items():
                want = [n % 6] + ([(n + 1) % 6] if n % 5 == 0 else [])
                self.assertEqual(sorted(seen[id_]), sorted(want))


if __name__ == "__main__":
    main()
