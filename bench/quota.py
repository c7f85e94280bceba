"""Nodes that are held to a part of a core each, by a CPU quota (cgroup v2 or v1, so root) with a period of PERIOD_MS
(100)."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from local import cpu_seconds, free_ports

BINARY = os.environ.get("BELFRY", "build/belfry")
PERIOD_US = int(os.environ.get("PERIOD_MS", "100")) * 1000
HEARTBEATS = ["--election-timeout-ms", "2000", "--heartbeat-ms", "200"]  # a node may stand still for most of a period


class Quota:
    """A cgroup with a part of a core."""

    def __init__(self, name, share):
        quota = max(int(share * PERIOD_US), 1000)
        if os.path.exists("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") or os.path.exists("/sys/fs/cgroup/cpu/cpu.shares"):
            self.dir = "/sys/fs/cgroup/cpu/" + name
            files = {"cpu.cfs_period_us": PERIOD_US, "cpu.cfs_quota_us": quota}
        elif "cpu" in open("/sys/fs/cgroup/cgroup.controllers").read().split():
            with open("/sys/fs/cgroup/cgroup.subtree_control", "w") as f:
                f.write("+cpu")
            self.dir = "/sys/fs/cgroup/" + name
            files = {"cpu.max": "%d %d" % (quota, PERIOD_US)}
        else:
            sys.exit("there is no cpu controller")
        os.mkdir(self.dir)
        for file, value in files.items():
            with open(os.path.join(self.dir, file), "w") as f:
                f.write(str(value))

    def enter(self):
        with open(os.path.join(self.dir, "cgroup.procs"), "w") as f:
            f.write("0")

    def cpu_seconds(self):
        """Of the node and its hashing processes."""
        return sum(cpu_seconds(int(pid)) for pid in open(os.path.join(self.dir, "cgroup.procs")).read().split())

    def close(self):
        for _ in range(100):
            try:
                return os.rmdir(self.dir)
            except OSError:
                time.sleep(0.05)


class Cluster:
    """Nodes, each with a part of a core; facade: what they listen for beside, at the ports in self.facade."""

    def __init__(self, shares, policy, facade=None):
        size = len(shares)
        ports = free_ports(3 * size)
        self.http, self.facade, peers = ports[:size], ports[size:2 * size], ["127.0.0.1:%d" % p for p in ports[2 * size:]]
        self.dir = tempfile.mkdtemp(prefix="belfry-balance-")
        self.quotas = [Quota("belfry-balance-%d-%d" % (os.getpid(), i), s) for i, s in enumerate(shares)]
        self.processes = []
        for i in range(size):
            flags = ["--join", ",".join(peers)] if size > 1 else []
            flags += ["--listen", "127.0.0.1:%d,facade=%s" % (self.facade[i], facade)] if facade else []
            self.processes.append(subprocess.Popen(
                [BINARY, "serve", "--data", "%s/%d" % (self.dir, i), "--listen", "127.0.0.1:%d" % self.http[i],
                 "--peer-listen", peers[i], "--balance", policy, "--log-file", "%s/%d.log" % (self.dir, i), *HEARTBEATS,
                 *flags], preexec_fn=self.quotas[i].enter))
        until = time.monotonic() + 60
        while not all(self.is_ready(i) for i in range(size)):
            if time.monotonic() > until:
                raise SystemExit("the nodes do not become ready: " + self.dir)
            time.sleep(0.1)
        time.sleep(1)

    def get(self, i, path):
        return urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.http[i], path), timeout=10).read().decode()

    def is_ready(self, i):
        try:
            return self.known(i) == len(self.http) and self.get(i, "/readyz") is not None
        except OSError:
            return False

    def known(self, i):
        """Nodes that it spreads hashes over."""
        return len(re.findall(r"^belfry_balance_sent_total\{", self.get(i, "/metrics"), re.M))

    def id_of(self, i):
        page = subprocess.run([BINARY, "nodes", "--data", "%s/%d" % (self.dir, i), "-o", "json"], capture_output=True, text=True, check=True)
        return json.loads(page.stdout)["node"]

    def cpu_seconds(self):
        return sum(q.cpu_seconds() for q in self.quotas)

    def wait_until_idle(self):
        while any("belfry_compute_jobs 0\n" not in self.get(i, "/metrics") for i in range(len(self.http))):
            time.sleep(0.1)

    def close(self):
        for p in self.processes:
            p.send_signal(signal.SIGKILL)
        for p in self.processes:
            p.wait()
        for q in self.quotas:
            q.close()
        shutil.rmtree(self.dir)
