"""The queue on one node: topics, publishing, receiving, settling, dead letters, looking, refusals."""
import base64
import json
import re
import socket
import subprocess
import threading
import time

from belfry import BINARY, SLOW, NodeTest, main


class Queue:
    """A topic, as its owner uses it."""

    def __init__(self, client, topic, **settings):
        self.client, self.topic = client, topic
        self.path = "/v1/topics/" + topic
        self.created = client.put(self.path, settings)

    def publish(self, *messages):
        return self.client.post(self.path + "/messages", {"messages": [m if isinstance(m, dict) else {"body": m} for m in messages]})

    def receive(self, group="g", **ask):
        return self.client.post(self.path + "/groups/%s/receive" % group, ask)

    def take(self, group="g", **ask):
        return self.receive(group, **ask).json["messages"]

    def settle(self, verb, messages, group="g", **ask):
        return self.client.post(self.path + "/groups/%s/%s" % (group, verb), dict(ask, receipts=[m["receipt"] for m in messages])).json["results"]

    def group(self, group="g"):
        return self.client.get(self.path + "/groups/" + group).json


def bodies(messages):
    return [m["body"] for m in messages]


class QueueTest(NodeTest):
    def setUp(self):
        super().setUp()
        self.number = getattr(QueueTest, "number", 0) + 1
        QueueTest.number = self.number
        self.owner = self.node.signup("owner%d" % self.number)

    def queue(self, **settings):
        queue = Queue(self.owner, "topic%d" % self.number, **settings)
        self.assertEqual(queue.created.status, 201, queue.created.text)
        return queue


