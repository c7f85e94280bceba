"""GET /v1/events: events as they come, once and in order, on any node, whatever the client does."""
import contextlib
import http.client
import json
import os
import random
import re
import resource
import socket
import struct
import threading
import time

from belfry import Node, NodeTest, SLOW, main
from cluster import ClusterTest
from events import Ended, Stream

with contextlib.suppress(ValueError, OSError):
    resource.setrlimit(resource.RLIMIT_NOFILE, (10000, 10000))
CUTS = int(os.environ.get("CUTS", "100"))
SEND_S, BEAT_S, STREAMS_EACH = 30, 15, 50  # as in node/limits.h


def make(client, text="0"):
    """A reminder whose title says how often it was changed."""
    answer = client.post("/v1/reminders", {"title": text})
    assert answer.status == 201, answer.text
    return answer.json["id"]


def change(client, reminder, number, **more):
    answer = client.patch("/v1/reminders/" + reminder, {"title": str(number), **more})
    assert answer.status == 200, answer.text


def number(event):
    return int(event.data["title"]) if event.name == "reminder.changed" else 0


def next_change(stream, timeout=10):
    """The next change; what else happens to reminders is passed over."""
    while True:
        event = stream.next(timeout)
        if event.name == "stream.end" or number(event) > 0:
            return event


