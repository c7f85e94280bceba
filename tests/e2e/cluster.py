"""Several nodes that are one cluster, for the tests of clusters: built on belfry.Node.

    with Cluster(3) as cluster:                 founded, and ready
        cluster.nodes[0].kill()
        cluster.launch(0); cluster.wait_ready(0)
"""
import contextlib
import http.client
import random
import re
import signal
import socket
import subprocess
import time
import unittest

from belfry import BINARY, Node, SLOW


def free_ports(count):
    """Ports nobody uses, below those the kernel gives to connections: a node that calls another which is not there yet
    must not be given that one's port."""
    held, ports = [], []
    try:
        for _ in range(1000):
            s = socket.socket()
            held.append(s)
            with contextlib.suppress(OSError):
                s.bind(("127.0.0.1", random.randrange(12000, 32000)))
                ports.append(s.getsockname()[1])
                if len(ports) == count:
                    return ports
    finally:
        for s in held:
            s.close()
    raise AssertionError("no free ports")


class Cluster:
    def __init__(self, count=3, *flags, start=True):
        ports = free_ports(2 * count)
        join = ",".join("127.0.0.1:%d" % p for p in ports[count:])
        self.nodes = []
        for i in range(count):
            node = Node("--join", join, *flags)
            node.port = ports[i]
            node.listen, node.peer_listen = "127.0.0.1:%d" % ports[i], "127.0.0.1:%d" % ports[count + i]
            self.nodes.append(node)
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- starting and stopping ----

    def launch(self, i):
        """Starts a node, without waiting."""
        self.nodes[i].launch()

    def start(self, order=None, pause=lambda: 0.0):
        """Starts those that do not run, in that order, and waits until all are ready; seconds from the last start to that."""
        for i in order or range(len(self.nodes)):
            if not self.is_running(i):
                time.sleep(pause())
                self.launch(i)
        launched = time.monotonic()
        self.wait_ready(*[i for i in range(len(self.nodes)) if self.is_running(i)])
        return time.monotonic() - launched

    def is_running(self, i):
        return self.nodes[i].process is not None and self.nodes[i].process.poll() is None

    def kill(self, i):
        self.nodes[i].kill()

    def stop(self, i):
        self.nodes[i].stop()

    def stop_all(self):
        """SIGTERM to all at once; each must end in order."""
        running = [n for i, n in enumerate(self.nodes) if self.is_running(i)]
        for node in running:
            node.process.send_signal(signal.SIGTERM)
        for node in running:
            node.stop()

    def close(self):
        for i, node in enumerate(self.nodes):
            if self.is_running(i):
                node.process.send_signal(signal.SIGCONT)
                node.kill()
            node.close()

    # ---- what nodes say ----

    def get(self, i, path, timeout=5):
        """(status, text); (0, "") when it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.nodes[i].port, timeout=timeout * SLOW)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def wait(self, what, condition, timeout=30):
        """What the condition gave, once it is true."""
        until = time.monotonic() + timeout * SLOW
        while True:
            result = condition()
            if result:
                return result
            if time.monotonic() > until:
                ready = ["%d: %s %s" % (i, self.get(i, "/readyz?verbose"), self.get(i, "/v1/cluster")) for i in range(len(self.nodes))]
                raise AssertionError("waited in vain: %s\n%s\n%s" % (what, "\n".join(ready), "\n".join(
                    "\n".join(l for l in n.log_text().splitlines() if '"msg":"request"' not in l)[-3000:] for n in self.nodes if n.process)))
            time.sleep(0.02)

    def wait_ready(self, *which, timeout=30):
        for i in which or range(len(self.nodes)):
            def is_ready():
                if not self.is_running(i):
                    raise AssertionError("node %d ended:\n%s" % (i, self.nodes[i].log_text()[-3000:]))
                return self.get(i, "/readyz")[0] == 200
            self.wait("node %d is ready" % i, is_ready, timeout)

    def leads(self, i):
        """The partitions that a node says it leads."""
        return {int(p) for p in re.findall(r'^belfry_partition_leader\{partition="(\d+)"\} 1$', self.get(i, "/metrics")[1], re.M)}

    def leader(self, partition, timeout=30):
        """The node that leads a partition."""
        def find():
            return [i for i in range(len(self.nodes)) if self.is_running(i) and partition in self.leads(i)]
        return self.wait("partition %d has one leader" % partition, lambda: len(find()) == 1 and find(), timeout)[0]

    def wait_led(self, partitions=17, timeout=30):
        """Until every partition has exactly one leader; gives how many each node leads."""
        def counts():
            led = [self.leads(i) for i in range(len(self.nodes))]
            return sum(map(len, led)) == partitions == len(set().union(*led)) and [len(x) for x in led]
        return self.wait("every partition has one leader", counts, timeout)

    def most_leading(self):
        return max(range(len(self.nodes)), key=lambda i: len(self.leads(i)))

    # ---- speaking to it ----

    def signup(self, i, name):
        """A client of node i, with an account."""
        return self.nodes[i].signup(name)

    def at(self, i, client):
        """The same account at another node."""
        return self.nodes[i].client(client.token)


class ClusterTest(unittest.TestCase):
    """A cluster for each test: self.cluster(...) is closed after it."""
    maxDiff = 2000

    def cluster(self, count=3, *flags, start=True):
        cluster = Cluster(count, *flags, start=start)
        self.addCleanup(cluster.close)
        return cluster

    def node_id(self, node):
        with open(node.data + "/identity") as f:
            return re.search(r"^node (\S+)$", f.read(), re.M).group(1)

    def operator(self, node, *args):
        done = subprocess.run([BINARY, *args, "--data", node.data], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def expect(self, answer, status, code=None):
        self.assertEqual(answer.status, status, answer.text)
        if code:
            self.assertEqual(answer.code, code, answer.text)
        return answer

    def list_all(self, client):
        found, cursor = [], ""
        while cursor is not None:
            page = self.expect(client.get("/v1/reminders?limit=200" + ("&cursor=" + cursor if cursor else "")), 200).json
            found += page["items"]
            cursor = page["next_cursor"]
        return found