class Basics(QueueTest):
    def test_a_topic_is_made_once_and_changed(self):
        queue = self.queue(visibility_ms=1000)
        self.assertEqual(queue.created.json["visibility_ms"], 1000)
        again = self.owner.put(queue.path, {"visibility_ms": 1000})
        self.assertEqual(again.status, 200)
        self.assertEqual(again.json["updated_at"], queue.created.json["updated_at"])
        changed = self.owner.put(queue.path, {"visibility_ms": 2000, "max_attempts": 3})
        self.assertEqual((changed.status, changed.json["visibility_ms"], changed.json["max_attempts"]), (200, 2000, 3))
        self.assertEqual(self.owner.get(queue.path).json["max_attempts"], 3)
        self.assertEqual(self.owner.put(queue.path, {"partitions": 2}).status, 409)
        self.assertEqual([t["name"] for t in self.owner.get("/v1/topics").json["items"]], [queue.topic])
        self.assertEqual(self.owner.delete(queue.path).status, 204)
        self.assertEqual(self.owner.get(queue.path).status, 404)
        self.assertEqual(self.owner.get("/v1/topics").json["items"], [])

    def test_what_is_published_is_received_and_acknowledged(self):
        queue = self.queue()
        answer = queue.publish("one", {"body": "two", "headers": {"Color": "red"}, "key": "k"}, {"body": "AAEC", "encoding": "base64"})
        self.assertEqual(answer.status, 201, answer.text)
        self.assertEqual(len(set(answer.json["ids"])), 3)
        messages = queue.take(max=10)
        self.assertEqual([m["id"] for m in messages], answer.json["ids"])
        self.assertEqual(bodies(messages), ["one", "two", "AAEC"])
        self.assertEqual(messages[1]["headers"], {"Color": "red"})
        self.assertEqual(messages[1]["key"], "k")
        self.assertEqual(messages[2]["encoding"], "base64")
        self.assertEqual([m["attempt"] for m in messages], [1, 1, 1])
        self.assertEqual(queue.take(max=10), [])
        numbers = queue.group()
        self.assertEqual((numbers["depth"], numbers["in_flight"], numbers["delivered"]), (0, 3, 3))
        self.assertEqual(queue.settle("ack", messages), ["ok"] * 3)
        self.assertEqual(queue.settle("ack", messages), ["gone"] * 3)
        numbers = queue.group()
        self.assertEqual((numbers["depth"], numbers["in_flight"], numbers["acked"]), (0, 0, 3))

    def test_every_group_gets_every_message_once(self):
        queue = self.queue()
        queue.publish(*["m%d" % i for i in range(10)])
        first = queue.take("a", max=6) + queue.take("a", max=6)
        self.assertEqual(bodies(first), ["m%d" % i for i in range(10)])
        self.assertEqual(bodies(queue.take("b", max=100)), ["m%d" % i for i in range(10)])
        self.assertEqual([g["group"] for g in self.owner.get(queue.path + "/groups").json["items"]], ["a", "b"])
        self.assertEqual(self.owner.delete(queue.path + "/groups/a").status, 204)
        self.assertEqual([g["group"] for g in self.owner.get(queue.path + "/groups").json["items"]], ["b"])
        self.assertEqual(len(queue.take("a", max=100)), 10)  # as if it had never been

    def test_raw(self):
        queue = self.queue()
        body = bytes(range(256)) * 100
        answer = self.owner.post(queue.path + "/messages/raw", body, raw=True, headers={
            "Content-Type": "application/x-any", "Belfry-Key": "k1", "Belfry-Priority": "5", "Belfry-Header-Trace": "abc"})
        self.assertEqual(answer.status, 201, answer.text)
        (message,) = queue.take()
        self.assertEqual(base64.b64decode(message["body"]), body)
        self.assertEqual((message["key"], message["priority"], message["headers"]), ("k1", 5, {"trace": "abc"}))
        self.assertEqual(self.owner.post(queue.path + "/messages/raw", b"x", raw=True, headers={"Belfry-Colour": "red"}).status, 422)

    def test_the_largest_message_and_one_that_is_too_large(self):
        queue = self.queue()
        largest = b"\x00" * (1 << 20)
        self.assertEqual(self.owner.post(queue.path + "/messages/raw", largest, raw=True).status, 201)
        self.assertEqual(self.owner.post(queue.path + "/messages/raw", largest + b"1", raw=True).status, 413)
        self.assertEqual(queue.publish({"body": base64.b64encode(largest).decode(), "encoding": "base64"}).status, 201)
        self.assertEqual(queue.publish({"body": base64.b64encode(largest + b"1").decode(), "encoding": "base64"}).status, 422)
        self.assertEqual([len(m["body"]) for m in queue.take(max=10)], [len(base64.b64encode(largest))])
        self.assertEqual(self.owner.get(queue.path).json["messages"], 2)


class Waiting(QueueTest):
    def test_a_receive_waits_for_a_message(self):
        queue = self.queue()
        self.assertEqual(queue.take(), [])
        got = []
        other = self.node.client(self.owner.token)
        thread = threading.Thread(target=lambda: got.append((other.post(queue.path + "/groups/g/receive", {"wait_ms": 20000}).json["messages"], time.monotonic())))
        thread.start()
        time.sleep(0.3)
        sent = time.monotonic()
        queue.publish("late")
        thread.join()
        self.assertEqual(bodies(got[0][0]), ["late"])
        self.assertLess(got[0][1] - sent, 10)

    def test_it_ends_empty_when_nothing_comes(self):
        queue = self.queue()
        began = time.monotonic()
        self.assertEqual(queue.take(wait_ms=300), [])
        self.assertGreaterEqual(time.monotonic() - began, 0.29)

    def test_a_delayed_message_comes_in_time_and_wakes_who_waits(self):
        queue = self.queue()
        queue.publish({"body": "later", "delay_ms": 700})
        published = time.monotonic()
        self.assertEqual(queue.take(), [])
        self.assertEqual(self.owner.get(queue.path).json["delayed"], 1)
        self.assertEqual(bodies(queue.take(wait_ms=20000)), ["later"])
        self.assertGreaterEqual(time.monotonic() - published, 0.65)
        self.assertEqual(self.owner.get(queue.path).json["delayed"], 0)

    def test_a_lease_that_ends_gives_the_message_to_another(self):
        queue = self.queue(visibility_ms=300)
        queue.publish("m")
        first = queue.take()
        second = queue.take(wait_ms=20000)
        self.assertEqual((second[0]["body"], second[0]["attempt"]), ("m", 2))
        self.assertEqual(queue.settle("ack", first), ["gone"])
        self.assertEqual(queue.settle("ack", second), ["ok"])
        self.assertEqual(queue.group()["redelivered"], 1)

    def test_a_longer_lease(self):
        queue = self.queue(visibility_ms=400)
        queue.publish("m")
        first = queue.take()
        self.assertEqual(queue.settle("extend", first, visibility_ms=60000), ["ok"])
        self.assertEqual(queue.take(wait_ms=900), [])
        self.assertEqual(queue.settle("ack", first), ["ok"])


