"""The nodes of a drill: what they say of themselves, and how to act on them: by signals when their data directories
are here, else by commands that the operator gave."""
import http.client
import os
import re
import signal
import subprocess
import time
import urllib.parse

NEEDS = {"kill": ("kill", "start"), "stop": ("pause", "resume"), "isolate": ("isolate", "heal"), "term": ("term", "start"),
         "none": ()}


class Unable(Exception):
    """What was asked for cannot be done here."""


def holder(data):
    """The pid of the node that uses a data directory: who holds its lock. None: nobody."""
    try:
        lock = os.stat(os.path.join(data, "lock"))
        with open("/proc/locks") as f:
            lines = [line.split() for line in f]
    except OSError:
        return None
    for line in lines:
        if line[1] != "FLOCK" or line[5].rsplit(":", 1)[1] != str(lock.st_ino):
            continue
        folder = "/proc/%s/fd" % line[4]
        try:
            for fd in os.listdir(folder):
                if os.path.samestat(os.stat(os.path.join(folder, fd)), lock):
                    return int(line[4])
        except OSError:
            continue
    return None


class Process:
    """How a node is started."""

    def __init__(self, argv, out, env=None, cwd=None):
        self.argv, self.out, self.env, self.cwd = argv, out, env, cwd

    @classmethod
    def of(cls, pid):
        """As one that runs here was started."""
        here = "/proc/%d" % pid
        with open(here + "/cmdline", "rb") as f:
            argv = [os.fsdecode(a) for a in f.read().split(b"\0")[:-1]]
        with open(here + "/environ", "rb") as f:
            env = dict(e.split(b"=", 1) for e in f.read().split(b"\0") if b"=" in e)
        out = os.readlink(here + "/fd/2")
        return cls(argv, out if os.path.isfile(out) else os.devnull, env, os.readlink(here + "/cwd"))

    def start(self, prefix=()):
        with open(self.out, "ab") as out:
            return subprocess.Popen([*prefix, *self.argv], env=self.env, cwd=self.cwd, stdin=subprocess.DEVNULL,
                                    stdout=out, stderr=out, start_new_session=True)

    def flag(self, name):
        return self.argv[self.argv.index(name) + 1] if name in self.argv[:-1] else None


class Node:
    def __init__(self, number, url=None, data=None, commands=None):
        self.number, self.data, self.commands = number, data, commands or {}
        self.prefix = ()  # before a command that starts it
        self.process, self.children = None, []
        if data and not self.commands.get("start"):
            pid = holder(data)
            if pid is None:
                raise Unable("no node uses the data directory %s" % data)
            self.process = Process.of(pid)
        if url is None:
            listen = self.process.flag("--listen") if self.process else None
            if listen is None:
                raise Unable("%s: say --nodes URL,URL,..., its command line has no --listen" % data)
            url = "http://" + listen.split(",")[0]
        parts = urllib.parse.urlsplit(url if "://" in url else "http://" + url)
        if parts.scheme != "http" or not parts.hostname:
            raise Unable("not an address of a node: %s" % url)
        self.host, self.port = parts.hostname, parts.port or 80
        if self.host == "localhost":
            self.host = "127.0.0.1"
        self.url = "http://%s:%d" % (parts.hostname, self.port)
        self.name = "n%d" % number

    # ---- what it says ----

    def get(self, path, timeout=2):
        """(status, text); status 0 when it does not answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def is_ready(self):
        return self.get("/readyz")[0] == 200

    def leads(self):
        """The partitions it says it leads."""
        return set(re.findall(r'^belfry_partition_leader\{partition="(\d+)"\} 1$', self.get("/metrics")[1], re.M))

    # ---- what is done to it ----

    def check_can(self, fault):
        for action in NEEDS[fault]:
            if self.commands.get(action) or (self.data and hasattr(self, "local_" + action)):
                continue
            if action in ("isolate", "heal"):
                raise Unable("nothing here can cut off %s: say --isolate-command and --heal-command, or let `tools/drill "
                             "lab` start nodes in network namespaces" % self.url)
            raise Unable("how to %s %s? Say --%s-command, or --data for nodes of this machine" % (action, self.url, action))

    def act(self, action):
        command = self.commands.get(action)
        if not command:
            getattr(self, "local_" + action)()
            return
        fill = {"n": self.number, "url": self.url, "host": self.host, "port": self.port, "data": self.data or ""}
        line = re.sub(r"\{(n|url|host|port|data)\}", lambda m: str(fill[m.group(1)]), command)
        done = subprocess.run(line, shell=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise Unable("%s: exit status %d: %s" % (line, done.returncode, (done.stderr or done.stdout).strip()))

    def pid(self):
        pid = holder(self.data)
        if pid is None:
            raise Unable("%s: no node uses %s any more" % (self.name, self.data))
        return pid

    def signal_and_wait(self, number, seconds):
        pid = self.pid()
        os.kill(pid, number)
        until = time.monotonic() + seconds
        while holder(self.data) == pid:
            if time.monotonic() > until:
                raise Unable("%s: pid %d does not end" % (self.name, pid))
            time.sleep(0.005)
        for child in self.children:
            child.poll()

    def local_kill(self):
        self.signal_and_wait(signal.SIGKILL, 10)

    def local_term(self):
        self.signal_and_wait(signal.SIGTERM, 60)

    def local_start(self):
        self.children.append(self.process.start(self.prefix))

    def local_pause(self):
        os.kill(self.pid(), signal.SIGSTOP)

    def local_resume(self):
        os.kill(self.pid(), signal.SIGCONT)

    def undo_pause(self):
        try:
            self.local_resume()
        except (OSError, Unable):
            pass

    def undo(self):
        """Best effort, when a drill is given up in the middle of a fault."""
        try:
            if self.data and holder(self.data):
                self.local_resume()
            elif self.data and self.process:
                self.local_start()
        except (OSError, Unable):
            pass


def wait(what, condition, seconds, step=0.02):
    """Seconds until the condition holds. Raises Unable when it does not come."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Unable("waited %d s in vain: %s" % (seconds, what))
        time.sleep(step)
    return time.monotonic() - began
