"""A lab: nodes of one machine, each in a network namespace of its own with two interfaces. `peers` is for what nodes say
to each other, over a bridge in a namespace apart; `clients` leads here, so that a node whose peers' cable is pulled can
still be asked. Needs root and ip (Debian: iproute2). Everything has the lab's name, and is deleted by name."""
import contextlib
import os
import re
import shutil
import subprocess
import tempfile

from drilling.nodes import Node, Process, Unable, wait

HTTP_PORT, PEER_PORT = 8080, 9080


def ip(*args, check=True):
    done = subprocess.run(["ip", *args], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise Unable("ip %s: %s" % (" ".join(args), done.stderr.strip()))
    return done.stdout


def free_third():
    """The third byte of networks 10.83.x.0/24 and 10.84.x.0/24 that nobody here uses."""
    used = ip("-4", "-o", "addr") + ip("-4", "route")
    for third in range(1, 250):
        if not re.search(r"\b10\.8[34]\.%d\." % third, used):
            return third
    raise Unable("no free network in 10.84.0.0/16")


class LabNode(Node):
    def __init__(self, lab, number):
        self.lab, self.namespace = lab, "%s-%d" % (lab.name, number)
        self.host_end = "%sc%d" % (lab.short, number)
        self.dir = os.path.join(lab.dir, "node%d" % number)
        super().__init__(number, "http://10.84.%d.%d:%d" % (lab.third, 4 * number + 2, HTTP_PORT))
        self.data = self.dir
        self.prefix = ("ip", "netns", "exec", self.namespace)

    def wire(self):
        third = self.lab.third
        ip("netns", "add", self.namespace)
        ip("-n", self.namespace, "link", "set", "lo", "up")
        ip("link", "add", self.host_end, "type", "veth", "peer", "name", "clients", "netns", self.namespace)
        ip("addr", "add", "10.84.%d.%d/30" % (third, 4 * self.number + 1), "dev", self.host_end)
        ip("link", "set", self.host_end, "up")
        ip("-n", self.namespace, "addr", "add", "%s/30" % self.host, "dev", "clients")
        ip("-n", self.namespace, "link", "set", "clients", "up")
        ip("-n", self.namespace, "link", "add", "peers", "type", "veth", "peer", "name", "p%d" % self.number, "netns",
           self.lab.switch)
        ip("-n", self.namespace, "addr", "add", "10.83.%d.%d/24" % (third, self.number), "dev", "peers")
        ip("-n", self.namespace, "link", "set", "peers", "up")
        ip("-n", self.lab.switch, "link", "set", "p%d" % self.number, "master", "bridge", "up")

    def launch(self):
        peer = "10.83.%d.%d:%d" % (self.lab.third, self.number, PEER_PORT)
        argv = [self.lab.binary, "serve", "--data", self.data, "--listen", "%s:%d" % (self.host, self.port),
                "--peer-listen", peer, "--join", self.lab.join, "--secret-file", self.lab.secret, *self.lab.flags]
        self.process = Process(argv, os.path.join(self.lab.dir, "node%d.log" % self.number))
        self.local_start()

    def cable(self, state):
        """The other end of its cable to the peers: what it sends goes nowhere, and nothing comes."""
        ip("-n", self.lab.switch, "link", "set", "p%d" % self.number, state)

    def local_isolate(self):
        self.cable("down")

    def local_heal(self):
        self.cable("up")

    def undo(self):
        ip("-n", self.lab.switch, "link", "set", "p%d" % self.number, "up", check=False)
        super().undo()


class Lab:
    def __init__(self, count, binary, flags):
        if not 1 <= count <= 9:
            raise Unable("a lab has 1 to 9 nodes")
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise Unable("a lab needs root, and ip (Debian: iproute2), for network namespaces")
        if not os.access(binary, os.X_OK):
            raise Unable("there is no %s: build first, or say --binary" % binary)
        self.name, self.short = "belfry-lab-%d" % os.getpid(), "bl%d" % os.getpid()
        self.binary, self.flags = os.path.abspath(binary), flags
        self.switch = self.name + "-switch"
        self.third = free_third()
        self.join = ",".join("10.83.%d.%d:%d" % (self.third, n, PEER_PORT) for n in range(1, count + 1))
        self.dir = tempfile.mkdtemp(prefix=self.name + "-")
        self.secret = os.path.join(self.dir, "secret")
        self.nodes = [LabNode(self, n) for n in range(1, count + 1)]

    def open(self):
        try:
            ip("netns", "add", self.switch)
            ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
            ip("-n", self.switch, "link", "set", "bridge", "up")
            for node in self.nodes:
                node.wire()
        except Unable as e:
            raise Unable("this machine does not allow network namespaces with veth and a bridge: %s" % e)
        done = subprocess.run([self.binary, "secret", self.secret], capture_output=True, text=True)
        if done.returncode != 0:
            raise Unable("belfry secret: " + done.stderr.strip())
        for node in self.nodes:
            node.launch()
        try:
            for node in self.nodes:
                wait("%s is ready" % node.name, node.is_ready, 60)
        except Unable as e:
            logs = [subprocess.run(["tail", "-n", "3", n.process.out], capture_output=True, text=True).stdout for n in self.nodes]
            raise Unable("%s\n%s" % (e, "".join(logs).strip()))

    def close(self, keep):
        """Never fails half-way: every step is tried."""
        children = [c for n in self.nodes for c in n.children]
        for node in self.nodes:
            node.undo_pause()
        for child in children:
            if child.poll() is None:
                child.terminate()
        for child in children:
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(timeout=10)
        for node in self.nodes:
            ip("link", "del", node.host_end, check=False)
        for name in [n.namespace for n in self.nodes] + [self.switch]:
            ip("netns", "del", name, check=False)
        if keep:
            print("data and logs of the nodes are kept in %s" % self.dir)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)


def dead_labs():
    """Namespaces that a lab left which was killed."""
    names = [line.split()[0] for line in ip("netns", "list").splitlines() if line.strip()]
    return [n for n in names for m in [re.fullmatch(r"belfry-lab-(\d+)-(\d+|switch)", n)]
            if m and not os.path.exists("/proc/" + m.group(1))]


def clean():
    """Ends the nodes of labs that were killed, by pid, and deletes their namespaces."""
    for name in dead_labs():
        for pid in ip("netns", "pids", name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        ip("netns", "del", name)
        print("deleted " + name)
    for link in re.findall(r"^\d+: (bl(\d+)c\d+)@", ip("-o", "link"), re.M):
        if not os.path.exists("/proc/" + link[1]):
            ip("link", "del", link[0], check=False)
