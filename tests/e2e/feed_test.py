"""The iCalendar feed: a secret address that a calendar program reads without signing in, and that can be taken back."""
import base64
import datetime
import unittest

try:
    import icalendar  # a reader that shares no code with us: Debian's python3-icalendar
except ImportError:
    icalendar = None

from belfry import NodeTest, main
from cluster import ClusterTest


def times_of(component, name):
    return component[name].dt.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Feed(NodeTest):
    def feed_of(self, client):
        made = self.expect(client.post("/v1/reminders/feed"), 201)
        self.assertEqual(made.headers["Cache-Control"], "no-store")
        self.assertEqual(made.json["url"], "/v1/reminders.ics?token=" + made.json["token"])
        return made.json["url"]

    def read(self, url, **kw):
        return self.expect(self.node.client().get(url, **kw), 200)

    def test_the_feed_has_the_own_reminders_with_a_time(self):
        ada, bob = self.node.signup("ada"), self.node.signup("bob")
        self.expect(ada.post("/v1/reminders", {"title": "Dentist; bring card, \\ and 2 €", "content": "line one\nline two",
                                               "due_at": "2030-01-31T09:00:00Z"}), 201)
        self.expect(ada.post("/v1/reminders", {"title": "some day"}), 201)
        self.expect(ada.post("/v1/reminders", {"title": "over", "due_at": "2030-02-01T10:30:00.250+02:00", "status": "done"}), 201)
        self.expect(bob.post("/v1/reminders", {"title": "bob's", "due_at": "2030-01-31T09:00:00Z", "assignee": "ada"}), 201)
        answer = self.read(self.feed_of(ada))
        self.assertEqual(answer.headers["Content-Type"], "text/calendar; charset=utf-8")
        self.assertTrue(answer.text.startswith("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n"))
        self.assertTrue(answer.text.endswith("END:VCALENDAR\r\n"))
        self.assertNotIn("\n", answer.text.replace("\r\n", ""))
        self.assertEqual(answer.text.count("BEGIN:VEVENT"), 2)
        self.assertNotIn("bob's", answer.text)
        self.assertNotIn("some day", answer.text)

    @unittest.skipUnless(icalendar, "python3-icalendar is not installed")
    def test_another_reader_understands_it(self):
        eve = self.node.signup("eve")
        title, content = "Ünïcode; commas, \\ and \"quotes\": " + "é" * 90, "first\nsecond; BEGIN:VEVENT\n" + "€" * 300
        made = self.expect(eve.post("/v1/reminders", {"title": title, "content": content, "due_at": "2030-03-31T00:30:00Z"}), 201).json
        calendar = icalendar.Calendar.from_ical(self.read(self.feed_of(eve)).text)
        self.assertEqual((calendar["VERSION"], calendar["METHOD"], calendar["X-WR-CALNAME"]), ("2.0", "PUBLISH", "Reminders"))
        events = calendar.walk("VEVENT")
        self.assertEqual(len(events), 1)
        event = events[0]
        self.assertEqual((str(event["UID"]), str(event["SUMMARY"]), str(event["DESCRIPTION"])), (made["id"] + "@belfry", title, content))
        self.assertEqual(times_of(event, "DTSTART"), "2030-03-31T00:30:00Z")
        self.assertEqual(times_of(event, "DTSTAMP"), made["updated_at"][:19] + "Z")
        self.assertEqual([str(a["ACTION"]) for a in event.walk("VALARM")], ["DISPLAY"])

    def test_there_is_one_address_at_a_time_and_none_at_first(self):
        carol = self.node.signup("carol")
        self.expect(carol.get("/v1/reminders/feed"), 404, "not_found")
        self.expect(carol.delete("/v1/reminders/feed"), 404, "not_found")
        first = self.feed_of(carol)
        self.assertEqual(list(self.expect(carol.get("/v1/reminders/feed"), 200).json), ["created_at"])
        self.read(first)
        second = self.feed_of(carol)
        self.assertNotEqual(first, second)
        self.expect(self.node.client().get(first), 404, "not_found")
        self.read(second)
        self.expect(carol.delete("/v1/reminders/feed"), 204)
        self.expect(self.node.client().get(second), 404, "not_found")
        self.expect(carol.get("/v1/reminders/feed"), 404, "not_found")

    def test_what_is_no_token_is_not_found_and_all_look_the_same(self):
        dave = self.node.signup("dave")
        url = self.feed_of(dave)
        token = base64.urlsafe_b64decode(url.split("=")[1])
        self.assertEqual(len(token), 48)

        def text(raw):
            return base64.urlsafe_b64encode(raw).decode().rstrip("=")
        stranger = bytearray(token)
        stranger[15] ^= 1  # an account that is not there
        wrong = [token[:47] + bytes([token[47] ^ 1]), token[:16] + bytes(32), bytes(stranger), bytes(48), token + b"x", token[:47]]
        queries = ["?token=" + text(w) for w in wrong] + ["", "?token=", "?token=%00", "?token=" + "A" * 3000, "?token=" + text(token) + "%20"]
        problems = set()
        for query in queries:
            problem = self.expect(self.node.client().get("/v1/reminders.ics" + query), 404, "not_found").json
            del problem["request_id"]
            problems.add(str(problem))
        self.assertEqual(len(problems), 1)
        # An access token is no way in, nor is the feed's token one.
        self.expect(dave.get("/v1/reminders.ics"), 404, "not_found")
        self.expect(self.node.client(text(token)).get("/v1/reminders"), 401, "unauthorized")
        self.expect(self.node.client().post("/v1/reminders/feed"), 401, "unauthorized")
        self.read(url)

    def test_the_etag_follows_the_reminders(self):
        frank = self.node.signup("frank")
        url = self.feed_of(frank)
        tag = self.read(url).headers["ETag"]
        again = self.node.client().get(url, headers={"If-None-Match": tag})
        self.assertEqual((again.status, again.body), (304, b""))
        self.expect(frank.post("/v1/reminders", {"title": "new", "due_at": "2030-01-31T09:00:00Z"}), 201)
        changed = self.read(url, headers={"If-None-Match": tag})
        self.assertNotEqual(changed.headers["ETag"], tag)

    def test_a_retried_request_makes_no_second_secret_known(self):
        grace = self.node.signup("grace")
        first = self.expect(grace.post("/v1/reminders/feed", headers={"Idempotency-Key": "k1"}), 201)
        second = grace.post("/v1/reminders/feed", headers={"Idempotency-Key": "k1"})
        self.assertNotIn(first.json["token"], second.text)  # kept nowhere, so not given again

    def test_the_account_s_end_is_the_feed_s(self):
        heidi = self.node.signup("heidi")
        url = self.feed_of(heidi)
        self.expect(heidi.delete("/v1/users/me"), 204)
        self.expect(self.node.client().get(url), 404, "not_found")


class FeedOfACluster(ClusterTest):
    def test_a_revoked_address_is_gone_at_every_node_at_once(self):
        cluster = self.cluster()
        user = cluster.signup(0, "ada")
        for i in range(6):
            url = self.expect(cluster.at(i % 3, user).post("/v1/reminders/feed"), 201).json["url"]
            title = "reminder %d" % i
            self.expect(cluster.at((i + 1) % 3, user).post("/v1/reminders", {"title": title, "due_at": "2030-01-31T09:00:00Z"}), 201)
            for n in range(3):
                self.assertIn(title, self.expect(cluster.nodes[n].client().get(url), 200).text)
            self.expect(cluster.at((i + 2) % 3, user).delete("/v1/reminders/feed"), 204)
            for n in range(3):
                self.expect(cluster.nodes[n].client().get(url), 404, "not_found")


if __name__ == "__main__":
    main()