class Subscribing(QueueTest):
    def subscribe(self, queue, query="", token=None):
        s = socket.create_connection(("127.0.0.1", self.node.port), timeout=20 * SLOW)
        self.addCleanup(s.close)
        s.sendall(("GET %s/groups/g/stream%s HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n" % (queue.path, query, token or self.owner.token)).encode())
        return s.makefile("rb")

    def events(self, stream, count):
        found = []
        while len(found) < count:
            line = stream.readline()
            self.assertTrue(line, "the stream ended")
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
        return found

    def test_messages_come_as_far_as_there_is_credit(self):
        queue = self.queue()
        queue.publish("a")
        stream = self.subscribe(queue, "?credit=2")
        first = self.events(stream, 1)
        queue.publish("b", "c", "d")
        second = self.events(stream, 1)
        self.assertEqual(bodies(first + second), ["a", "b"])
        time.sleep(0.2)
        self.assertEqual(queue.group()["in_flight"], 2)
        self.assertEqual(queue.settle("ack", first), ["ok"])
        third = self.events(stream, 1)
        self.assertEqual(bodies(third), ["c"])
        self.assertEqual(queue.settle("ack", second + third), ["ok", "ok"])
        self.assertEqual(bodies(self.events(stream, 1)), ["d"])

    def test_what_is_refused(self):
        queue = self.queue()
        stranger = self.node.signup("listener%d" % self.number)
        self.assertEqual(stranger.get(queue.path + "/groups/g/stream").status, 403)
        self.assertEqual(self.owner.get("/v1/topics/none/groups/g/stream").status, 404)
        self.assertEqual(self.owner.get(queue.path + "/groups/g/stream?credit=0").status, 422)
        self.assertEqual(self.owner.request("HEAD", queue.path + "/groups/g/stream").status, 200)

    def test_a_deleted_topic_ends_it(self):
        queue = self.queue()
        stream = self.subscribe(queue)
        queue.publish("a")
        self.events(stream, 1)
        self.owner.delete(queue.path)
        rest = stream.read()
        self.assertIn(b"event: stream.end", rest)


