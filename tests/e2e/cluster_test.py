"""Three nodes as one: founding and restarting in any order, one account at all of them, reads that are never stale, and
what is left when the majority is gone."""
import concurrent.futures
import os
import random
import signal
import time

from belfry import SLOW, main
from cluster import ClusterTest

SEED = int(os.environ.get("SEED", str(random.randrange(1 << 30))))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
PAIRS = int(os.environ.get("PAIRS", "6000"))
NO_QUORUM_S = 3  # an answer without a majority comes after 1.8 s, unless the machine is slow


class Starts(ClusterTest):
    def test_cold_start_in_any_order_founds_one_cluster(self):
        chance = random.Random(SEED)
        print("seed", SEED)
        ready = []
        for round_ in range(ROUNDS):
            cluster = self.cluster(start=False)
            ready.append(cluster.start(chance.sample(range(3), 3), lambda: chance.uniform(0, 0.4)))
            cluster.wait_led()
            founded = {line.split('"detail":"')[1] for n in cluster.nodes for line in n.log_text().splitlines()
                       if '"a cluster is founded"' in line}
            self.assertEqual(len(founded), 1, "all know the same cluster")
            user = cluster.signup(round_ % 3, "ada")
            self.expect(cluster.at((round_ + 1) % 3, user).get("/v1/users/me"), 200)
            cluster.close()
        print("%d cold starts: ready %.2f s after the last node's start, at most" % (ROUNDS, max(ready)), flush=True)

    def test_all_down_and_up_again_in_any_order_keeps_everything(self):
        chance = random.Random(SEED)
        print("seed", SEED)
        cluster = self.cluster()
        user = cluster.signup(0, "ada")
        made, ready = [], []
        for round_ in range(ROUNDS):
            for i in range(30):
                answer = cluster.at(i % 3, user).post("/v1/reminders", {"title": "%d.%d" % (round_, i)})
                made.append(self.expect(answer, 201).json["id"])
            if round_ % 2 == 0:
                for i in chance.sample(range(3), 3):
                    cluster.kill(i)
            else:
                cluster.stop_all()
            ready.append(cluster.start(chance.sample(range(3), 3), lambda: chance.uniform(0, 0.3)))
            for i in range(3):
                self.assertEqual({r["id"] for r in self.list_all(cluster.at(i, user))}, set(made), "node %d" % i)
        self.assertEqual(len(made), len(set(made)))
        print("%d restarts: ready %.2f s after the last node's start, at most" % (ROUNDS, max(ready)), flush=True)

    def test_a_node_that_comes_back_has_what_was_written_meanwhile(self):
        cluster = self.cluster()
        user = cluster.signup(0, "ada")
        for i in range(3):
            cluster.kill(i)
            other = cluster.at((i + 1) % 3, user)
            made = self.expect(other.post("/v1/reminders", {"title": "without %d" % i}), 201).json
            cluster.launch(i)
            cluster.wait_ready()
            self.assertEqual(self.expect(cluster.at(i, user).get("/v1/reminders/" + made["id"]), 200).json, made)


