"""A cluster that changes: nodes come and go under load, are restarted one by one, lose their disk or find it damaged,
lag so far behind that the log no longer serves them. Nothing acknowledged is lost, no other node fails a request."""
import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time

from belfry import BINARY, SLOW, Node, main
from cluster import ClusterTest, free_ports

FAKETIME = "/usr/lib/%s/faketime/libfaketime.so.1" % sysconfig.get_config_var("MULTIARCH")  # of the package faketime

SEED = int(os.environ.get("SEED", str(random.randrange(1 << 30))))
SMALL_LOG = ("--log-segment-mib", "4", "--log-keep-mib", "0", "--durable-interval-ms", "200")


class Load:
    """Writes and reads at some nodes, all the time; what failed, and what was acknowledged."""

    def __init__(self, cluster, user, targets, threads=6):
        self.cluster, self.user, self.targets = cluster, user, targets
        self.failed, self.made, self.requests, self.running = [], [], 0, True
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(threads)]

    def run(self, n):
        client = self.cluster.at(self.targets[n % len(self.targets)], self.user)
        i = 0
        while self.running:
            i += 1
            try:
                answer = (client.post("/v1/reminders", {"title": "%d.%d" % (n, i)}) if i % 2 else
                          client.get("/v1/reminders?limit=1"))
                if answer.status >= 400:
                    self.failed.append((answer.status, answer.text))
                elif i % 2:
                    self.made.append(answer.json["id"])
            except Exception as e:
                self.failed.append(repr(e))
            self.requests += 1
            time.sleep(0.01)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        for thread in self.threads:
            thread.join()