class Order(QueueTest):
    def test_one_of_a_key_at_a_time_in_order(self):
        queue = self.queue()
        queue.publish(*[{"body": "%s%d" % (k, i), "key": k} for i in range(3) for k in "ab"])
        first = queue.take(max=10)
        self.assertEqual(bodies(first), ["a0", "b0"])
        self.assertEqual(queue.take(max=10), [])
        queue.settle("ack", first[:1])
        second = queue.take(max=10)
        self.assertEqual(bodies(second), ["a1"])
        queue.settle("nack", first[1:])
        self.assertEqual(bodies(queue.take(max=10)), ["b0"])

    def test_priorities_and_keys(self):
        queue = self.queue()
        queue.publish({"body": "usual"}, {"body": "background", "priority": 5000}, {"body": "urgent", "priority": 1},
                      {"body": "first of k", "key": "k", "priority": 9000}, {"body": "second of k", "key": "k", "priority": 0})
        self.assertEqual(bodies(queue.take(max=2)), ["urgent", "usual"])
        rest = queue.take(max=10)
        self.assertEqual(bodies(rest), ["background", "first of k"])
        queue.settle("ack", rest)
        self.assertEqual(bodies(queue.take(max=10)), ["second of k"])

    def test_deduplication(self):
        queue = self.queue(dedup_window_ms=600)
        first = queue.publish({"body": "a", "dedup_id": "x"}).json["ids"]
        self.assertEqual(queue.publish({"body": "a", "dedup_id": "x"}, {"body": "b", "dedup_id": "y"}).json["ids"][0], first[0])
        self.assertEqual(bodies(queue.take(max=10)), ["a", "b"])
        self.assertEqual(self.owner.get(queue.path).json["duplicates"], 1)
        time.sleep(0.8)
        self.assertNotEqual(queue.publish({"body": "a", "dedup_id": "x"}).json["ids"], first)

    def test_deduplication_over_several_partitions(self):
        queue = self.queue(partitions=5)
        batch = [{"body": "m%d" % i, "dedup_id": "d%d" % i} for i in range(20)]
        first = queue.publish(*batch).json["ids"]
        self.assertGreater(len({i.split("-")[0] for i in first}), 1)
        for _ in range(5):
            self.assertEqual(queue.publish(*batch).json["ids"], first)
        self.assertEqual(self.owner.get(queue.path).json["messages"], 20)

    def test_time_to_live(self):
        queue = self.queue()
        queue.publish({"body": "short", "ttl_ms": 200}, {"body": "long", "ttl_ms": 60000})
        time.sleep(0.4)
        self.assertEqual(bodies(queue.take(max=10)), ["long"])
        self.assertEqual(queue.group()["expired"], 1)

    def test_retention(self):
        queue = self.queue(retention_ms=1000)
        queue.publish("old")
        time.sleep(1.5)
        self.assertEqual(self.owner.get(queue.path).json["messages"], 0)
        self.assertEqual(queue.take(), [])


class DeadLetters(QueueTest):
    def test_after_the_last_attempt_they_are_kept_listed_redriven_and_purged(self):
        queue = self.queue(max_attempts=2)
        queue.publish("a", "b", "c")
        for attempt in (1, 2):
            messages = queue.take(max=10)
            self.assertEqual([m["attempt"] for m in messages], [attempt] * 3)
            self.assertEqual(queue.settle("nack", messages), ["ok"] * 3)
        self.assertEqual(queue.take(), [])
        dead = self.owner.get(queue.path + "/groups/g/dead-letters").json["items"]
        self.assertEqual([(d["body"], d["attempts"], d["reason"]) for d in dead], [(b, 2, "attempts") for b in "abc"])
        redriven = self.owner.post(queue.path + "/groups/g/dead-letters/redrive", {"ids": [dead[1]["id"]]})
        self.assertEqual(redriven.json, {"count": 1, "left": 2})
        again = queue.take(max=10)
        self.assertEqual([(m["body"], m["attempt"]) for m in again], [("b", 1)])
        self.assertEqual(self.owner.post(queue.path + "/groups/g/dead-letters/redrive", {}).json, {"count": 2, "left": 0})
        self.assertEqual(bodies(queue.take(max=10)), ["a", "c"])
        queue.settle("nack", again)
        queue.settle("nack", queue.take(max=10))
        self.assertEqual(self.owner.delete(queue.path + "/groups/g/dead-letters").json, {"count": 1, "left": 0})
        self.assertEqual(queue.group()["dead_letters"], 0)

    def test_a_refusal_with_a_delay(self):
        queue = self.queue()
        queue.publish("m")
        self.assertEqual(queue.settle("nack", queue.take(), delay_ms=500), ["ok"])
        self.assertEqual(queue.take(), [])
        self.assertEqual(queue.group()["waiting"], 1)
        self.assertEqual(queue.take(wait_ms=20000)[0]["attempt"], 2)


