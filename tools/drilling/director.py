"""The schedule of a drill: round by round a node is chosen, taken away, and brought back, while the load goes on in the
main thread."""
import threading
import time

from drilling.nodes import Unable, wait

AWAY_S = {"kill": 2.0, "stop": 5.0, "isolate": 5.0, "term": 0.0, "none": 0.0}
AWAY = {"kill": "kill", "stop": "pause", "isolate": "isolate", "term": "term"}
BACK = {"kill": "start", "stop": "resume", "isolate": "heal", "term": "start"}
READY_S = 60


class RoundReport:
    """One row of the report."""

    def __init__(self, number):
        self.number = number
        self.victim, self.led = "-", 0
        self.away_s = self.ready_s = self.healed_s = None
        self.pause = self.longest = self.silence = 0.0
        self.answers = self.failed = 0

    def take(self, round_):
        self.pause, self.longest, self.silence = round_.pause, round_.longest, round_.silence
        self.answers, self.failed = round_.answers, round_.failed


class Director(threading.Thread):
    def __init__(self, load, nodes, options, say):
        super().__init__(name="director", daemon=True)
        self.load, self.nodes, self.options, self.say = load, nodes, options, say
        self.rounds, self.calm, self.trouble, self.elapsed = [], None, None, 0.0
        self.given_up = threading.Event()

    def run(self):
        began = time.monotonic()
        try:
            wait("every node is ready", self.all_ready, READY_S)
            wait("every client has its account", self.load.ready, 120)
            self.load.begin()
            began = time.monotonic()
            self.pause(self.options.warm_up)
            self.calm = self.load.begin_round()
            for number in range(1, self.options.rounds + 1):
                self.round(number)
        except Exception as e:  # told in the report; the load must stop in any case
            self.trouble = str(e) if isinstance(e, Unable) else repr(e)
            if self.load.struck is not None:
                self.load.struck.undo()
        self.elapsed = time.monotonic() - began
        self.load.probing, self.load.struck = None, None
        self.load.stopping = True

    def pause(self, seconds):
        if self.given_up.wait(max(0.0, seconds)):
            raise Unable("given up by a signal")

    def all_ready(self):
        if self.given_up.is_set():
            raise Unable("given up by a signal")
        return all(n.is_ready() for n in self.nodes)

    def choose(self, number):
        """(node, how many partitions it leads)"""
        leads = {n: len(n.leads()) for n in self.nodes}
        if self.options.victim == "leader":
            node = max(self.nodes, key=lambda n: leads[n])
        elif self.options.victim == "each":
            node = self.nodes[(number - 1) % len(self.nodes)]
        else:
            node = next(n for n in self.nodes if self.options.victim in (str(n.number), n.name, n.url))
        return node, leads[node]

    def round(self, number):
        load, fault, report = self.load, self.options.fault, RoundReport(number)
        if fault == "none":
            began = time.monotonic()
            self.pause(self.options.every)
        else:
            wait("every node is ready", self.all_ready, READY_S)
            victim, report.led = self.choose(number)
            report.victim = victim.name
            if self.options.target == "survivors":
                load.avoid = frozenset([victim])
                wait("no request is under way at %s" % victim.name, lambda: load.busy_at(victim) == 0, 30)
            load.phase, load.probing = "before", victim if fault in ("stop", "isolate") else None
            load.strike(victim)
            if load.probing:
                self.pause(0.2)
            began = time.monotonic()
            self.strike(victim, report)
            wait("%s is ready again" % victim.name, self.all_ready, READY_S)
            self.pause(1.0)  # for what it still has to answer
            report.healed_s = self.healed()
            load.struck, load.probing, load.avoid = None, None, frozenset()
            self.pause(began + self.options.every - time.monotonic())
        report.take(load.begin_round())
        self.rounds.append(report)
        self.say(report)

    def strike(self, victim, report):
        load, fault = self.load, self.options.fault
        load.phase = "away"
        began = time.monotonic()
        victim.act(AWAY[fault])
        self.pause(self.options.away)
        report.away_s = time.monotonic() - began
        self.back_at = time.monotonic()
        load.phase = "back"
        load.probing = victim
        victim.act(BACK[fault])
        report.ready_s = wait("%s is ready again" % victim.name, victim.is_ready, READY_S, 0.005)

    def healed(self):
        """Seconds from bringing it back until it both read and wrote for a client; None: it did not."""
        first = self.load.probe_first
        if "read" not in first or "create" not in first:
            return None
        return max(first["read"], first["create"]) - self.back_at
