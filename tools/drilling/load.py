"""Load for a drill: many clients in one thread, each with an account of its own, one request at a time, and a little
time to think between two. Cheap on purpose: it shares the machine's cores with the nodes.

A client is a generator: it yields seconds to think, or a Request; it gets back an Answer. What it wrote and what was
acknowledged it keeps, for the check at the end (check.py).
"""
import array
import collections
import errno
import heapq
import json
import random
import select
import socket
import time

TOKEN_S = 600  # access tokens live 15 minutes
TICK_S = 0.02
HEAD_END = b"\r\n\r\n"

Request = collections.namedtuple("Request", "node data kind timeout")
Answer = collections.namedtuple("Answer", "status code body")
GOOD = {"signup": 201, "login": 200, "create": 201, "change": 200, "read": 200, "local": 200}


def request(method, path, token=None, body=None):
    head = "%s %s HTTP/1.1\r\nHost: belfry\r\n" % (method, path)
    if token:
        head += "Authorization: Bearer %s\r\n" % token
    if body is None:
        return (head + "\r\n").encode()
    body = json.dumps(body).encode()
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    return (head + "Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(body))).encode() + body


class Round:
    """What clients met from one fault to the next."""

    def __init__(self):
        self.began = time.monotonic()
        self.answers, self.failed = 0, 0
        self.longest = 0.0  # the longest single request
        self.pause = 0.0  # the longest time a client waited for a good answer, repeated attempts included
        self.silence = 0.0  # the longest time in which no client at all had a good answer
        self.last_good = None


class Wire:
    """One connection of a client to a node."""
    __slots__ = ("sock", "node", "client", "out", "inp")

    def __init__(self, node, client):
        self.node, self.client = node, client
        self.out, self.inp = b"", b""
        self.sock = socket.socket(socket.AF_INET6 if ":" in node.host else socket.AF_INET)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Client:
    def __init__(self, load, number, script):
        self.load, self.number = load, number
        self.name = "%s-%d" % (load.run_name, number)
        self.probe = script is probe
        self.script = script(load, self)
        self.wires = {}
        self.request, self.asked_at, self.wire = None, 0.0, None
        self.touched = False  # the node it waits for was acted on meanwhile
        self.waits_since = None  # for a good answer
        self.shunned = {}  # node -> until when
        self.token, self.token_until = None, 0.0
        self.serial = 0  # titles are w0, w1, ...
        self.acked = {}  # serial -> the newest version of the content that was acknowledged
        self.account = False

    def home(self, other=0):
        """The node to speak to; with other=1 a second one, if there is one."""
        nodes = [n for n in self.load.nodes if n not in self.load.avoid]
        well = [n for n in nodes if self.shunned.get(n, 0.0) < time.monotonic()] or nodes
        preferred = self.load.nodes[(self.number + other) % len(self.load.nodes)]
        if preferred in well and not (other and preferred is self.home()):
            return preferred
        if other:
            well = [n for n in well if n is not self.home()] or well
        return well[self.number // len(self.load.nodes) % len(well)]


class Failed(Exception):
    """The drill cannot go on."""


class Load:
    def __init__(self, nodes, connections, think_s, timeout_s):
        self.nodes, self.think_s, self.timeout_s = nodes, think_s, timeout_s
        self.run_name = "drill-%x" % random.randrange(1 << 40)
        self.avoid = frozenset()  # nodes that get no load just now
        self.struck = None  # the node that is being acted on
        self.phase = "before"  # of the struck node: before, away, back
        self.probing = None  # the node that probes look at
        self.begun, self.stopping = False, False
        self.epoll = select.epoll()
        self.wires, self.sleepers, self.runnable = {}, [], []
        self.sequence = 0
        pairs = connections // 8 if len(nodes) > 1 else 0
        scripts = [pair] * pairs + [single] * (connections - 2 * pairs) + [probe] * 4
        self.clients = [Client(self, i, s) for i, s in enumerate(scripts)]
        self.reset()

    def begin(self):
        """All have their accounts: from here on it counts."""
        self.reset()
        self.begun = True

    def reset(self):
        self.round = Round()
        self.counts = collections.Counter()  # (kind, status, code)
        self.struck_counts = collections.Counter()  # the same, at the node being acted on
        self.probe_counts = collections.Counter()  # (phase, kind, status, code)
        self.probe_first = {}  # kind -> when the struck node first gave a good answer after it came back
        self.latencies = {kind: array.array("f") for kind in GOOD}  # of good answers
        self.failures = []  # the first ones in words
        self.stale, self.reads_checked = [], 0

    # ---- what a drill tells it, from its own thread ----

    def ready(self):
        return all(c.account for c in self.clients)

    def strike(self, node):
        """The node is acted on from now on; what is under way there is touched by it too."""
        self.struck = node
        for client in self.clients:
            client.touched = client.request is not None and client.request.node is node

    def begin_round(self):
        before, self.round = self.round, Round()
        self.round.last_good = before.last_good
        self.probe_first = {}
        return before

    def busy_at(self, node):
        return sum(c.request is not None and c.request.node is node for c in self.clients if not c.probe)

    def clients_waiting(self):
        return sum(c.request is not None for c in self.clients)

    # ---- the loop ----

    def run(self):
        for client in self.clients:
            self.step(client, None)
        quit_at = None
        while True:
            now = time.monotonic()
            if self.stopping:
                quit_at = quit_at or now + self.timeout_s + 1
                if not self.clients_waiting() or now > quit_at:
                    break
            until = min(self.sleepers[0][0] - now if self.sleepers else TICK_S, TICK_S)
            for fd, events in self.epoll.poll(max(0.0, until)):
                wire = self.wires.get(fd)
                if wire is not None:
                    self.on_event(wire, events)
            self.on_time(time.monotonic())
        for wire in list(self.wires.values()):
            self.hang_up(wire)
        now = time.monotonic()
        for client in self.clients:
            if client.waits_since is not None and not client.probe:
                self.round.pause = max(self.round.pause, now - client.waits_since)

    def on_time(self, now):
        while self.sleepers and self.sleepers[0][0] <= now:
            client = heapq.heappop(self.sleepers)[2]
            if not self.stopping:
                self.step(client, None)
        for client in self.clients:
            if client.request is not None and now - client.asked_at > client.request.timeout:
                self.broken(client.wire, "client_timeout")

    def step(self, client, answer):
        """Lets a client go on, with the answer it waited for."""
        while True:
            wish = client.script.send(answer)
            if not isinstance(wish, Request):
                self.sequence += 1
                heapq.heappush(self.sleepers, (time.monotonic() + wish, self.sequence, client))
                return
            if self.stopping:
                return
            answer = self.send(client, wish)
            if answer is None:
                return
            answer = self.note(client, answer)

    def send(self, client, wish):
        client.request, client.asked_at = wish, time.monotonic()
        client.touched = wish.node is self.struck
        if client.waits_since is None:
            client.waits_since = client.asked_at
        wire = client.wires.get(wish.node)
        try:
            if wire is None:
                wire = client.wires[wish.node] = Wire(wish.node, client)
                self.wires[wire.sock.fileno()] = wire
                error = wire.sock.connect_ex((wish.node.host, wish.node.port))
                if error not in (0, errno.EINPROGRESS):
                    raise OSError(error, "connect")
                self.epoll.register(wire.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
                wire.out = wish.data
            else:
                sent = wire.sock.send(wish.data)
                if sent < len(wish.data):
                    wire.out = wish.data[sent:]
                    self.epoll.modify(wire.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except OSError as e:
            self.hang_up(wire)
            return Answer(0, errno.errorcode.get(e.errno, "error"), b"")
        client.wire = wire
        return None

    def on_event(self, wire, events):
        try:
            if events & select.EPOLLOUT and not events & (select.EPOLLERR | select.EPOLLHUP):
                wire.out = wire.out[wire.sock.send(wire.out):] if wire.out else b""
                if not wire.out:
                    self.epoll.modify(wire.sock.fileno(), select.EPOLLIN)
            if events & ~select.EPOLLOUT:
                got = wire.sock.recv(65536)
                if not got:
                    self.broken(wire, "closed")
                    return
                wire.inp = wire.inp + got if wire.inp else got
                self.parse(wire)
        except BlockingIOError:
            pass
        except OSError as e:
            self.broken(wire, errno.errorcode.get(e.errno, "error"))

    def parse(self, wire):
        data = wire.inp
        end = data.find(HEAD_END)
        if end < 0:
            return
        head = data[:end + 2].lower()
        at = head.find(b"content-length:")
        size = int(head[at + 15:head.find(b"\r", at)]) if at >= 0 else 0
        if len(data) < end + 4 + size:
            return
        body = data[end + 4:end + 4 + size]
        wire.inp = b""
        if b"connection: close" in head:
            self.hang_up(wire)
        status = int(data[9:12])
        code = text_of(body, b'"code":"') or "" if status >= 400 else ""
        client = wire.client
        if client.wire is wire and client.request is not None:
            self.step(client, self.note(client, Answer(status, code, body)))

    def broken(self, wire, code):
        self.hang_up(wire)
        client = wire.client
        if client.wire is wire and client.request is not None:
            self.step(client, self.note(client, Answer(0, code, b"")))

    def hang_up(self, wire):
        """The connection is no more; what its client waits for is not decided here."""
        if wire.sock.fileno() >= 0:
            self.wires.pop(wire.sock.fileno(), None)
            wire.sock.close()
        if wire.client.wires.get(wire.node) is wire:
            del wire.client.wires[wire.node]

    # ---- what it counts ----

    def note(self, client, answer):
        wish, now = client.request, time.monotonic()
        client.request = client.wire = None
        good = answer.status == GOOD[wish.kind]
        if good:
            waited, client.waits_since = now - client.waits_since, None
        elif answer.status in (0, 503):
            client.shunned[wish.node] = now + 1.0
        if client.probe:
            if self.probing is wish.node:
                self.probe_counts[self.phase, wish.kind, answer.status, answer.code] += 1
                if good and self.phase == "back":
                    self.probe_first.setdefault(wish.kind, now)
            return answer
        round_ = self.round
        if client.touched and not good:
            self.struck_counts[wish.kind, answer.status, answer.code] += 1
            return answer
        self.counts[wish.kind, answer.status, answer.code] += 1
        round_.answers += 1
        round_.longest = max(round_.longest, now - client.asked_at)
        if good:
            self.latencies[wish.kind].append(now - client.asked_at)
            round_.pause = max(round_.pause, waited)
            if round_.last_good is not None:
                round_.silence = max(round_.silence, now - round_.last_good)
            round_.last_good = now
        else:
            round_.failed += 1
            if len(self.failures) < 20:
                self.failures.append("%.3f s into the round, at %s: %s %s %s after %.3f s: %s (%s is %s)" % (
                    now - round_.began, wish.node.name, wish.kind, answer.status or "", answer.code, now - client.asked_at,
                    text_of(answer.body, b'"detail":"') or "-", self.struck.name if self.struck else "no node", self.phase))
        return answer

    def check_read(self, client, node, answer, serial, at_least):
        """A read that was answered shows what this client had been promised when it asked, or newer."""
        if answer.status not in (200, 404):
            return
        self.reads_checked += 1
        shown = version_of(text_of(answer.body, b'"content":"')) if answer.status == 200 else None
        if shown is None or shown < at_least:
            self.stale.append("%s: w%d of %s shows %s, acknowledged was v%d (%s)" % (
                node.name, serial, client.name, "nothing" if shown is None else "v%d" % shown, at_least, self.phase))


def text_of(body, before):
    at = body.find(before)
    if at < 0:
        return None
    at += len(before)
    return body[at:body.find(b'"', at)].decode("utf-8", "replace")


def version_of(content):
    return int(content[1:]) if content and content[0] == "v" and content[1:].isdigit() else None


# ---- the clients ----


def sign_up(load, me):
    for _ in range(30):
        answer = yield Request(me.home(), request("POST", "/v1/auth/signup", body={
            "username": me.name, "email": me.name + "@drill.example", "password": "password of " + me.name}), "signup", 30)
        if answer.status == 201:
            break
        if answer.status == 409:
            yield from log_in(load, me)
            me.account = True
            return
        yield 0.3
    else:
        raise Failed("no account could be made: %d %s" % (answer.status, answer.code))
    take_token(me, answer)
    me.account = True


def log_in(load, me):
    while True:
        answer = yield Request(me.home(), request("POST", "/v1/auth/login", body={
            "login": me.name, "password": "password of " + me.name}), "login", max(load.timeout_s, 5))
        if answer.status == 200:
            take_token(me, answer)
            return
        yield 0.3


def take_token(me, answer):
    me.token = json.loads(answer.body)["access_token"]
    me.token_until = time.monotonic() + TOKEN_S * random.uniform(0.8, 1)


def create(load, me, node):
    """Gives [id, serial, version], or None when the outcome is not known."""
    serial = me.serial
    me.serial += 1
    answer = yield Request(node, request("POST", "/v1/reminders", me.token, {"title": "w%d" % serial, "content": "v0"}),
                           "create", load.timeout_s)
    if answer.status != 201:
        return None
    me.acked[serial] = 0
    return [text_of(answer.body, b'"id":"'), serial, 0]


def change(load, me, node, thing):
    """Gives the thing, or None when it is not known whether it changed: then it must be left alone, as what is under
    way may come in later."""
    answer = yield Request(node, request("PATCH", "/v1/reminders/" + thing[0], me.token,
                                         {"content": "v%d" % (thing[2] + 1)}), "change", load.timeout_s)
    if answer.status != 200:
        return None
    thing[2] += 1
    me.acked[thing[1]] = thing[2]
    return thing


def read(load, me, node, thing, timeout=None):
    answer = yield Request(node, request("GET", "/v1/reminders/" + thing[0], me.token), "read", timeout or load.timeout_s)
    load.check_read(me, node, answer, thing[1], thing[2])
    return answer


def begin(load, me):
    yield from sign_up(load, me)
    while not load.begun:
        yield 0.05
    yield random.uniform(0, load.think_s)


def single(load, me):
    """Half new reminders, the rest reads and changes of the newest one, all at one node."""
    yield from begin(load, me)
    thing = None
    while True:
        dice = random.random()
        if time.monotonic() > me.token_until:
            yield from log_in(load, me)
        if thing is None or dice < 0.5:
            thing = yield from create(load, me, me.home())
        elif dice < 0.75:
            yield from read(load, me, me.home(), thing)
        else:
            thing = yield from change(load, me, me.home(), thing)
        yield random.uniform(0.5, 1.5) * load.think_s


def pair(load, me):
    """Writes on one node and at once reads on another."""
    yield from begin(load, me)
    thing, turn = None, 0
    while True:
        turn ^= 1
        if time.monotonic() > me.token_until:
            yield from log_in(load, me)
        if thing is None or thing[2] >= 100:
            thing = yield from create(load, me, me.home(turn))
        else:
            thing = yield from change(load, me, me.home(turn), thing)
        if thing is not None:
            yield from read(load, me, me.home(1 - turn), thing)
        yield random.uniform(0.5, 1.5) * load.think_s


def probe(load, me):
    """Looks at the node that is acted on: is what was written elsewhere shown there, or is it refused; does it take
    writes that are then missing. Its answers are counted apart."""
    yield from begin(load, me)
    thing = None
    while True:
        node = load.probing
        if node is None:
            yield TICK_S
            continue
        if time.monotonic() > me.token_until:
            yield from log_in(load, me)
        elsewhere = [n for n in load.nodes if n is not node] or [node]
        writer = elsewhere[me.number % len(elsewhere)]
        if thing is None or thing[2] >= 100:
            thing = yield from create(load, me, writer)
        else:
            thing = yield from change(load, me, writer, thing)
        if thing is not None:
            answer = yield from read(load, me, node, thing, timeout=20)
            if answer.status != 0:
                yield Request(node, request("GET", "/v1/reminders/%s?consistency=local" % thing[0], me.token), "local", 20)
                yield from create(load, me, node)
        yield 0.05