class Looking(QueueTest):
    def test_browsing_takes_nothing(self):
        queue = self.queue()
        ids = queue.publish(*["m%d" % i for i in range(7)]).json["ids"]
        seen, cursor = [], None
        while True:
            page = self.owner.get(queue.path + "/messages?limit=3" + ("&from=" + cursor if cursor else "")).json
            seen += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        self.assertEqual([m["id"] for m in seen], ids)
        self.assertEqual(self.owner.get(queue.path + "/messages/" + ids[3]).json["body"], "m3")
        self.assertEqual(self.owner.get(queue.path + "/messages/1-999999").status, 404)
        self.assertEqual(len(queue.take(max=100)), 7)

    def test_seeking(self):
        queue = self.queue()
        queue.publish("a", "b")
        time.sleep(0.05)
        middle = queue.publish("c").json["ids"]
        published = self.owner.get(queue.path + "/messages/" + middle[0]).json["published_at"]
        self.assertEqual(len(queue.take(max=10)), 3)
        seek = queue.path + "/groups/g/seek"
        self.assertEqual(self.owner.post(seek, {"to": "start"}).status, 204)
        self.assertEqual(bodies(queue.take(max=10)), ["a", "b", "c"])
        self.assertEqual(self.owner.post(seek, {"to": "end"}).status, 204)
        self.assertEqual(queue.take(max=10), [])
        self.assertEqual(self.owner.post(seek, {"to": "time", "time": published}).status, 204)
        self.assertEqual(queue.group()["depth"], 1)
        self.assertEqual(bodies(queue.take(max=10)), ["c"])
        self.assertEqual(self.owner.post(seek, {"to": "time"}).status, 422)

    def test_a_topic_that_keeps_nothing(self):
        queue = self.queue(retain_acked=False)
        queue.publish("a", "b")
        queue.settle("ack", queue.take())
        self.assertEqual(self.owner.get(queue.path).json["messages"], 1)
        self.assertEqual(queue.receive("other").status, 422)
        self.assertEqual(self.owner.put("/v1/topics/wide%d" % self.number, {"retain_acked": False, "partitions": 2}).status, 422)


