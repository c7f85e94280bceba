"""The total check of the queue: publishers and consumers that write down all they do, and what must be true of it.

An outcome is known when an answer came that says it: 2xx, 4xx. Whatever else (no answer, 5xx) may have happened or not.
Times are this process's: a request was carried out, if at all, between `began` and `ended` when its answer came."""
import base64
import calendar
import collections
import http.client
import json
import random
import socket
import threading
import time

from belfry import SLOW

SETTLE_TRIES = 30
SILENT_S = 2  # then a stream is opened anew, elsewhere
CLOCKS_S = 0.02  # what two readings of one machine's clocks may differ by


class Answer:
    def __init__(self, status, content, began):
        self.status, self.content = status, content
        self.began, self.ended, self.wall = began, time.monotonic(), time.time()
        self.known = 200 <= status < 500
        self.good = 200 <= status < 300
        self.sent = status != -1


class Entry:
    """Asks one node, until that fails: then the next one."""

    def __init__(self, load, at):
        self.load, self.at, self.connection = load, at, None

    def move(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        self.at += 1

    def connect(self, timeout):
        if self.connection is None:
            addresses = self.load.addresses
            self.connection = http.client.HTTPConnection(*addresses[self.at % len(addresses)], timeout=1 * SLOW)
            self.connection.connect()
        self.connection.sock.settimeout(timeout)

    def ask(self, method, path, body=None, headers=None, timeout=4):
        """Status -1: it was not even sent. 0: no answer came."""
        began, status = time.monotonic(), -1
        headers = {"Authorization": "Bearer " + self.load.token, "Content-Type": "application/json", **(headers or {})}
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        try:
            self.connect(timeout * SLOW)
            status = 0
            self.connection.request(method, path, raw, headers)
            response = self.connection.getresponse()
            text = response.read()
            answer = Answer(response.status, json.loads(text) if text else None, began)
            if response.will_close or answer.status >= 500:
                self.move()
        except (OSError, http.client.HTTPException):
            self.move()
            answer = Answer(status, None, began)
        if answer.known and not answer.good:
            self.load.refused.append((path, answer.status, answer.content))
        return answer

    def ask_until_good(self, method, path, body=None, seconds=60):
        until = time.monotonic() + seconds * SLOW
        while True:
            answer = self.ask(method, path, body)
            if answer.good:
                return answer
            if answer.known or time.monotonic() > until:
                raise AssertionError("%s %s: %d %s" % (method, path, answer.status, answer.content))
            time.sleep(0.1)


class Topic:
    """Settings, who publishes how, and how consumers behave. ack, nack, late, extend: shares; what is left runs out."""

    def __init__(self, name, groups=("a", "b"), publishers=2, keys=0, priorities=(None,), delayed=0.0, batch=20, pace=0.05, streams=0,
                 ack=0.75, nack=0.1, late=0.05, extend=0.05, **settings):
        self.name, self.groups, self.settings = name, groups, {"visibility_ms": 1500, **settings}
        self.publishers, self.keys, self.priorities, self.delayed = publishers, keys, priorities, delayed
        self.batch, self.pace, self.streams = batch, pace, streams
        self.shares = [("ack", ack), ("nack", nack), ("late", late), ("extend", extend), ("forget", 1 - ack - nack - late - extend)]
        self.path = "/v1/topics/" + name
        self.visibility = self.settings["visibility_ms"] / 1000
        self.max_attempts = self.settings.setdefault("max_attempts", 0)
        self.wide = self.settings.get("partitions", 1) > 1


Publish = collections.namedtuple("Publish", "topic publisher seq batch message outcome ids began ended tries")
Delivery = collections.namedtuple("Delivery", "id attempt body key priority published_at began ended wall place")
Settle = collections.namedtuple("Settle", "verb id attempt began ended result lasts")


class Load:
    def __init__(self, addresses, token, topics, seed, consumers=2):
        self.addresses, self.token, self.topics, self.seed = addresses, token, topics, seed
        self.refused, self.broken, self.streamed = [], [], 0
        self.published = []  # Publish
        self.deliveries = collections.defaultdict(list)  # (topic, group) -> Delivery
        self.settles = collections.defaultdict(list)
        self.lost = collections.Counter()  # (topic, group) -> messages that receives of unknown outcome may have got
        self.publishing = self.consuming = self.rough = True
        self.publishers = [threading.Thread(target=self.guard, args=(self.publish, t, n)) for t in topics for n in range(t.publishers)]
        self.consumers = [threading.Thread(target=self.guard, args=(self.consume, t, g, n))
                          for t in topics for g in t.groups for n in range(consumers)]
        self.consumers += [threading.Thread(target=self.guard, args=(self.subscribe, t, g, n))
                           for t in topics for g in t.groups for n in range(t.streams)]

    def guard(self, what, *args):
        try:
            what(*args)
        except Exception as e:
            self.broken.append("%s%r: %r" % (what.__name__, args, e))

    def create(self):
        for topic in self.topics:
            Entry(self, 0).ask_until_good("PUT", topic.path, topic.settings)

    def start(self):
        for thread in self.consumers + self.publishers:
            thread.start()

    def stop_publishing(self):
        self.publishing = False
        for thread in self.publishers:
            thread.join()

    def stop(self):
        self.publishing = self.consuming = False
        for thread in self.publishers + self.consumers:
            if thread.ident is not None:
                thread.join()

    # ---- publishing ----

    def message(self, topic, publisher, seq, chance):
        message = {"body": "%s.%d.%d %s" % (topic.name, publisher, seq, "x" * chance.randrange(200))}
        if topic.keys:
            message["key"] = "k%d.%d" % (publisher, chance.randrange(topic.keys))
        priority = chance.choice(topic.priorities)
        if priority is not None:
            message["priority"] = priority
        if chance.random() < topic.delayed:
            message["delay_ms"] = chance.randrange(1, 1500)
        if publisher % 2 == 0:
            message["dedup_id"] = "%d.%d" % (publisher, seq)
        return message

    def publish(self, topic, publisher):
        chance, entry, seq = random.Random("%s %s %s" % (self.seed, topic.name, publisher)), Entry(self, publisher), 0
        while self.publishing:
            count = chance.choice((1, 1, chance.randrange(2, topic.batch + 1)))
            messages = [self.message(topic, publisher, seq + i, chance) for i in range(count)]
            self.send(topic, publisher, seq, messages, entry, raw=count == 1 and chance.random() < 0.5)
            if "dedup_id" in messages[0] and chance.random() < 0.1:
                entry.move()  # as if the answer had been lost
                self.send(topic, publisher, seq, messages, entry)
            seq += count
            time.sleep(chance.uniform(0, 2 * topic.pace) * SLOW)

    def send(self, topic, publisher, seq, messages, entry, raw=False):
        """With a dedup_id until it is known to be there; without one until it was sent."""
        path, body, headers = topic.path + "/messages", {"messages": messages}, None
        if raw:
            path, body = path + "/raw", messages[0]["body"].encode()
            headers = {"Belfry-" + k.replace("_", "-").replace("ms", "Ms"): str(v) for k, v in messages[0].items() if k != "body"}
            headers["Content-Type"] = "text/plain"
        began, until, tries = time.monotonic(), time.monotonic() + 60 * SLOW, 0
        while True:
            answer = entry.ask("POST", path, body, headers)
            tries += answer.sent
            if answer.known or (answer.sent and "dedup_id" not in messages[0]) or time.monotonic() > until:
                break
            time.sleep(0.05)
        outcome = "there" if answer.good else "refused" if answer.known and tries == 1 else "maybe"
        ids = answer.content["ids"] if answer.good else [None] * len(messages)
        if len(ids) != len(messages):
            self.broken.append("%d ids of %d messages" % (len(ids), len(messages)))
        for i, message in enumerate(messages):
            self.published.append(Publish(topic, publisher, seq + i, (publisher, seq), message, outcome, ids[i], began, answer.ended, tries))

    # ---- consuming ----

    def consume(self, topic, group, number):
        chance, entry = random.Random("%s %s %s %s" % (self.seed, topic.name, group, number)), Entry(self, number + len(group))
        path = "%s/groups/%s/" % (topic.path, group)
        while self.consuming:
            most = chance.choice((1, 5, 20, 100))
            answer = entry.ask("POST", path + "receive", {"max": most, "wait_ms": 500})
            messages = answer.content["messages"] if answer.good else []
            if not answer.good and answer.sent or not messages and answer.ended - answer.began > topic.visibility:
                self.lost[topic.name, group] += most
            for place, m in enumerate(messages):
                self.take(topic, group, m, answer, (id(answer), place))
            if messages:
                self.settle(topic, group, path, messages, entry, chance)
            if not answer.sent:
                time.sleep(0.05)

    def take(self, topic, group, m, answer, place):
        self.deliveries[topic.name, group].append(Delivery(m["id"], m["attempt"], text_of(m), m.get("key"), m.get("priority"), m["published_at"],
                                                           answer.began, answer.ended, answer.wall, place))

    def subscribe(self, topic, group, number):
        """A consumer by a stream: its messages were delivered some time after it was opened."""
        chance, entry = random.Random("%s %s %s stream %s" % (self.seed, topic.name, group, number)), Entry(self, number + 1)
        path, at = "%s/groups/%s/" % (topic.path, group), number
        while self.consuming:
            at, credit, began = at + 1, chance.choice((1, 10, 50)), time.monotonic()
            try:
                with socket.create_connection(self.addresses[at % len(self.addresses)], timeout=SILENT_S * SLOW) as s:
                    s.sendall(("GET %sstream?credit=%d HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n" % (path, credit, self.token)).encode())
                    self.read_stream(topic, group, path, s.makefile("rb"), began, entry, chance)
            except OSError:
                time.sleep(0.05)
            self.lost[topic.name, group] += credit

    def read_stream(self, topic, group, path, lines, began, entry, chance):
        status = lines.readline().split()
        if status[1:2] != [b"200"] and status[1:2] < [b"500"] and status:
            self.refused.append((path + "stream", status))
        for line in lines:
            if line.startswith(b"data: ") and b'"receipt"' in line:
                m = json.loads(line[6:])
                self.streamed += 1
                self.take(topic, group, m, Answer(200, None, began), (m["receipt"], 0))
                self.settle(topic, group, path, [m], entry, chance)
            if not self.consuming or chance.random() < 0.001:
                return

    def settle(self, topic, group, path, messages, entry, chance):
        verb = chance.choices(*zip(*topic.shares))[0] if self.rough else "ack"
        some = chance.sample(messages, chance.randrange(1, len(messages) + 1)) if self.rough and chance.random() < 0.1 else messages
        if verb == "late":
            time.sleep(topic.visibility + chance.uniform(0, 0.5) * SLOW)
        elif verb == "extend":
            time.sleep(chance.uniform(0, 0.7) * topic.visibility)
            self.say(topic, group, path, "extend", some, entry, visibility_ms=chance.choice((None, 3000)))
            time.sleep(chance.uniform(0, 0.7) * topic.visibility)
        if verb == "nack":
            self.say(topic, group, path, "nack", some, entry, delay_ms=chance.choice((0, 0, 300)))
        elif verb != "forget":
            self.say(topic, group, path, "ack", some, entry)

    def say(self, topic, group, path, verb, messages, entry, **ask):
        """Until an answer comes. After an answer that was lost, "gone" may mean that it had been done."""
        ask = {k: v for k, v in ask.items() if v is not None}
        lasts = ask.get("visibility_ms" if verb == "extend" else "delay_ms", 1000 * topic.visibility) / 1000
        began, tries = time.monotonic(), 0
        for _ in range(SETTLE_TRIES):
            answer = entry.ask("POST", path + verb, dict(ask, receipts=[m["receipt"] for m in messages]))
            tries += answer.sent
            if answer.known:
                break
            time.sleep(0.05)
        results = answer.content["results"] if answer.good else [None] * len(messages)
        if len(results) != len(messages):
            self.broken.append("%d results of %d receipts" % (len(results), len(messages)))
        if tries > 1:
            results = [None if r == "gone" else r for r in results]
        for m, result in zip(messages, results):
            self.settles[topic.name, group].append(Settle(verb, m["id"], m["attempt"], began, answer.ended, result, lasts))

    # ---- the end ----

    def group(self, topic, group):
        return Entry(self, 0).ask_until_good("GET", "%s/groups/%s" % (topic.path, group)).content

    def is_drained(self):
        for topic in self.topics:
            if Entry(self, 0).ask_until_good("GET", topic.path).content["delayed"]:
                return False
            for group in topic.groups:
                numbers = self.group(topic, group)
                if numbers["depth"] or numbers["in_flight"] or numbers["waiting"]:
                    return False
        return True

    def drain(self, seconds=90):
        """Everything is acknowledged or dead; nobody publishes or consumes any more."""
        self.stop_publishing()
        self.rough = False
        until = time.monotonic() + seconds * SLOW
        while not self.is_drained():
            if time.monotonic() > until:
                raise AssertionError("not drained: %r %r" % (self.broken[:3], [(t.name, self.group(t, g)) for t in self.topics for g in t.groups]))
            time.sleep(0.3)
        self.stop()

    def pages(self, path, limit=10000):
        items, cursor = [], None
        for _ in range(limit):
            page = Entry(self, 0).ask_until_good("GET", path + "?limit=200" + ("&%s=%s" % cursor if cursor else "")).content
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            cursor = ("from" if path.endswith("/messages") else "cursor"), page["next_cursor"]
        raise AssertionError("a list without an end: " + path)


def text_of(message):
    return base64.b64decode(message["body"]).decode() if message.get("encoding") == "base64" else message["body"]


def number_of(id_):
    partition, number = id_.split("-")
    return int(partition), int(number)


class Judge:
    """Goes through what a drained load has written down. wrong: what must not be."""

    def __init__(self, load):
        self.load, self.wrong, self.counts = load, [], collections.Counter()
        for line in load.broken:
            self.say("a thread ended", line)
        for line in load.refused:
            self.say("refused", line)
        for topic in load.topics:
            self.judge_topic(topic)
        self.counts["by streams"] = load.streamed

    def say(self, what, *about):
        self.counts["wrong: " + what] += 1
        if self.counts["wrong: " + what] <= 5:
            self.wrong.append("%s: %s" % (what, " ".join(map(str, about))))

    def judge_topic(self, topic):
        published, self.by_body = self.once([p for p in self.load.published if p.topic is topic])
        numbers = Entry(self.load, 0).ask_until_good("GET", topic.path).content
        for p in published:
            self.counts["publish " + p.outcome] += 1
            self.counts["published again"] += max(0, p.tries - 1)
        self.check_order_of_ids(topic, published)
        there = {}  # body -> id, over all groups
        for group in topic.groups:
            self.judge_group(topic, group, published, there, numbers)
        if topic.settings.get("retain_acked", True):
            self.check_kept(topic, published, there)
        self.check_batches(topic, published, there)
        if numbers["published"] != len(there) or numbers["dropped"]:
            self.say("the topic's numbers", topic.name, numbers, len(there))

    def once(self, published):
        """What was sent again with its dedup_id has the same id."""
        by_body = {}
        for p in published:
            first = by_body.setdefault(p.message["body"], p)
            if first is not p:
                self.counts["published again, acknowledged"] += 1
                if first.ids is None and p.outcome == "there":
                    by_body[p.message["body"]] = p
                elif p.ids is not None and p.ids != first.ids:
                    self.say("sent twice with its dedup_id, twice there", first, p)
        return list(by_body.values()), by_body

    def check_order_of_ids(self, topic, published):
        """One publisher's messages, each sent after the one before was answered, have rising numbers in a partition."""
        last, ids = {}, set()
        for p in sorted(published, key=lambda p: (p.publisher, p.seq)):
            if p.ids is None:
                continue
            partition, number = number_of(p.ids)
            if p.ids in ids or last.get((p.publisher, partition), 0) >= number:
                self.say("ids do not rise", topic.name, p)
            last[p.publisher, partition] = number
            ids.add(p.ids)

    def check_kept(self, topic, published, there):
        kept = self.load.pages(topic.path + "/messages")
        seen = collections.Counter()
        for m in kept:
            body = text_of(m)
            seen[body] += 1
            if there.get(body) != m["id"]:
                self.say("kept, and no group got it", topic.name, m, there.get(body))
        for body, count in seen.items():
            if count > 1:
                self.say("twice in the topic", topic.name, body, count, self.by_body.get(body))
        for body in set(there) - set(seen):
            self.say("not kept", topic.name, body)

    def check_batches(self, topic, published, there):
        """All or none, where one partition takes them."""
        batches = collections.defaultdict(list)
        for p in published:
            batches[p.batch].append(p.message["body"] in there)
        for batch, found in batches.items():
            if not topic.wide and len(set(found)) > 1:
                self.say("half a batch", topic.name, batch, found)

    # ---- a group ----

    def judge_group(self, topic, group, published, there, topic_numbers):
        key = topic.name, group
        numbers = self.load.group(topic, group)
        dead = {m["id"]: m for m in self.load.pages("%s/groups/%s/dead-letters" % (topic.path, group))} if numbers["dead_letters"] else {}
        deliveries, settles = collections.defaultdict(list), collections.defaultdict(list)
        for d in self.load.deliveries[key]:
            deliveries[d.id].append(d)
        for s in self.load.settles[key]:
            settles[s.id].append(s)
        ids, total, again = {}, 0, 0
        for id_, all_ in deliveries.items():
            all_.sort(key=lambda d: d.attempt)
            p = self.by_body.get(all_[0].body)
            if p is None or p.message.get("key") != all_[0].key or p.message.get("priority") != all_[0].priority or p.outcome == "refused":
                self.say("never published", key, all_[0], p)
                continue
            if (p.ids or id_) != id_ or ids.setdefault(p.message["body"], id_) != id_ or there.setdefault(p.message["body"], id_) != id_:
                self.say("twice, under another id", key, p, id_)
            last = self.check_message(topic, key, p, all_, settles[id_], dead.get(id_))
            total += last
            again += last - 1
        for id_, m in dead.items():
            if id_ not in deliveries:
                p = self.by_body.get(text_of(m))
                if p is None:
                    self.say("dead, and never published", key, m)
                    continue
                ids[p.message["body"]] = there[p.message["body"]] = id_
                total, again = total + m["attempts"], again + m["attempts"] - 1
        for p in published:
            if p.outcome == "there" and p.message["body"] not in ids:
                self.say("lost", key, p)
        unseen = total - sum(map(len, deliveries.values()))
        if not topic.streams and unseen > self.load.lost[key]:  # a stream that is read slowly holds deliveries whose lease is over
            self.say("more deliveries that nobody saw than answers were lost", key, unseen, self.load.lost[key])
        self.check_keys(topic, key, ids, deliveries, settles, dead)
        self.check_answers(topic, key)
        self.check_numbers(key, numbers, ids, dead, total, again)

    def check_message(self, topic, key, p, deliveries, settles, dead):
        """All that happened to one message in one group; gives its last attempt."""
        last = dead["attempts"] if dead else deliveries[-1].attempt
        acks = [s for s in settles if s.verb == "ack"]
        confirmed = [s for s in acks if s.result == "ok"]
        self.counts["delivered again"] += len(deliveries) - 1
        if len({d.attempt for d in deliveries}) != len(deliveries) or deliveries[0].attempt < 1:
            self.say("an attempt twice", key, deliveries)
        if topic.max_attempts and last > topic.max_attempts:
            self.say("too many attempts", key, deliveries)
        if len(confirmed) > 1 or any(s.attempt != last for s in confirmed):
            self.say("delivered after its acknowledgement", key, deliveries, acks)
        if any(d.began > s.ended for s in confirmed for d in deliveries):
            self.say("received after its acknowledgement", key, deliveries, confirmed)
        if confirmed and dead:
            self.say("acknowledged and dead", key, dead, confirmed)
        if not confirmed and not dead and not any(s.result is None and s.attempt == last for s in acks):
            self.say("lost in the group", key, p, deliveries, settles)
        self.counts["ended by an unknown ack"] += not confirmed and not dead
        self.counts["acked late, and in time for nobody else"] += any(
            s.result == "ok" and s.began > d.ended + topic.visibility for s in acks for d in deliveries if s.attempt == d.attempt)
        if dead and (dead["attempts"] != topic.max_attempts or dead["reason"] != "attempts" or text_of(dead) != deliveries[0].body):
            self.say("a dead letter", key, dead, p)
        self.check_delay(key, p, deliveries[0])
        for before, after in zip(deliveries, deliveries[1:]):
            if after.ended < before.began:
                self.say("attempts fall", key, before, after)
            self.check_reason(topic, key, before, after, settles)
        return last

    def check_delay(self, key, p, first):
        if first.wall < self.due_s(p, first) - 0.002:
            self.say("early", key, p, first, self.due_s(p, first) - first.wall)

    def due_s(self, p, delivery):
        if "deliver_at" in p.message:
            return millis(p.message["deliver_at"]) / 1000
        return (millis(delivery.published_at) + p.message.get("delay_ms", 0)) / 1000

    def check_reason(self, topic, key, before, after, settles):
        """Why it came again: a nack, or the lease's end."""
        mine = [s for s in settles if s.attempt == before.attempt]
        nacks = [s for s in mine if s.verb == "nack" and s.result != "gone"]
        if any(s.result == "ok" and after.ended < s.began + s.lasts - CLOCKS_S for s in nacks):
            self.say("again too early after a nack", key, before, after, mine)
        if any(s.began < after.ended for s in nacks):
            self.counts["again after a nack"] += 1
            return
        extended = [s.began + s.lasts for s in mine if s.verb == "extend" and s.result == "ok"]
        ends = max([before.began + topic.visibility] + extended)
        if after.ended < ends - CLOCKS_S:
            self.say("again without a reason", key, before, after, mine)
        elif after.attempt == before.attempt + 1:
            self.counts["again after the lease"] += 1
        else:
            self.counts["attempts nobody saw"] += after.attempt - before.attempt - 1

    # ---- keys ----

    def end_of(self, topic, deliveries, settles, dead):
        """The earliest moment at which the group can have been through with a message; None: nobody can know."""
        last = dead["attempts"] if dead else deliveries[-1].attempt if deliveries else None
        mine = [s for s in settles if s.attempt == last]
        confirmed = [s.began for s in mine if s.verb == "ack" and s.result == "ok"]
        if confirmed:
            return confirmed[0]
        ends = [s.began for s in mine if s.verb == "ack" and s.result is None]
        if dead:
            seen = [d for d in deliveries if d.attempt == last]
            if not seen:
                return None
            ends = [s.began for s in mine if s.verb == "nack"] + [seen[0].began + topic.visibility - CLOCKS_S]
        return min(ends) if ends else None

    def check_keys(self, topic, key, ids, deliveries, settles, dead):
        chains = collections.defaultdict(list)
        for body, id_ in ids.items():
            name = self.by_body[body].message.get("key")
            if name is not None:
                chains[name].append(id_)
        for name, chain in chains.items():
            chain.sort(key=number_of)
            if len({number_of(id_)[0] for id_ in chain}) > 1:
                self.say("a key in two partitions", key, name)
            for before, after in zip(chain, chain[1:]):
                self.counts["pairs of a key"] += 1
                end = self.end_of(topic, deliveries[before], settles[before], dead.get(before))
                first = min((d.ended for d in deliveries[after]), default=None)
                if first is None or end is None:
                    continue
                if first < end:
                    self.say("a key's next before the end", key, name, before, after, end - first, deliveries[before], deliveries[after])
                if any(d.began > first for d in deliveries[before]):
                    self.say("a key's message after its next", key, name, before, after)

    def check_answers(self, topic, key):
        """What one answer holds is in order: priority, then number; what was delayed got its place later."""
        answers = collections.defaultdict(list)
        for d in self.load.deliveries[key]:
            p = self.by_body.get(d.body)
            if p is not None and "delay_ms" not in p.message and "deliver_at" not in p.message:
                answers[d.place[0], d.began].append((d.place[1], 1024 if d.priority is None else d.priority, number_of(d.id)))
        for all_ in answers.values():
            order = [a[1:] for a in sorted(all_)]
            if order != sorted(order):
                self.say("an answer out of order", key, order)

    def check_numbers(self, key, numbers, ids, dead, total, again):
        acked = len(ids) - len(dead)
        says = {"depth": 0, "in_flight": 0, "waiting": 0, "dead_letters": len(dead), "died": len(dead), "acked": acked,
                "delivered": total, "redelivered": again, "expired": 0, "dropped": 0}
        wrong = {k: (numbers[k], v) for k, v in says.items() if numbers[k] != v}
        # Attempts whose answer was lost, before an ack that was lost too: seen in the numbers alone.
        if wrong and not (set(wrong) <= {"delivered", "redelivered"} and
                          all(0 < a - b <= self.load.lost[key] for a, b in wrong.values())):
            self.say("the group's numbers (said, seen)", key, wrong)
        self.counts["acked"] += acked
        self.counts["dead"] += len(dead)
        self.counts["receives of unknown outcome, messages at most"] += self.load.lost[key]

    def report(self):
        return ", ".join("%s %d" % item for item in sorted(self.counts.items()) if item[1])


def millis(text):
    """RFC 3339, UTC, with milliseconds."""
    whole, _, part = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) * 1000 + int(part or 0)