class Together(ClusterTest):
    def test_an_account_is_the_same_everywhere(self):
        cluster = self.cluster()
        cluster.signup(0, "ada")
        answer = cluster.nodes[1].client().post("/v1/auth/login", {"login": "ada@example.org", "password": "correct horse"})
        token = self.expect(answer, 200).json["access_token"]
        made = self.expect(cluster.nodes[2].client(token).post("/v1/reminders", {"title": "everywhere"}), 201).json
        for node in cluster.nodes:
            self.assertEqual(self.expect(node.client(token).get("/v1/reminders/" + made["id"]), 200).json, made)
            self.assertEqual([r["id"] for r in self.list_all(node.client(token))], [made["id"]])
        self.expect(cluster.nodes[2].client().post("/v1/auth/signup", {
            "username": "ADA", "email": "another@example.org", "password": "correct horse"}), 409, "username_taken")

    def test_a_logout_is_seen_everywhere_within_a_second(self):
        cluster = self.cluster()
        user = cluster.signup(0, "ada")
        for i in range(3):
            self.expect(cluster.at(i, user).get("/v1/users/me"), 200)
        self.expect(user.post("/v1/auth/logout"), 204)
        time.sleep(1)
        for i in range(3):
            self.expect(cluster.at(i, user).get("/v1/users/me"), 401)

    def test_a_token_made_after_others_were_revoked_is_good_everywhere_at_once(self):
        """Whether by a login or a refresh, wherever: the node asked may not have heard of the revocation yet."""
        cluster = self.cluster()
        cluster.signup(0, "root")
        self.operator(cluster.nodes[0], "admin", "root")
        login = {"login": "root", "password": "correct horse"}
        chance, dead = random.Random(SEED), []
        for n in range(60):
            revoker, maker = chance.sample(range(3), 2)
            fresh = self.expect(cluster.nodes[maker].client().post("/v1/auth/login", login), 200).json
            admin, how = cluster.nodes[revoker].client(fresh["access_token"]), n % 3
            if how == 0:
                self.expect(admin.post("/v1/auth/logout?everywhere=true"), 204)
            elif how == 1:
                self.expect(admin.put("/v1/users/me/password", {"old": login["password"], "new": "correct horse %d" % n}), 204)
                login["password"] = "correct horse %d" % n
            else:
                self.expect(admin.patch("/v1/users/root", {"role": "admin"}), 200)
            made = cluster.nodes[maker].client().post("/v1/auth/refresh", {"refresh_token": fresh["refresh_token"]}) if how == 2 else \
                cluster.nodes[maker].client().post("/v1/auth/login", login)
            token = self.expect(made, 200).json["access_token"]
            dead += [how for node in cluster.nodes if node.client(token).get("/v1/users/me").status != 200]
        self.assertEqual(dead, [])

    def write_here_read_there(self, cluster, user, pairs):
        clients = [cluster.at(i, user) for i in range(3)]
        made = self.expect(clients[0].post("/v1/reminders", {"title": "pair"}), 201).json
        for i in range(pairs):
            writer, reader = clients[i % 3], clients[(i + 1 + i // 3 % 2) % 3]
            content = "version %d" % i
            self.expect(writer.patch("/v1/reminders/" + made["id"], {"content": content}), 200)
            seen = self.expect(reader.get("/v1/reminders/" + made["id"]), 200).json
            self.assertEqual(seen["content"], content)
            if i % 10 == 0:
                self.assertEqual(self.list_all(reader)[0]["content"], content)

    def test_what_is_written_on_one_is_read_on_another_at_once(self):
        """Also while leadership moves: nodes are drained and taken back, one after the other."""
        cluster = self.cluster()
        users = [cluster.signup(i % 3, "user%d" % i) for i in range(6)]  # of several partitions
        drains = 0
        with concurrent.futures.ThreadPoolExecutor(len(users)) as pool:
            pending = {pool.submit(self.write_here_read_there, cluster, user, PAIRS // len(users)) for user in users}
            while pending:
                victim = self.node_id(cluster.nodes[drains % 3])
                self.operator(cluster.nodes[0], "drain", victim)
                cluster.wait("it leads nothing", lambda: not cluster.leads(drains % 3))
                self.operator(cluster.nodes[0], "drain", victim, "--off")
                cluster.wait("it leads again", lambda: cluster.leads(drains % 3))
                drains += 1
                pending = {pair for pair in pending if not pair.done() or pair.result()}
        print("%d pairs over %d drains: nothing stale" % (PAIRS // len(users) * len(users), drains), flush=True)


class Majority(ClusterTest):
    def test_without_a_majority_nothing_is_promised_and_local_reads_go_on(self):
        cluster = self.cluster()
        user = cluster.signup(0, "ada")
        made = self.expect(user.post("/v1/reminders", {"title": "kept"}), 201).json
        left, other, third = random.Random(SEED).sample(range(3), 3)
        client = cluster.at(left, user)
        self.expect(client.get("/v1/reminders/" + made["id"]), 200)
        cluster.kill(other)
        cluster.kill(third)
        until = time.monotonic() + 10 * SLOW
        while client.post("/v1/reminders", {"title": "too late"}).status != 503:
            self.assertLess(time.monotonic(), until, "writes are still acknowledged")
        for method, path, body in (("POST", "/v1/reminders", {"title": "never"}),
                                   ("PATCH", "/v1/reminders/" + made["id"], {"title": "never"}),
                                   ("GET", "/v1/reminders/" + made["id"], None),
                                   ("GET", "/v1/reminders", None)):
            began = time.monotonic()
            answer = client.request(method, path, body)
            self.expect(answer, 503, "no_quorum")
            self.assertIn("Retry-After", answer.headers)
            self.assertLess(time.monotonic() - began, NO_QUORUM_S * SLOW, method + " " + path)
        local = self.expect(client.get("/v1/reminders/%s?consistency=local" % made["id"]), 200)
        self.assertEqual(local.json, made)
        self.assertEqual(local.headers["X-Belfry-Consistency"], "local")
        self.expect(client.get("/v1/reminders?consistency=local"), 200)
        self.assertEqual(cluster.get(left, "/livez")[0], 200)
        status, text = cluster.get(left, "/readyz")
        self.assertEqual(status, 503, text)

        cluster.launch(other)
        cluster.wait_ready(left, other)
        again = self.expect(cluster.at(other, user).post("/v1/reminders", {"title": "again"}), 201).json
        titles = [r["title"] for r in self.list_all(client)]
        self.assertNotIn("never", titles)
        self.assertEqual(titles[0], again["title"])
        self.assertEqual(titles[-1], "kept")

    def test_who_is_paused_is_missed_and_shows_nothing_old(self):
        cluster = self.cluster()
        user = cluster.signup(0, "ada")
        made = self.expect(user.post("/v1/reminders", {"title": "v0"}), 201).json
        for i in range(3):
            paused, other = cluster.nodes[i], cluster.at((i + 1) % 3, user)
            paused.process.send_signal(signal.SIGSTOP)
            try:
                for n in range(20):
                    self.expect(other.patch("/v1/reminders/" + made["id"], {"title": "%d.%d" % (i, n)}), 200)
            finally:
                paused.process.send_signal(signal.SIGCONT)
            seen = self.expect(cluster.at(i, user).get("/v1/reminders/" + made["id"]), 200).json
            self.assertEqual(seen["title"], "%d.19" % i)
            cluster.wait_ready()


if __name__ == "__main__":
    main()