class Slips(QueueTest):
    """A message with destinations goes on when it is acknowledged."""

    def topics(self, *names):
        return [Queue(self.owner, "%s%d" % (name, self.number)) for name in names]

    def test_a_message_goes_from_topic_to_topic(self):
        first, second, third = self.topics("first", "second", "third")
        first.publish({"body": "start", "key": "k", "headers": {"a": "1", "b": "1"}, "destinations": [second.topic, third.topic]}, "plain")
        one, plain = first.take(max=10)
        answer = self.owner.post(first.path + "/groups/g/ack", {"acks": [{"receipt": one["receipt"], "body": "middle", "headers": {"b": "2", "c": "3"}}, {"receipt": plain["receipt"]}]})
        self.assertEqual(answer.json, {"results": ["ok", "ok"]})
        (two,) = second.take(wait_ms=20000)
        self.assertEqual((two["body"], two["key"], two["headers"], two["attempt"]), ("middle", "k", {"a": "1", "b": "2", "c": "3"}, 1))
        self.assertEqual(second.settle("ack", [two]), ["ok"])
        self.assertEqual(second.settle("ack", [two]), ["gone"])
        (three,) = third.take(wait_ms=20000)
        self.assertEqual((three["body"], three["published_at"]), ("middle", one["published_at"]))
        self.assertEqual(third.settle("ack", [three]), ["ok"])
        time.sleep(0.3)
        self.assertEqual([len(q.take()) for q in (first, second, third)], [0, 0, 0])
        self.assertEqual([self.owner.get(q.path).json["messages"] for q in (first, second, third)], [2, 1, 1])

    def test_many_at_once(self):
        first, second = self.topics("first", "second")
        for _ in range(5):
            first.publish(*[{"body": "m", "destinations": [second.topic]}] * 100)
        messages = first.take(max=1000)
        self.assertEqual(len(messages), 500)
        self.assertEqual(set(first.settle("ack", messages)), {"ok"})
        got = 0
        while got < 500:
            more = second.take(max=1000, wait_ms=20000)
            self.assertTrue(more)
            got += len(more)
        time.sleep(0.3)
        self.assertEqual((got, second.take()), (500, []))

    def test_what_cannot_go_on_comes_back_as_a_dead_letter(self):
        first, = self.topics("first")
        closed = Queue(self.node.signup("other%d" % self.number), "closed%d" % self.number)
        first.publish({"body": "nowhere", "destinations": ["later%d" % self.number]}, {"body": "forbidden", "destinations": [closed.topic]})
        self.assertEqual(first.settle("ack", first.take(max=10)), ["ok", "ok"])
        for _ in range(200):
            dead = self.owner.get(first.path + "/groups/g/dead-letters").json["items"]
            if len(dead) == 2:
                break
            time.sleep(0.05)
        self.assertEqual({(d["body"], d["reason"]) for d in dead}, {("nowhere", "undeliverable"), ("forbidden", "undeliverable")})
        later, = self.topics("later")
        self.assertEqual(self.owner.post(first.path + "/groups/g/dead-letters/redrive", {}).json["count"], 2)
        self.assertEqual(bodies(later.take(wait_ms=20000)), ["nowhere"])
        for _ in range(200):
            if self.owner.get(first.path + "/groups/g").json["dead_letters"] == 1:
                break
            time.sleep(0.05)
        self.assertEqual(bodies(self.owner.get(first.path + "/groups/g/dead-letters").json["items"]), ["forbidden"])

    def test_bad_destinations(self):
        queue = self.queue()
        self.assertEqual(queue.publish({"body": "x", "destinations": ["a b"]}).status, 422)
        self.assertEqual(queue.publish({"body": "x", "destinations": ["a"] * 17}).status, 422)
        self.assertEqual(queue.publish({"body": "x", "destinations": "a"}).status, 422)
        self.assertEqual(self.owner.post(queue.path + "/groups/g/ack", {"receipts": ["1-1-1-1-1"], "acks": [{"receipt": "1-1-1-1-1"}]}).status, 422)


class Wide(QueueTest):
    """A topic over several partitions behaves as one, but for the order of messages without a key."""

    def test_everything_arrives_once_and_keys_keep_their_order(self):
        queue = self.queue(partitions=3)
        for i in range(10):
            self.assertEqual(queue.publish(*[{"body": "%s%d" % (k, i), "key": k} for k in "abcdef"], "plain%d" % i).status, 201)
        got = []
        while True:
            messages = queue.take(max=7)
            if not messages:
                break
            got += messages
            self.assertEqual(set(queue.settle("ack", messages)), {"ok"})
        self.assertEqual(len(got), 70)
        for k in "abcdef":
            self.assertEqual([m["body"] for m in got if m.get("key") == k], ["%s%d" % (k, i) for i in range(10)])
        self.assertGreater(len({m["id"].split("-")[0] for m in got}), 1)
        numbers = queue.group()
        self.assertEqual((numbers["depth"], numbers["acked"]), (0, 70))
        self.assertEqual(self.owner.get(queue.path).json["messages"], 70)
        seen, cursor = [], ""
        while cursor is not None:
            page = self.owner.get(queue.path + "/messages?limit=9" + cursor).json
            seen += page["items"]
            cursor = page["next_cursor"] and "&from=" + page["next_cursor"]
        self.assertEqual({m["id"] for m in seen}, {m["id"] for m in got})
        self.assertEqual(self.owner.delete(queue.path).status, 204)
        self.assertEqual(self.owner.get(queue.path).status, 404)

    def test_a_receive_waits_for_all_of_its_partitions(self):
        queue = self.queue(partitions=3)
        self.assertEqual(queue.take(), [])
        for i in range(6):
            got = []
            other = self.node.client(self.owner.token)
            thread = threading.Thread(target=lambda: got.extend(other.post(queue.path + "/groups/g/receive", {"wait_ms": 20000}).json["messages"]))
            thread.start()
            time.sleep(0.05)
            queue.publish({"body": "m%d" % i, "key": "key%d" % i})
            thread.join()
            self.assertEqual(bodies(got), ["m%d" % i])

    def test_dead_letters_of_all_partitions(self):
        queue = self.queue(partitions=3, max_attempts=1)
        queue.publish(*[{"body": "m%d" % i, "key": "key%d" % i} for i in range(12)])
        while True:
            messages = queue.take(max=100)
            if not messages:
                break
            queue.settle("nack", messages)
        dead = self.owner.get(queue.path + "/groups/g/dead-letters").json["items"]
        self.assertEqual({d["body"] for d in dead}, {"m%d" % i for i in range(12)})
        redriven = self.owner.post(queue.path + "/groups/g/dead-letters/redrive", {"ids": [d["id"] for d in dead[:5]]})
        self.assertEqual(redriven.json, {"count": 5, "left": 7})
        self.assertEqual(self.owner.delete(queue.path + "/groups/g/dead-letters").json, {"count": 7, "left": 0})