class Heal(ClusterTest):
    def check_load(self, load, cluster, user):
        self.assertGreater(load.requests, 50)
        self.assertEqual(load.failed[:5], [])
        listed = [r["id"] for r in self.list_all(cluster.at(load.targets[0], user))]
        self.assertEqual(len(listed), len(set(listed)))
        self.assertEqual(set(load.made) - set(listed), set(), "acknowledged and gone")

    def add_node(self, cluster, *flags):
        """One more node, with the line of the others."""
        ports = free_ports(2)
        node = Node(*cluster.nodes[0].flags, *flags)
        node.port, node.listen = ports[0], "127.0.0.1:%d" % ports[0]
        node.peer_listen = "127.0.0.1:%d" % ports[1]
        cluster.nodes.append(node)
        cluster.launch(len(cluster.nodes) - 1)
        cluster.wait_ready(len(cluster.nodes) - 1)

    def wait_members(self, cluster, i, count):
        def members():
            lines = self.operator(cluster.nodes[i], "nodes").strip().splitlines()[1:]
            voters = sum(" voter " in line for line in lines)
            return len(lines) == count and all(" up " in line for line in lines) and voters == {3: 3, 4: 3, 5: 5}[count]
        cluster.wait("%d members" % count, members)

    def test_nodes_join_and_leave_under_load(self):
        cluster = self.cluster()
        user = cluster.signup(0, "ada")
        with Load(cluster, user, [0, 1]) as load:
            for count in (4, 5):
                self.add_node(cluster)
                self.wait_members(cluster, 0, count)
            for gone, count in ((3, 4), (2, 3)):
                self.operator(cluster.nodes[0], "remove", self.node_id(cluster.nodes[gone]))
                self.wait_members(cluster, 0, count)
                self.assertEqual(cluster.leads(gone), set(), "it leads nothing any more")
            time.sleep(0.5)
        self.check_load(load, cluster, user)
        self.assertEqual({r["id"] for r in self.list_all(cluster.at(4, user))},
                         {r["id"] for r in self.list_all(cluster.at(0, user))})

    def test_rolling_restart_under_load_fails_nothing_elsewhere(self):
        cluster = self.cluster()
        user = cluster.signup(0, "ada")
        for i in range(3):
            with Load(cluster, user, [(i + 1) % 3, (i + 2) % 3]) as load:
                time.sleep(0.3)
                cluster.stop(i)
                time.sleep(0.3)
                cluster.launch(i)
                cluster.wait_ready(i)
                time.sleep(0.3)
            self.check_load(load, cluster, user)

    def terms(self, admin):
        return [p["term"] for p in self.expect(admin.get("/v1/cluster"), 200).json["partitions"]]

    def test_drained_node_leads_nothing_until_it_is_told_otherwise(self):
        cluster = self.cluster()
        victim = self.node_id(cluster.nodes[1])
        admin = cluster.signup(0, "root")
        self.operator(cluster.nodes[0], "admin", "root")
        admin.token = None
        admin.token = self.expect(admin.post("/v1/auth/login", {"login": "root", "password": "correct horse"}), 200).json["access_token"]
        cluster.wait("all lead about as many", lambda: sorted(cluster.wait_led()) == [5, 6, 6])
        self.operator(cluster.nodes[0], "drain", victim)
        cluster.wait("it leads nothing", lambda: not cluster.leads(1))
        self.assertEqual(cluster.get(1, "/readyz")[0], 503)
        cluster.wait("the others lead about as many", lambda: sorted(cluster.wait_led()) == [0, 8, 9])
        terms = self.terms(admin)
        time.sleep(3)  # the others find that they lead more than it does
        self.assertEqual(self.terms(admin), terms, "leadership wandered while a node drains")
        self.operator(cluster.nodes[2], "drain", victim, "--off")
        cluster.wait("it leads again", lambda: cluster.leads(1))
        cluster.wait_ready(1)

    def test_node_whose_clock_is_off_leads_nothing(self):
        cluster = self.cluster(3)
        user = cluster.signup(0, "tick")
        cluster.kill(2)
        cluster.nodes[2].prefix = ["env", "LD_PRELOAD=" + FAKETIME, "FAKETIME=+10m", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
        cluster.launch(2)
        due = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300))
        reminder = self.expect(user.post("/v1/reminders", {"title": "in five minutes", "due_at": due}), 201).json["id"]
        cluster.wait("it says that its clock is off", lambda: "clock: " in cluster.get(2, "/readyz")[1])
        until = time.monotonic() + 5
        while time.monotonic() < until:
            self.assertEqual(cluster.leads(2), set())
            self.assertEqual(user.post("/v1/reminders", {"title": "as ever"}).status, 201)
            time.sleep(0.1)
        self.assertNotIn("fired_at", user.get("/v1/reminders/" + reminder).json)
        cluster.kill(2)
        cluster.nodes[2].prefix = []
        cluster.launch(2)
        cluster.wait_ready(2)
        cluster.wait("it leads again", lambda: cluster.leads(2))

    def test_logout_is_seen_everywhere_within_a_second(self):
        cluster = self.cluster()
        for i in range(3):
            user = cluster.signup(i, "ada%d" % i)
            self.expect(user.post("/v1/auth/logout"), 204)
            time.sleep(1)
            for j in range(3):
                self.expect(cluster.at(j, user).get("/v1/users/me"), 401)

    def secret(self, name):
        path = os.path.join(tempfile.mkdtemp(prefix="belfry-secret-"), name)
        self.addCleanup(shutil.rmtree, os.path.dirname(path), True)
        subprocess.run([BINARY, "secret", path], check=True, timeout=30)
        return path

    def test_peers_of_another_secret_or_none_at_all_are_refused(self):
        cluster = self.cluster(3, "--secret-file", self.secret("right"))
        user = cluster.signup(0, "ada")
        ports = free_ports(2)
        stranger = Node(*cluster.nodes[0].flags[:2], "--secret-file", self.secret("wrong"))
        stranger.port, stranger.listen, stranger.peer_listen = ports[0], "127.0.0.1:%d" % ports[0], "127.0.0.1:%d" % ports[1]
        cluster.nodes.append(stranger)
        cluster.launch(3)
        reason = "does not know the cluster's secret"
        cluster.wait("the reason is logged", lambda: any(reason in n.log_text() for n in cluster.nodes[:3]))
        for noise in (b"GET / HTTP/1.1\r\n\r\n", bytes(4096), os.urandom(4096)):
            with socket.create_connection(("127.0.0.1", int(cluster.nodes[0].peer_listen.split(":")[1])), 5) as s:
                s.settimeout(10 * SLOW)
                s.sendall(noise)
                with contextlib.suppress(ConnectionError):
                    self.assertEqual(s.recv(4096), b"", "nothing is told to whoever sends noise")
        self.expect(user.get("/v1/users/me"), 200)
        self.wait_members(cluster, 0, 3)
        stranger.kill()
        cluster.nodes.pop().close()
        done = subprocess.run([BINARY, "serve", "--data", cluster.nodes[0].dir + "/other", "--listen", "127.0.0.1:0",
                               "--peer-listen", "0.0.0.0:%d" % free_ports(1)[0]], capture_output=True, text=True, timeout=30)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--secret-file", done.stderr)

    def damage(self, node, what):
        log = node.data + "/log/"
        first = log + min(n for n in os.listdir(log) if n.endswith(".seg"))
        path, at = {"log": (first, 3000), "state": (node.data + "/state/data.mdb", None),
                    "durable": (node.data + "/durable", 60), "cut": (first, None)}[what]
        if what == "cut":
            os.truncate(path, 2000)
            return
        with open(path, "r+b") as f:
            content = f.read()
            # Of the state a byte within a value, in the page that is in use and in older copies of it.
            places = [m.start() for m in re.finditer(b"find this very title", content)] if what == "state" else [at]
            self.assertTrue(places)
            for at in places:
                f.seek(at)
                f.write(bytes([content[at] ^ 4]))

    def test_damaged_node_heals_from_the_others(self):
        cluster = self.cluster(3, "--durable-interval-ms", "100")
        user = cluster.signup(0, "ada")
        self.expect(user.post("/v1/reminders", {"title": "find this very title"}), 201)
        expected = [(r["id"], r["title"]) for r in self.list_all(user)]
        for what in ("log", "state", "durable", "cut"):
            time.sleep(0.5)
            with Load(cluster, user, [0, 2], 2) as load:
                cluster.stop(1)
                old = self.node_id(cluster.nodes[1])
                self.damage(cluster.nodes[1], what)
                cluster.launch(1)
                cluster.wait_ready(1)
            self.assertEqual(load.failed[:3], [], what)
            self.assertNotEqual(self.node_id(cluster.nodes[1]), old, "%s: it comes back as another" % what)
            self.assertIn("damaged-", " ".join(os.listdir(cluster.nodes[1].data)))
            expected += [(id_, None) for id_ in load.made]
            listed = {r["id"]: r["title"] for r in self.list_all(cluster.at(1, user))}
            self.assertEqual(set(listed), {id_ for id_, _ in expected}, what)
            self.assertIn("find this very title", listed.values())
            self.wait_members(cluster, 0, 3)

    def test_wiped_node_comes_back_as_a_new_member(self):
        cluster = self.cluster()
        user = cluster.signup(0, "ada")
        made = {self.expect(cluster.at(i % 3, user).post("/v1/reminders", {"title": str(i)}), 201).json["id"] for i in range(30)}
        for i in (2, 0):
            old = self.node_id(cluster.nodes[i])
            cluster.kill(i)
            shutil.rmtree(cluster.nodes[i].data)
            cluster.launch(i)
            cluster.wait_ready(i)
            self.assertNotEqual(self.node_id(cluster.nodes[i]), old)
            self.wait_members(cluster, 1, 3)
            self.assertEqual({r["id"] for r in self.list_all(cluster.at(i, user))}, made)

    def hashes(self, node):
        done = subprocess.run([BINARY, "verify", "--data", node.data], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout)
        return re.findall(r"partition (\d+): applied (\d+), rows (\d+), hash ([0-9a-f]{16})", done.stdout)

    def test_replica_that_the_log_no_longer_serves_gets_the_state(self):
        chance = random.Random(SEED)
        print("seed", SEED)
        cluster = self.cluster(3, *SMALL_LOG)
        users = [cluster.signup(0, "user%d" % n) for n in range(4)]
        cluster.kill(2)
        counts = []
        for user in users:
            client = cluster.at(0, user)
            counts.append(0)
            while counts[-1] < 300:
                self.expect(client.post("/v1/reminders", {"title": str(counts[-1]), "content": "x" * 60000}), 201)
                counts[-1] += 1
        time.sleep(1)  # two durable points: the log is dropped
        for _ in range(4):  # and it is killed while it gets it
            cluster.launch(2)
            time.sleep(chance.uniform(0.1, 0.8) * SLOW)
            cluster.kill(2)
        cluster.launch(2)

        def has_all():
            return cluster.get(2, "/livez")[0] == 200 and all(len(self.list_all_local(cluster.at(2, user))) == count for user, count in zip(users, counts))
        cluster.wait("the replica has everything", has_all, 60)
        self.assertIn("the state was taken over", cluster.nodes[2].log_text())
        for user, count in zip(users, counts):
            self.assertEqual(len(self.list_all(cluster.at(2, user))), count)
        time.sleep(0.5)
        cluster.stop_all()
        self.assertEqual(self.hashes(cluster.nodes[2]), self.hashes(cluster.nodes[0]))

    def list_all_local(self, client):
        found, cursor = [], ""
        while cursor is not None:
            answer = client.get("/v1/reminders?limit=200&consistency=local" + ("&cursor=" + cursor if cursor else ""))
            if answer.status != 200:
                return found
            found += answer.json["items"]
            cursor = answer.json["next_cursor"]
        return found


if __name__ == "__main__":
    main()