def reset(stream):
    """Closes by RST."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def metric(node, name):
    return float(re.search(r"^%s (\S+)$" % name, node.client().get("/metrics").text, re.M).group(1))


def resident(node):
    with open("/proc/%d/status" % node.process.pid) as f:
        return int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1))


def wait_until(what, condition, timeout=10):
    until = time.monotonic() + timeout * SLOW
    while not condition():
        if time.monotonic() > until:
            raise AssertionError("waited in vain: " + what)
        time.sleep(0.01)


class Streams(NodeTest):
    flags = ("--workers", "2", "--cors-origins", "https://app.example")

    def open(self, client, *args, **kw):
        stream = Stream(self.node.port, client.token, *args, **kw)
        self.addCleanup(stream.close)
        return stream

    def wait_closed(self):
        wait_until("all streams are closed", lambda: metric(self.node, "belfry_streams_open") == 0)

    def test_changes_come_as_they_happen(self):
        alice, bob = self.node.signup("alice"), self.node.signup("bob")
        mine, other = make(alice), make(bob)
        streams = [self.open(alice) for _ in range(4)]  # on both workers, as the kernel likes
        for stream in streams:
            self.assertEqual((stream.status, stream.headers["content-type"], stream.headers["cache-control"]), (200, "text/event-stream", "no-store"))
            self.assertEqual((stream.headers["transfer-encoding"], stream.headers["connection"], stream.headers["x-accel-buffering"]), ("chunked", "close", "no"))
            self.assertNotIn("content-length", stream.headers)
        self.assertEqual(metric(self.node, "belfry_streams_open"), 4)
        for i in range(1, 51):
            change(bob, other, 1000 + i)
            change(alice, mine, i, content="line\r\nbreak")
            for stream in streams:
                event = next_change(stream)
                self.assertEqual((number(event), event.data["id"], event.data["content"]), (i, mine, "line\r\nbreak"))
        for stream in streams:
            self.assertEqual([block.retry for block in stream.others], ["1000"])
            stream.close()
        self.wait_closed()
        wait_until("it is in the log", lambda: '"request_id":"%s"' % streams[0].headers["x-request-id"] in self.node.log_text())
        line = [json.loads(l) for l in self.node.log_text().splitlines() if streams[0].headers["x-request-id"] in l][0]
        self.assertEqual((line["route"], line["status"], line["ended"]), ("/v1/events", 200, "client"))
        self.assertGreater(line["bytes"], 50 * 100)
        self.assertGreater(line["duration_ms"], 10)

    def test_resume(self):
        carol = self.node.signup("carol")
        reminder = make(carol)
        for i in range(1, 21):
            change(carol, reminder, i)
        events = [next_change(s) for s in [self.open(carol, "?cursor=0")] for _ in range(20)]
        self.assertEqual([number(e) for e in events], list(range(1, 21)))
        cursors = [int(e.id) for e in events]
        self.assertEqual(cursors, sorted(set(cursors)))
        self.assertEqual(number(next_change(self.open(carol, "?cursor=" + events[4].id))), 6)
        self.assertEqual(number(next_change(self.open(carol, last_id=events[9].id))), 11)
        # What a browser does: the old query, and what it has seen since.
        self.assertEqual(number(next_change(self.open(carol, "?cursor=0", last_id=events[14].id))), 16)
        local = self.open(carol, "?consistency=local&cursor=" + events[17].id)
        self.assertEqual(local.headers["x-belfry-consistency"], "local")
        self.assertEqual([number(next_change(local)) for _ in range(2)], [19, 20])
        from_now = self.open(carol)
        change(carol, reminder, 21)
        self.assertEqual(number(next_change(from_now)), 21)

    def test_refused(self):
        dave = self.node.signup("dave")
        for cursor in ["x", "-1", "01", "1.5", "0x10", "+1", "%201", "9223372036854775808", "18446744073709551615", "99999999999999999999"]:
            self.expect(dave.get("/v1/events?cursor=" + cursor), 400, "invalid_cursor")
            self.expect(dave.get("/v1/events?cursor=0", headers={"Last-Event-ID": cursor}), 400, "invalid_cursor")
        self.expect(dave.get("/v1/events?cursor=" + "1" * 65), 422, "invalid_fields")
        self.expect(dave.get("/v1/events", headers={"Last-Event-ID": "%zz"}), 422, "invalid_fields")
        self.expect(dave.get("/v1/events?since=1"), 422, "invalid_fields")
        self.expect(dave.get("/v1/events?consistency=none"), 422, "invalid_fields")
        self.expect(self.node.client().get("/v1/events"), 401, "unauthorized")
        self.expect(dave.post("/v1/events"), 405, "method_not_allowed")
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(os.path.join(self.node.data, "belfry.sock"))
            s.sendall(b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertIn(b" 401 ", s.recv(65536).split(b"\r\n")[0])

    def test_head_options_and_other_origins(self):
        erin = self.node.signup("erin")
        head = self.expect(erin.request("HEAD", "/v1/events"), 200)
        self.assertEqual((head.headers["Content-Type"], head.headers["Content-Length"], head.text), ("text/event-stream", None, ""))
        self.expect(erin.get("/livez"), 200)
        self.expect(erin.request("HEAD", "/v1/events?cursor=x"), 400)
        stream = self.open(erin, headers=["Origin: https://app.example"])
        self.assertEqual(stream.headers["access-control-allow-origin"], "https://app.example")
        asked = erin.request("OPTIONS", "/v1/events", headers={"Origin": "https://app.example", "Access-Control-Request-Method": "GET"})
        self.assertIn("Last-Event-ID", asked.headers["Access-Control-Allow-Headers"])
        route = erin.get("/openapi.json").json["paths"]["/v1/events"]["get"]
        self.assertEqual(route["responses"]["200"]["content"], {"text/event-stream": {"schema": {"type": "string"}}})
        self.assertEqual([(p["name"], p["in"]) for p in route["parameters"]], [("cursor", "query"), ("Last-Event-ID", "header")])

    def test_http_1_0(self):
        frank = self.node.signup("frank")
        reminder = make(frank)
        for keep in [], ["Connection: keep-alive"]:
            stream = self.open(frank, version="1.0", headers=keep)
            self.assertNotIn("transfer-encoding", stream.headers)
            self.assertNotIn("content-length", stream.headers)
            self.assertEqual(stream.headers["connection"], "close")
            change(frank, reminder, 7)
            self.assertEqual(number(next_change(stream)), 7)
        head = self.open(frank, version="1.0", method="HEAD")
        with self.assertRaises((Ended, TimeoutError)):
            head.next(timeout=0.2)

    def test_a_revoked_token_ends_the_stream(self):
        self.node.signup("grace")
        for ways in range(2):
            token = self.node.client().post("/v1/auth/login", {"login": "grace", "password": "correct horse"}).json["access_token"]
            grace = self.node.client(token)
            other = self.node.client(self.node.client().post("/v1/auth/login", {"login": "grace", "password": "correct horse"}).json["access_token"])
            stream, kept = self.open(grace), self.open(other)
            self.expect(grace.post("/v1/auth/logout" + ("?everywhere=true" if ways else "")), 204)
            began = time.monotonic()
            self.assertEqual([(e.name, e.data) for e in stream.all()], [("stream.end", {"reason": "revoked"})])
            self.assertLess(time.monotonic() - began, 1.0 * SLOW)
            if ways:
                self.assertEqual([e.data for e in kept.all()], [{"reason": "revoked"}])
            else:
                reminder = make(other)
                change(other, reminder, 5)
                self.assertEqual(number(next_change(kept)), 5)

    def test_who_closes_or_half_closes_is_gone(self):
        heidi = self.node.signup("heidi")
        self.wait_closed()
        streams = [self.open(heidi) for _ in range(6)]
        self.assertEqual(metric(self.node, "belfry_streams_open"), 6)
        for stream in streams[:2]:
            stream.close()
        for stream in streams[2:4]:
            reset(stream)
        for stream in streams[4:]:
            stream.socket.shutdown(socket.SHUT_WR)
        self.wait_closed()

    def test_what_the_client_sends_is_ignored_up_to_a_bound(self):
        ivan = self.node.signup("ivan")
        reminder = make(ivan)
        stream = self.open(ivan, headers=["Content-Length: 0"])
        stream.socket.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        change(ivan, reminder, 3)
        self.assertEqual(number(next_change(stream)), 3)
        with contextlib.suppress(OSError):
            for _ in range(100):
                stream.socket.sendall(b"x" * 4096)
        with self.assertRaises((Ended, OSError)):
            while True:
                stream.next()
        self.wait_closed()

    def test_a_pipelined_request_is_answered_first(self):
        judy = self.node.signup("judy")
        reminder = make(judy)
        head = "Host: a\r\nAuthorization: Bearer %s\r\n\r\n" % judy.token
        with socket.create_connection(("127.0.0.1", self.node.port)) as s:
            s.settimeout(10 * SLOW)
            s.sendall(("GET /v1/users/me HTTP/1.1\r\n%sGET /v1/events HTTP/1.1\r\n%sGET /livez HTTP/1.1\r\n\r\n" % (head, head)).encode())
            got = b""
            while b"retry: 1000" not in got:
                got += s.recv(65536)
            change(judy, reminder, 9)
            while b"reminder.changed" not in got:
                got += s.recv(65536)
            self.assertLess(got.index(b"judy@example.org"), got.index(b"text/event-stream"))
            self.assertEqual(got.count(b"HTTP/1.1 200"), 2)

    def test_an_account_has_so_many(self):
        kim = self.node.signup("kim")
        streams = [self.open(kim) for _ in range(STREAMS_EACH)]
        refused = self.expect(kim.get("/v1/events"), 429, "too_many_streams")
        self.assertEqual(refused.headers["Retry-After"], "1")
        self.assertTrue(refused.json["retryable"])
        streams[0].close()
        wait_until("there is room again", lambda: metric(self.node, "belfry_streams_open") < STREAMS_EACH)
        self.open(kim)
        self.expect(kim.get("/v1/events"), 429)

    def test_2000_at_random(self):
        chance = random.Random(1)
        clients = [self.node.signup("many%d" % i) for i in range(2000 // STREAMS_EACH)]
        reminders = [make(c) for c in clients]
        self.wait_closed()
        sums = []
        for _ in range(3):
            streams = {i: [Stream(self.node.port, c.token) for _ in range(STREAMS_EACH)] for i, c in enumerate(clients)}
            self.assertEqual(metric(self.node, "belfry_streams_open"), 2000)
            for n in range(1, 1001):
                i = chance.randrange(len(clients))
                if chance.random() < 0.2:
                    change(clients[i], reminders[i], n)
                    for stream in streams[i]:
                        self.assertEqual(number(next_change(stream)), n)
                else:
                    gone = streams[i].pop(chance.randrange(len(streams[i])))
                    chance.choice([reset, Stream.close])(gone)
                    wait_until("it is gone", lambda: metric(self.node, "belfry_streams_open") < 2000)
                    streams[i].append(Stream(self.node.port, clients[i].token))
            for stream in (s for group in streams.values() for s in group):
                chance.choice([reset, Stream.close])(stream)
            self.wait_closed()
            sums.append(resident(self.node))
        if SLOW == 1:
            self.assertLess(sums[2] - sums[0], 4000, "kB, that 2,000 streams leave behind")


class Slow(NodeTest):
    flags = ("--workers", "2")

    def test_slow_clients_cost_little_and_are_closed_and_silent_ones_hear_a_beat(self):
        """One after the other would take a minute: half of it is waiting."""
        liam, mia = self.node.signup("liam"), self.node.signup("mia")
        reminder = make(liam)
        silent = Stream(self.node.port, mia.token)
        text = "x" * 20000
        change(liam, reminder, 1, content=text)
        before = resident(self.node)
        slow = [Stream(self.node.port, liam.token, "?cursor=0", receive_buffer=4096) for _ in range(40)]
        reader = Stream(self.node.port, liam.token, "?cursor=0")
        for i in range(2, 41):
            change(liam, reminder, i, content=text)
        events = [next_change(reader) for _ in range(40)]
        self.assertEqual([number(e) for e in events], list(range(1, 41)))
        grown = resident(self.node) - before
        if SLOW == 1:  # sanitizers keep what is freed
            self.assertLess(grown, 40 * 250, "kB: 800 were written for each")
        self.assertEqual(metric(self.node, "belfry_streams_open"), 42)
        wait_until("they are closed", lambda: metric(self.node, "belfry_streams_open") == 2, SEND_S + 10)
        wait_until("the log says why", lambda: self.node.log_text().count('"ended":"too_slow"') == 40)
        # It took what lay in the buffers, and goes on from there.
        seen = []
        with contextlib.suppress(Ended, OSError):
            while True:
                seen.append(slow[0].next())
        last = [e.id for e in seen if e.id][-1]
        numbers = [number(e) for e in seen if e.name == "reminder.changed" and number(e) > 0]
        self.assertLess(len(numbers), 40)
        again = Stream(self.node.port, liam.token, last_id=last)
        numbers += [number(next_change(again)) for _ in range(40 - len(numbers))]
        self.assertEqual(numbers, list(range(1, 41)))
        # And the one to whom nothing happened:
        with contextlib.suppress(TimeoutError):
            silent.next(timeout=0.1)
        self.assertGreaterEqual(len([b for b in silent.others if b.beat]), SEND_S // BEAT_S)

    def test_a_client_that_reads_now_and_then_misses_nothing(self):
        noah = self.node.signup("noah")
        reminder = make(noah)
        stream = Stream(self.node.port, noah.token, receive_buffer=4096)
        got = []
        for i in range(1, 61):
            change(noah, reminder, i, content="y" * 15000)
            if i % 20 == 0:
                got += [number(next_change(stream)) for _ in range(15)]
        got += [number(next_change(stream)) for _ in range(15)]
        self.assertEqual(got, list(range(1, 61)))


class Stops(NodeTest):
    def test_a_stop_ends_streams_and_does_not_wait_for_them(self):
        node = Node("--workers", "2").start()
        self.addCleanup(node.close)
        olga = node.signup("olga")
        reminder = make(olga)
        good = [Stream(node.port, olga.token) for _ in range(5)]
        stuck = Stream(node.port, olga.token, receive_buffer=4096)
        for i in range(1, 41):
            change(olga, reminder, i, content="z" * 20000)
        for stream in good:
            self.assertEqual([number(next_change(stream)) for _ in range(40)], list(range(1, 41)))
        began = time.monotonic()
        node.stop()
        took = time.monotonic() - began
        for stream in good:
            self.assertEqual([(e.name, e.data) for e in stream.all()], [("stream.end", {"reason": "shutting_down"})])
            self.assertTrue(stream.ended, "by its last chunk")
        self.assertLess(took, 3 * SLOW)
        stuck.close()


class Three(ClusterTest):
    def test_events_come_on_every_node(self):
        cluster = self.cluster(3, "--workers", "2")
        paul = cluster.signup(0, "paul")
        reminder = make(paul)
        streams = [Stream(node.port, paul.token) for node in cluster.nodes]
        for i in range(1, 31):
            change(cluster.at(i % 3, paul), reminder, i)
            for stream in streams:
                self.assertEqual(number(next_change(stream)), i)
        began = time.monotonic()
        self.expect(cluster.at(1, paul).post("/v1/auth/logout"), 204)
        for stream in streams:
            self.assertEqual([e.data for e in stream.all()], [{"reason": "revoked"}])
        self.assertLess(time.monotonic() - began, 1.5 * SLOW)

    def test_a_node_without_the_others_is_silent_and_goes_on_with_them(self):
        cluster = self.cluster(3)
        quinn = cluster.signup(0, "quinn")
        reminder = make(quinn)
        stream = Stream(cluster.nodes[0].port, quinn.token)
        change(quinn, reminder, 1)
        self.assertEqual(number(next_change(stream)), 1)
        for i in 1, 2:
            cluster.kill(i)
        with self.assertRaises(TimeoutError):
            stream.next(timeout=2)
        cluster.start()
        change(cluster.at(1, quinn), reminder, 2)
        self.assertEqual(number(next_change(stream)), 2)

    def test_cut_off_and_resumed_on_any_node_every_event_comes_once(self):
        seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
        print("SEED=%d CUTS=%d" % (seed, CUTS))
        chance = random.Random(seed)
        cluster = self.cluster(3, "--workers", "2")
        ruth = cluster.signup(0, "ruth")
        reminder = make(ruth)
        count = CUTS * 10
        writer = threading.Thread(target=self.write, args=(cluster, ruth, reminder, count))
        first = Stream(cluster.nodes[0].port, ruth.token)
        writer.start()
        seen, last, stream, cuts = [], None, first, 0
        while len(seen) < count:
            for _ in range(chance.randrange(1, 20)):
                if len(seen) < count:
                    event = next_change(stream, 20)
                    self.assertNotEqual(event.name, "stream.end", event.data)
                    seen.append(number(event))
                    last = event.id
            if cuts < CUTS:
                chance.choice([reset, Stream.close])(stream)
                port = chance.choice(cluster.nodes).port
                stream = Stream(port, ruth.token, last_id=last) if chance.random() < 0.5 else Stream(port, ruth.token, "?cursor=" + last)
                self.assertEqual(stream.status, 200, stream.head)
                cuts += 1
        writer.join()
        self.assertEqual(seen, list(range(1, count + 1)))
        with self.assertRaises(TimeoutError):
            next_change(stream, 0.3)

    def test_nodes_killed_one_by_one_every_event_comes_in_order(self):
        """A change whose answer was lost with the node is made again: it may come twice, as two events."""
        cluster = self.cluster(3, "--workers", "2")
        sara = cluster.signup(0, "sara")
        reminder = make(sara)
        stream = Stream(cluster.nodes[0].port, sara.token)
        done, seen, ids, at = 0, [], [], 0
        for victim in 0, 1, 2, 0:
            for _ in range(10):
                done += 1
                self.change_somewhere(cluster, sara, reminder, done, victim)
            cluster.kill(victim)
            for _ in range(10):
                done += 1
                self.change_somewhere(cluster, sara, reminder, done, victim)
            while not seen or seen[-1] < done:
                try:
                    event = next_change(stream, 20)
                    seen.append(number(event))
                    ids.append(int(event.id))
                except (Ended, OSError):
                    at = (victim + 1) % 3
                    stream = self.resume(cluster, at, sara, str(ids[-1]) if ids else "0")
            cluster.start()
            cluster.wait_led()
        self.assertEqual(sorted(set(seen)), list(range(1, done + 1)))
        self.assertEqual(seen, sorted(seen))
        self.assertEqual(ids, sorted(set(ids)))

    def resume(self, cluster, i, client, last):
        """A node without a leader for the moment says 503."""
        def ask():
            with contextlib.suppress(OSError, Ended):
                stream = Stream(cluster.nodes[i].port, client.token, last_id=last)
                return stream.status == 200 and stream
        return cluster.wait("the stream is taken up", ask)

    def change_somewhere(self, cluster, client, reminder, n, but):
        def ask():
            with contextlib.suppress(OSError, http.client.HTTPException):
                return cluster.at((but + 1) % 3, client).patch("/v1/reminders/" + reminder, {"title": str(n)}).status == 200
        cluster.wait("a change is made", ask)

    def write(self, cluster, client, reminder, count):
        at = [cluster.at(i, client) for i in range(3)]
        for i in range(1, count + 1):
            change(at[i % 3], reminder, i)
            time.sleep(0.005)


if __name__ == "__main__":
    main()