class Operator(QueueTest):
    def belfry(self, *line):
        done = subprocess.run([BINARY, line[0], "--data", self.node.data, *line[1:]], capture_output=True, text=True, timeout=30 * SLOW)
        return done.returncode, done.stdout

    def test_the_operators_commands(self):
        queue = self.queue(max_attempts=1)
        ids = queue.publish("first", {"body": "second", "key": "k"}).json["ids"]
        queue.settle("nack", queue.take())
        code, out = self.belfry("topics")
        self.assertEqual(code, 0)
        row = [line.split() for line in out.splitlines() if line.startswith(queue.topic + " ")]
        self.assertEqual([row[0][0], row[0][2], row[0][-1]], [queue.topic, "2", "1"])
        code, out = self.belfry("groups", queue.topic)
        self.assertEqual((code, out.splitlines()[1].split()[:5]), (0, ["g", "1", "0", "0", "1"]))
        code, out = self.belfry("peek", queue.topic, "--limit", "1")
        self.assertEqual((code, len(out.splitlines())), (0, 2))
        code, out = self.belfry("peek", queue.topic, "--from", ids[1], "-o", "json")
        self.assertEqual([m["body"] for m in json.loads(out)["items"]], ["second"])
        code, out = self.belfry("redrive", queue.topic, "g")
        self.assertEqual((code, json.loads(out)), (0, {"count": 1, "left": 0}))
        self.assertEqual(self.belfry("peek", "nowhere")[0], 1)
        self.assertEqual(self.belfry("topics", "--what")[0], 2)

    def test_metrics(self):
        queue = self.queue(max_attempts=1)
        queue.publish("a", "b", "c")
        messages = queue.take(max=2)
        queue.settle("ack", messages[:1])
        queue.settle("nack", messages[1:])
        text = self.node.client().get("/metrics").text
        def value(name, group=',group="g"'):
            found = re.search(r'^%s\{topic="%s",partition="\d+"%s\} (\S+)$' % (name, queue.topic, group), text, re.M)
            return float(found.group(1))
        self.assertEqual([value("belfry_queue_" + n) for n in ("depth", "in_flight", "dead_letters", "acked_total", "delivered_total")], [1, 0, 1, 1, 2])
        self.assertEqual(value("belfry_queue_published_total", ""), 3)
        self.assertGreater(value("belfry_queue_oldest_age_seconds"), 0)


class Refusals(QueueTest):
    def test_nothing_is_stored_of_what_is_refused(self):
        queue = self.queue(max_messages=5)
        stranger = self.node.signup("stranger%d" % self.number)
        publish = queue.path + "/messages"
        one = {"messages": [{"body": "x"}]}
        self.assertEqual(self.owner.post("/v1/topics/nowhere%d/messages" % self.number, one).status, 404)
        self.assertEqual(stranger.post(publish, one).status, 403)
        self.assertEqual(self.owner.post(publish, {"messages": [{"body": "x"}] * 1001}).status, 422)
        self.assertEqual(self.owner.post(publish, {"messages": []}).status, 422)
        self.assertEqual(self.owner.post(publish, {"messages": [{"body": "good"}, {"body": 1}]}).status, 422)
        self.assertEqual(self.owner.post(publish, {"messages": [{"body": "good"}, {"body": "!", "encoding": "base64"}]}).status, 422)
        self.assertEqual(self.owner.post(publish, {"messages": [{"body": "x" * (2 << 20)}]}).status, 413)
        self.assertEqual(self.owner.get(queue.path).json["messages"], 0)
        self.assertEqual(queue.publish(*"abcd").status, 201)
        full = queue.publish("e", "f")
        self.assertEqual((full.status, full.code), (409, "topic_full"))
        self.assertEqual(self.owner.get(queue.path).json["messages"], 4)
        self.assertEqual(queue.publish("e").status, 201)
        self.assertEqual(queue.settle("ack", queue.take(max=2)), ["ok", "ok"])  # what all groups are through with makes room
        self.assertEqual(queue.publish("f", "g").status, 201)
        self.assertEqual(queue.publish("h").code, "topic_full")

    def test_the_oldest_go(self):
        queue = self.queue(max_messages=3, overflow="drop_oldest")
        queue.publish("a", "b", "c")
        self.assertEqual(queue.take()[0]["body"], "a")
        self.assertEqual(queue.publish("d", "e").status, 201)
        self.assertEqual(bodies(queue.take(max=10)), ["c", "d", "e"])
        self.assertEqual(queue.group()["dropped"], 1)

    def test_permissions(self):
        reader = self.node.signup("reader%d" % self.number)
        writer = self.node.signup("writer%d" % self.number)
        queue = self.queue(publish=["writer%d" % self.number], consume=["reader%d" % self.number])
        self.assertEqual(self.owner.put(queue.path, {"publish": ["nobody at all"]}).status, 422)
        one = {"messages": [{"body": "x"}]}
        self.assertEqual(writer.post(queue.path + "/messages", one).status, 201)
        self.assertEqual(reader.post(queue.path + "/messages", one).status, 403)
        self.assertEqual(writer.post(queue.path + "/groups/g/receive", {}).status, 403)
        self.assertEqual(len(reader.post(queue.path + "/groups/g/receive", {}).json["messages"]), 1)
        self.assertEqual(reader.delete(queue.path).status, 403)
        self.assertEqual(reader.put(queue.path, {}).status, 403)
        self.assertEqual(len(reader.get("/v1/topics").json["items"]), 1)
        self.assertEqual(reader.get(queue.path + "/messages").status, 200)
        self.assertEqual(writer.get(queue.path + "/messages").status, 403)

    def test_bad_input(self):
        queue = self.queue()
        ack = queue.path + "/groups/g/ack"
        self.assertEqual(self.owner.post(ack, {"receipts": ["nonsense"]}).status, 422)
        self.assertEqual(self.owner.post(ack, {"receipts": []}).status, 422)
        self.assertEqual(self.owner.post(ack, {"receipts": ["1-1-1-1-1"]}).json["results"], ["gone"])
        self.assertEqual(queue.receive(max=0).status, 422)
        self.assertEqual(queue.receive(max=1001).status, 422)
        self.assertEqual(self.owner.put("/v1/topics/a%20b", {}).status, 422)
        self.assertEqual(self.owner.get(queue.path + "/messages?from=x").code, "invalid_cursor")
        self.assertEqual(self.owner.get(queue.path + "/groups/none").status, 404)


if __name__ == "__main__":
    main()
