"""The facade `tasks` (docs/facades.md) as its clients use it: Express and mongoose in shape, belfry behind."""
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from belfry import BINARY, SLOW, main
from cluster import free_ports
from facade import FacadeTest, Product, claims, ended, facade_cluster, until_no_majority

NOT_FOUND = {"erro": "error 404", "message": "not found"}
HEX = r"^[0-9a-f]{24}$"
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"


class TasksTest(FacadeTest):
    facade = "tasks"

    def signup(self, name, password="1234", **more):
        answer = self.expect(self.product().post("/users/signup", dict({"name": name.title(), "username": name, "email": name + "@team", "password": password}, **more)), 200)
        client = self.product(token=answer.json["token"])
        client.user = answer.json["user"]
        return client

    def admin(self, client):
        """The account as /v1 knows it becomes an administrator; the token ends with the old role."""
        name = self.v1_of(client)
        subprocess.run([BINARY, "admin", "--data", self.node.data, name], check=True, stdout=subprocess.DEVNULL)

    def v1_of(self, client):
        """The generated username: the token tells it."""
        return claims(client.token)[1]["preferred_username"]


class Users(TasksTest):
    def test_signup_answers_the_user_and_a_token(self):
        answer = self.expect(self.product().post("/users/signup", {"name": "Ann", "username": "ann", "email": "ann@x", "password": "p", "role": "Admin", "other": [1]}), 200)
        self.assertEqual(set(answer.json), {"user", "token"})
        user = answer.json["user"]
        self.assertEqual(set(user), {"role", "tasks", "_id", "name", "email", "username", "createdAt", "updatedAt", "__v"})
        self.assertRegex(user["_id"], HEX)
        self.assertRegex(user["createdAt"], TIME)
        self.assertEqual((user["role"], user["tasks"], user["__v"], user["name"], user["email"], user["username"]), ("worker", [], 0, "Ann", "ann@x", "ann"))
        header, payload = claims(answer.json["token"])
        self.assertEqual(header["alg"], "HS256")
        self.assertEqual(payload["_id"], user["_id"])
        self.assertEqual(payload["exp"] - payload["iat"], 360000)
        self.assertEqual(answer.headers["Cache-Control"], "no-store")
        self.assertTrue(answer.headers["Content-Type"].startswith("application/json"))

    def test_the_same_body_makes_new_users(self):
        body = {"username": "admin", "email": "a@b", "password": "1234"}
        ids = [self.expect(self.product().post("/users/signup", body), 200).json["user"]["_id"] for _ in range(4)]
        self.assertEqual(len(set(ids)), 4)
        for login in ("a@b", "admin", "ADMIN"):  # the oldest one
            answer = self.expect(self.product().post("/users/login", {"email": login, "password": "1234"}), 200)
            self.assertEqual(answer.json["user"]["_id"], ids[0])

    def test_any_body_with_a_password(self):
        for body in ({"password": "x"}, {"password": 1234}, {"email": "a", "password": "\u00e9" * 3000}, {"name": None, "username": "", "password": "p"}):
            self.expect(self.product().post("/users/signup", body), 200)
        self.assertNotIn("name", self.product().post("/users/signup", {"password": "x"}).json["user"])
        for body in ({}, {"email": "a@b"}, {"password": ""}, {"password": None}, {"password": {"a": 1}}):
            answer = self.expect(self.product().post("/users/signup", body), 500)
            self.assertEqual(answer.json, {"error": "error 500", "message": "Internal server error"})
        self.expect(self.product().post("/users/signup"), 500)
        self.expect(self.product().post("/users/signup", {"password": "x", "email": "e" * 255}), 400)

    def test_urlencoded_bodies(self):
        form = self.product(form=True)
        self.expect(form.post("/users/signup", {"username": "form user", "email": "f+1@x", "password": "a&b=c%"}), 200)
        answer = self.expect(form.post("/users/login", {"email": "f+1@x", "password": "a&b=c%"}), 200)
        self.assertEqual(answer.json["user"]["username"], "form user")
        # a body of another type is no body
        answer = self.expect(self.product().post("/users/login", raw='{"email":"a"}', headers={"Content-Type": "text/plain"}), 401)
        self.assertEqual(answer.json["message"], "Missing credentials")

    def test_login(self):
        ben = self.signup("ben")
        answer = self.expect(self.product().post("/users/login", {"email": "ben@team", "password": "1234"}), 200)
        self.assertEqual(set(answer.json), {"token", "user"})
        self.assertEqual(answer.json["user"]["_id"], ben.user["_id"])
        self.assertNotIn("password", answer.json["user"])
        for body, message in (({"email": "nobody", "password": "1234"}, "Incorrect email/username."), ({"email": "ben", "password": "12345"}, "Incorrect password."),
                              ({"email": "ben"}, "Missing credentials"), ({"password": "1"}, "Missing credentials"), ({"email": "x" * 5000, "password": "1"}, "Incorrect email/username.")):
            answer = self.expect(self.product().post("/users/login", body), 401)
            self.assertEqual(answer.json, {"error": "Authentication failed", "message": message})
            self.assertIsNone(answer.headers["WWW-Authenticate"])

    def test_a_hash_is_no_password(self):
        self.signup("hash", password="secret")
        for wrong in ("$2a$10$", "$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA"):
            self.expect(self.product().post("/users/login", {"email": "hash", "password": wrong}), 401)

    def test_an_alias_does_not_hide_a_v1_account_nor_the_other_way(self):
        self.node.signup("shared", password="password of v1")
        self.signup("shared", password="of tasks")
        mine = self.expect(self.product().post("/users/login", {"email": "shared", "password": "of tasks"}), 200).json
        theirs = self.expect(self.product().post("/users/login", {"email": "shared", "password": "password of v1"}), 200).json
        self.assertNotEqual(mine["user"]["_id"], theirs["user"]["_id"])
        self.assertEqual(theirs["user"]["username"], "shared")
        self.assertEqual(theirs["user"]["email"], "shared@example.org")
        self.assertEqual(self.product().post("/users/login", {"email": "shared", "password": "neither"}).json["message"], "Incorrect password.")
        # what /v1 keeps private is not told to other users
        other = self.signup("curious")
        self.assertNotIn("email", other.get("/users/" + theirs["user"]["_id"]).json)

    def test_the_account_is_one_of_v1(self):
        cleo = self.signup("cleo")
        name = self.v1_of(cleo)
        self.assertRegex(name, r"^user-[0-9a-f]{24}$")
        login = self.expect(self.node.client().post("/v1/auth/login", {"login": name, "password": "1234"}), 200).json
        self.assertNotIn("email", login["user"])
        self.assertNotIn("alias_email", json.dumps(login))
        self.expect(self.node.client(login["access_token"]).get("/v1/users/me"), 200)

    def test_one_user_and_all(self):
        dora, eve = self.signup("dora"), self.signup("eve")
        task = self.expect(dora.post("/tasks", {"title": "t", "assignedTo": eve.user["_id"]}), 200).json
        answer = self.expect(dora.get("/users/" + eve.user["_id"]), 200)
        self.assertEqual([t["_id"] for t in answer.json["tasks"]], [task["_id"]])
        self.assertEqual(answer.json["tasks"][0]["assignedTo"], eve.user["_id"])
        self.assertEqual(self.expect(dora.get("/users/" + "f" * 24), 200).text, "null")
        self.assertEqual(self.expect(dora.get("/users/ffff"), 404).json, NOT_FOUND)
        answer = self.expect(dora.get("/users"), 403)
        self.assertEqual(answer.json, {"error": "error 403 unathorized", "message": "You are not authorized to perform this operation only for admin user!"})
        self.admin(dora)
        self.assertTrue(ended(lambda: dora.get("/tasks").status == 401))  # a role's tokens end with it
        login = self.expect(self.product().post("/users/login", {"email": "dora", "password": "1234"}), 200).json
        self.assertEqual(login["user"]["role"], "Admin")
        dora.token = login["token"]
        users = self.expect(dora.get("/users"), 200).json
        found = {u["_id"]: u for u in users}
        self.assertEqual(found[eve.user["_id"]]["tasks"][0]["_id"], task["_id"])
        self.assertEqual([u["createdAt"] for u in users], sorted(u["createdAt"] for u in users))
        self.assertNotIn("password", self.expect(dora.get("/users"), 200).text)
        self.assertEqual(self.product().post("/users/login", {"email": "eve", "password": "1234"}).json["user"]["tasks"], [task["_id"]])


class Tokens(TasksTest):
    def refused(self, answer):
        self.expect(answer, 401)
        self.assertEqual(answer.text, "Unauthorized")
        self.assertTrue(answer.headers["Content-Type"].startswith("text/plain"))
        self.assertIsNone(answer.headers["WWW-Authenticate"])

    def test_missing_and_bad(self):
        fred = self.signup("fred")
        for path in ("/tasks", "/users", "/tasks/" + "0" * 24, "/users/" + "0" * 24):
            self.refused(self.product().get(path))
        head, payload, mac = fred.token.split(".")
        for token in ("x", "a.b.c", head + "." + payload + ".", head + "." + payload + "." + mac[:-2], fred.token + "A", "." + payload + "." + mac):
            self.refused(self.product(token=token).get("/tasks"))
        self.refused(self.product(token=fred.token).get("/tasks", scheme="JWT"))
        self.expect(fred.get("/tasks", scheme="bearer"), 200)
        self.expect(fred.get("/tasks", scheme="BEARER"), 200)
        none = "eyJhbGciOiJub25lIn0." + payload + "."
        self.refused(self.product(token=none).get("/tasks"))

    def test_good_here_alone(self):
        gina = self.signup("gina")
        self.expect(gina.get("/tasks"), 200)
        self.expect(self.node.client(gina.token).get("/v1/users/me"), 401)
        self.expect(gina.get("/tasks"), 200)
        v1 = self.node.signup("gina-v1")
        self.refused(self.product(token=v1.token).get("/tasks"))
        self.expect(v1.get("/v1/users/me"), 200)
        self.refused(self.product(token=v1.token).get("/tasks"))

    def v1(self, client):
        login = self.expect(self.node.client().post("/v1/auth/login", {"login": self.v1_of(client), "password": "1234"}), 200).json
        return self.node.client(login["access_token"])

    def test_password_change_ends_it(self):
        hal = self.signup("hal")
        v1 = self.v1(hal)
        self.expect(v1.put("/v1/users/me/password", {"old": "1234", "new": "another one"}), 204)
        self.assertTrue(ended(lambda: hal.get("/tasks").status == 401))
        self.expect(self.product().post("/users/login", {"email": "hal", "password": "1234"}), 401)
        hal.token = self.expect(self.product().post("/users/login", {"email": "hal", "password": "another one"}), 200).json["token"]
        self.expect(hal.get("/tasks"), 200)
        self.assertFalse(ended(lambda: hal.get("/tasks").status != 200, 0.5 / SLOW))

    def test_logout_everywhere_ends_it(self):
        ida = self.signup("ida")
        v1 = self.v1(ida)
        self.expect(v1.post("/v1/auth/logout"), 204)  # one session is not all
        self.assertFalse(ended(lambda: ida.get("/tasks").status != 200, 0.3 / SLOW))
        self.expect(self.v1(ida).post("/v1/auth/logout?everywhere=true"), 204)
        self.assertTrue(ended(lambda: ida.get("/tasks").status == 401))
        self.expect(self.product().post("/users/login", {"email": "ida", "password": "1234"}), 200)

    def test_deletion_ends_it_and_its_aliases(self):
        jo, second = self.signup("jo"), self.signup("jo", password="second")
        task = self.expect(jo.post("/tasks", {"title": "gone"}), 200).json
        self.expect(self.v1(jo).delete("/v1/users/me"), 204)
        self.assertTrue(ended(lambda: jo.get("/tasks").status == 401))
        self.assertEqual(second.get("/tasks/" + task["_id"]).text, "null")
        self.assertEqual(second.get("/users/" + jo.user["_id"]).text, "null")
        self.expect(self.product().post("/users/login", {"email": "jo", "password": "1234"}), 401)
        for login in ("jo", "jo@team"):
            answer = self.expect(self.product().post("/users/login", {"email": login, "password": "second"}), 200)
            self.assertEqual(answer.json["user"]["_id"], second.user["_id"])


class SlowLogins(TasksTest):
    flags = ["--argon2-memory-kib", "65536", "--argon2-passes", "60"]

    def test_a_token_is_as_old_as_the_look_at_the_account(self):
        """Revocations are forgotten when tokens from before them have ended: the password's check does not count."""
        self.signup("abe")
        before = time.time()
        answer = self.expect(self.product().post("/users/login", {"email": "abe", "password": "1234"}), 200)
        after, payload = time.time(), claims(answer.json["token"])[1]
        self.assertLessEqual(payload["iat"], (before + after) / 2)  # a whole second; the check takes two or more
        self.assertEqual(payload["exp"] - payload["iat"], 360000)


class Deletions(TasksTest):
    """Logins that race with the deletion of their account: what they got ends with it, wherever it is shown."""
    ROUNDS = 12

    @classmethod
    def setUpClass(cls):
        cls.remindme_port, = free_ports(1)
        cls.flags = ["--listen", "127.0.0.1:%d,facade=remindme" % cls.remindme_port]
        super().setUpClass()

    def login(self, kind, alias, name):
        """A token, or None when there is no such account any more."""
        if kind == "tasks":
            answer = self.product().post("/users/login", {"email": alias, "password": "1234"})
            return answer.json["token"] if answer.status == 200 else None
        if kind == "remindme":
            answer = Product(self.remindme_port).post("/api/user-login/", {"username": name, "password": "1234"})
            return answer.json["jwt"] if answer.status == 200 else None
        answer = self.node.client().post("/v1/auth/login", {"login": name, "password": "1234"})
        return answer.json["access_token"] if answer.status == 200 else None

    def routes(self, kind, token, user, task):
        """Every answer that asks for a token. The task is somebody else's."""
        if kind == "tasks":
            client = self.product(token=token)
            return [client.request(*r) for r in (("GET", "/tasks"), ("GET", "/tasks/" + task), ("GET", "/users"), ("GET", "/users/" + user), ("POST", "/tasks", {"title": "x"}),
                                                 ("PUT", "/tasks/" + task, {"title": "x"}), ("DELETE", "/tasks/" + task))]
        if kind == "remindme":
            client = Product(self.remindme_port, cookies={"jwt": token})
            return [client.request(*r) for r in (("GET", "/api/current-user/"), ("GET", "/api/task-list/"), ("POST", "/api/task-create/", {"title": "x"}), ("POST", "/api/task-update/1/", {"title": "x"}),
                                                 ("DELETE", "/api/task-delete/1/"), ("GET", "/api/profile/"), ("GET", "/api/reminder/"), ("POST", "/api/create-reminder/", {"title": "x"}))]
        client = self.node.client(token)
        return [client.request(*r) for r in (("GET", "/v1/users/me"), ("GET", "/v1/reminders"), ("POST", "/v1/reminders", {"title": "x"}), ("DELETE", "/v1/users/me"))]

    def test_no_token_survives(self):
        other = self.signup("witness")
        task = self.expect(other.post("/tasks", {"title": "stays"}), 200).json["_id"]
        got = {"tasks": 0, "remindme": 0, "v1": 0}
        for i in range(self.ROUNDS):
            victim = self.signup("victim%d" % i)
            name, tokens, gone = self.v1_of(victim), [], threading.Event()
            v1 = self.node.client(self.login("v1", None, name))

            def work(kind):
                while True:
                    last = gone.is_set()
                    token = self.login(kind, "victim%d" % i, name)
                    if token:
                        tokens.append((kind, token))
                    if last:
                        return

            threads = [threading.Thread(target=work, args=(kind,)) for kind in ("tasks", "remindme", "v1") * 2]
            for thread in threads:
                thread.start()
            self.assertTrue(ended(lambda: len(tokens) > 6, 10))
            self.expect(v1.delete("/v1/users/me"), 204)
            gone.set()
            for thread in threads:
                thread.join()
            for kind, token in set(tokens):
                got[kind] += 1
                for answer in self.routes(kind, token, victim.user["_id"], task):
                    self.expect(answer, 403 if kind == "remindme" else 401)
                    if kind == "remindme":
                        self.assertEqual(answer.json, {"detail": "You are not logged in! Or Token Expired Log in again."})
        self.assertTrue(all(got.values()), got)
        self.assertEqual(other.get("/tasks/" + task).json["title"], "stays")


class Tasks(TasksTest):
    def test_create_read_change_delete(self):
        kim, lou = self.signup("kim"), self.signup("lou")
        answer = self.expect(kim.post("/tasks", {"title": "paint", "status": "to Do", "assignedTo": lou.user["_id"], "deadline": "2031-05-01"}), 200)
        task = answer.json
        self.assertEqual(set(task), {"_id", "title", "status", "assignedTo", "deadline", "createdAt", "updatedAt", "__v"})
        self.assertRegex(task["_id"], HEX)
        self.assertEqual((task["title"], task["status"], task["assignedTo"], task["deadline"], task["__v"]), ("paint", "to Do", lou.user["_id"], "2031-05-01T00:00:00.000Z", 0))
        self.assertRegex(task["createdAt"], TIME)
        one = self.expect(kim.get("/tasks/" + task["_id"]), 200).json
        self.assertEqual(one["assignedTo"]["_id"], lou.user["_id"])
        self.assertEqual(one["assignedTo"]["tasks"], [task["_id"]])
        listed = [t for t in self.expect(lou.get("/tasks"), 200).json if t["_id"] == task["_id"]]
        self.assertEqual(listed, [one])
        # anybody with a token changes any task of this product
        changed = self.expect(lou.put("/tasks/" + task["_id"], {"status": "Doing"}), 200).json
        self.assertEqual((changed["status"], changed["title"], changed["assignedTo"]), ("Doing", "paint", lou.user["_id"]))
        self.assertGreaterEqual(changed["updatedAt"], task["updatedAt"])
        mia = self.signup("mia")
        changed = self.expect(mia.put("/tasks/" + task["_id"], {"title": "paint it", "status": "done", "assignedTo": mia.user["_id"], "deadline": None}), 200).json
        self.assertEqual((changed["status"], changed["title"], changed["assignedTo"]), ("Done", "paint it", mia.user["_id"]))
        self.assertNotIn("deadline", changed)
        self.assertEqual(lou.get("/users/" + lou.user["_id"]).json["tasks"], [])
        self.assertEqual([t["_id"] for t in lou.get("/users/" + mia.user["_id"]).json["tasks"]], [task["_id"]])
        self.assertEqual(self.expect(mia.put("/tasks/" + task["_id"], {"assignedTo": ""}), 200).json.get("assignedTo"), None)
        removed = self.expect(lou.delete("/tasks/" + task["_id"]), 200).json
        self.assertEqual((removed["_id"], removed["title"]), (task["_id"], "paint it"))
        for answer in (lou.get("/tasks/" + task["_id"]), lou.put("/tasks/" + task["_id"], {"title": "x"}), lou.delete("/tasks/" + task["_id"])):
            self.assertEqual(self.expect(answer, 200).text, "null")

    def test_the_same_task_under_v1(self):
        nan = self.signup("nan")
        task = self.expect(nan.post("/tasks", {"title": "both", "deadline": "2031-05-01T10:00:00+02:00"}), 200).json
        login = self.node.client().post("/v1/auth/login", {"login": self.v1_of(nan), "password": "1234"}).json
        v1 = self.node.client(login["access_token"])
        item, = self.expect(v1.get("/v1/reminders"), 200).json["items"]
        self.assertEqual((item["title"], item["public"], item["status"], item["due_at"]), ("both", True, "todo", "2031-05-01T08:00:00.000Z"))
        self.assertNotIn("of_tasks", item)
        self.expect(v1.patch("/v1/reminders/" + item["id"], {"status": "done", "content": "hm"}), 200)
        self.assertEqual(nan.get("/tasks/" + task["_id"]).json["status"], "Done")
        self.expect(nan.put("/tasks/" + task["_id"], {"status": "to Do"}), 200)
        self.assertEqual(v1.get("/v1/reminders/" + item["id"]).json["completed"], False)
        # under /v1 only its creator changes it
        other = self.node.signup("other-v1")
        self.expect(other.patch("/v1/reminders/" + item["id"], {"title": "mine"}), 403, "forbidden")
        self.expect(other.patch("/v1/reminders/" + item["id"], {"title": "mine", "of_tasks": True}), 422)
        self.expect(other.delete("/v1/reminders/" + item["id"]), 403, "forbidden")

    def test_reminders_of_v1_are_not_everybodys(self):
        v1 = self.node.signup("olga")
        public = self.expect(v1.post("/v1/reminders", {"title": "public one", "public": True}), 201).json
        private = self.expect(v1.post("/v1/reminders", {"title": "private one"}), 201).json
        pat = self.signup("pat")
        titles = {t["title"]: t["_id"] for t in self.expect(pat.get("/tasks"), 200).json}
        self.assertIn("public one", titles)
        self.assertNotIn("private one", titles)
        answer = self.expect(pat.put("/tasks/" + titles["public one"], {"title": "x"}), 403)
        self.assertEqual(answer.json["error"], "error 403 unathorized")
        self.expect(pat.delete("/tasks/" + titles["public one"]), 403)
        own = self.product(token=self.product().post("/users/login", {"email": "olga", "password": "correct horse"}).json["token"])
        mine = {t["title"]: t["_id"] for t in own.get("/tasks").json}
        self.assertEqual(pat.get("/tasks/" + mine["private one"]).text, "null")
        self.assertEqual(pat.delete("/tasks/" + mine["private one"]).text, "null")
        self.assertEqual(self.expect(own.put("/tasks/" + mine["private one"], {"status": "doing"}), 200).json["status"], "Doing")
        self.assertEqual(v1.get("/v1/reminders/" + private["id"]).json["status"], "doing")
        self.expect(v1.get("/v1/reminders/" + public["id"]), 200)

    def test_a_series_of_v1_goes_on(self):
        v1 = self.node.signup("sol")
        made = self.expect(v1.post("/v1/reminders", {"title": "daily", "due_at": "2031-05-01T10:00:00Z", "recurrence": "FREQ=DAILY", "time_zone": "Europe/Paris"}), 201).json
        sol = self.product(token=self.product().post("/users/login", {"email": "sol", "password": "correct horse"}).json["token"])
        task = next(t for t in sol.get("/tasks").json if t["title"] == "daily")
        for change, due in (({"status": "Done"}, "2031-05-01"), ({"status": "to Do"}, None), (dict(task, status="Doing"), "2031-05-01"), ({"deadline": "2032-06-01T08:00:00Z"}, "2032-06-01")):
            self.expect(sol.put("/tasks/" + task["_id"], change), 200)
            item = v1.get("/v1/reminders/" + made["id"]).json
            self.assertEqual((item["recurrence"], item["time_zone"]), ("FREQ=DAILY", "Europe/Paris"))
            self.assertTrue(due is None or item["due_at"].startswith(due), (change, item))
        self.expect(sol.put("/tasks/" + task["_id"], {"deadline": None}), 422)  # a series needs a time

    def test_lenient_bodies(self):
        quin = self.signup("quin")
        self.assertEqual(self.expect(quin.post("/tasks", {}), 200).json["title"], "untitled")
        task = self.expect(quin.post("/tasks", {"title": 12, "status": "In review", "unknown": 1, "deadline": 1893456000000}), 200).json
        self.assertEqual((task["title"], task["status"], task["deadline"]), ("12", "to Do", "2030-01-01T00:00:00.000Z"))
        whole = quin.get("/tasks/" + task["_id"]).json
        whole["assignedTo"] = self.product(token=quin.token).get("/users/" + quin.user["_id"]).json
        self.assertEqual(self.expect(quin.put("/tasks/" + task["_id"], whole), 200).json["assignedTo"], quin.user["_id"])
        form = self.product(token=quin.token, form=True)
        self.assertEqual(self.expect(form.post("/tasks", {"title": "a b\n\x1bc", "status": "DOING"}), 200).json["title"], "a b  c")
        for deadline, iso in (("2031-01-02T03:04", "2031-01-02T03:04:00.000Z"), ("2031-01-02T03:04:05.6Z", "2031-01-02T03:04:05.600Z"), ("2031-01-02 03:04:05", "2031-01-02T03:04:05.000Z"), ("2031-01-02T03:04-01:00", "2031-01-02T04:04:00.000Z"),
                              ("1893456000000", "2030-01-01T00:00:00.000Z"), ("123456789", "1970-01-02T10:17:36.789Z"), ("253402300799999", "9999-12-31T23:59:59.999Z")):
            for client in (quin, form):
                self.assertEqual(client.post("/tasks", {"title": "d", "deadline": deadline}).json.get("deadline"), iso)

    def test_what_mongoose_refuses(self):
        rita = self.signup("rita")
        for answer in (rita.get("/tasks/xyz"), rita.put("/tasks/xyz", {"title": "t"}), rita.delete("/tasks/1"), rita.post("/tasks", {"title": "t", "assignedTo": "bob"}),
                       rita.post("/tasks", {"title": "t", "deadline": "tomorrow"}), rita.post("/tasks", {"title": "t", "deadline": "2031-02-30"}),
                       *(rita.post("/tasks", {"title": "t", "deadline": deadline}) for deadline in ("20310102", "253402300800000", "-123456789", "1893456000000.5", "2031-01-02T03:04+0200"))):
            self.expect(answer, 500)
            self.assertEqual(answer.json["message"], "Internal server error")
            self.assertEqual(answer.json["error"]["name"], "CastError")
        self.expect(rita.post("/tasks", {"title": "t", "assignedTo": "0" * 24}), 500)
        self.expect(rita.post("/tasks", {"title": "t" * 201}), 500)
        self.assertNotIn("t" * 201, rita.get("/tasks").text)

    def test_a_clients_mistake_is_no_error_of_ours(self):
        sue = self.signup("sue")
        self.expect(sue.get("/tasks/xyz", headers={"X-Request-Id": "mistaken"}), 500)
        self.assertTrue(ended(lambda: "mistaken" in self.node.log_text(), 5))
        line, = [line for line in map(json.loads, self.node.log_text().splitlines()) if line.get("request_id") == "mistaken"]
        self.assertEqual((line["level"], line["status"]), ("info", 500))


class Edges(TasksTest):
    def test_everything_else_is_404_and_misspelt(self):
        for method, path in (("GET", "/"), ("GET", "/nix"), ("POST", "/users"), ("DELETE", "/users/" + "0" * 24), ("PATCH", "/tasks"), ("GET", "/users/signup"), ("GET", "/users/signup/x"),
                             ("GET", "/v1/users/me"), ("GET", "/livez"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("OPTIONS", "/tasks"), ("POST", "/v1/auth/login")):
            answer = self.expect(self.product().request(method, path), 404)
            self.assertEqual(answer.json, NOT_FOUND, (method, path))
        self.expect(self.node.client().get("/tasks"), 404, "not_found")

    def test_what_a_listener_may_carry(self):
        for listen in ("127.0.0.1:0,facade=nope", "127.0.0.1:0,facade=", "127.0.0.1:0,tasks", "127.0.0.1:0,"):
            run = subprocess.run([BINARY, "serve", "--data", self.node.data, "--listen", listen], capture_output=True, text=True, timeout=30 * SLOW)
            self.assertNotEqual(run.returncode, 0)
            self.assertIn("the facades are remindme tasks beanstalkd", run.stderr)
        run = subprocess.run([BINARY, "serve", "--listen", "localhost:3000,facade=tasks", "--print-config"], capture_output=True, text=True, timeout=30 * SLOW)
        self.assertIn("listen = localhost:3000,facade=tasks\n", run.stdout)

    def test_a_slash_more(self):
        self.expect(self.product().post("/users/signup/", {"password": "x"}), 200)

    def test_broken_and_large_bodies(self):
        for body in ('{"a"', "nul", '"text"', '{"a":"<b>"x}'):
            answer = self.expect(self.product().post("/users/signup", raw=body, headers={"Content-Type": "application/json"}), 400)
            self.assertTrue(answer.headers["Content-Type"].startswith("text/html"))
            self.assertIn("<pre>SyntaxError: ", answer.text)
            self.assertNotIn("<b>", answer.text)
        large = '{"password":"' + "x" * (100 * 1024) + '"}'
        answer = self.expect(self.product().post("/users/signup", raw=large, headers={"Content-Type": "application/json"}), 413)
        self.assertIn("PayloadTooLargeError", answer.text)
        answer = self.expect(self.product().get("/" + "x" * 9000), 414)
        self.assertEqual(answer.json["error"], "error 414")
        answer = self.expect(self.product().get("/tasks", headers={"X": "y" * 20000}), 431)
        self.assertEqual(answer.json["error"], "error 431")

    def http10(self, body):
        with socket.create_connection(("127.0.0.1", self.facade_port), timeout=30 * SLOW) as s:
            s.sendall(b"POST /users/signup HTTP/1.0\r\nContent-length: %d\r\nContent-type: application/json\r\nHost: localhost\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n%s" % (len(body), body))
            out = b""
            while True:
                got = s.recv(65536)
                if not got:
                    return out
                out += got

    def test_as_ab_speaks(self):
        body = json.dumps({"username": "admin", "email": "ab@b", "password": "1234"}).encode()
        seen = []

        def work():
            for _ in range(5):
                seen.append(self.http10(body))
        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        ids = set()
        for answer in seen:
            head, _, text = answer.partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
            self.assertIn(b"Connection: close", head)
            self.assertIn(b"Content-Length: %d" % len(text), head)
            self.assertNotIn(b"chunked", head)
            ids.add(json.loads(text)["user"]["_id"])
        self.assertEqual(len(ids), 20)

    @unittest.skipUnless(shutil.which("ab"), "ab is not installed")
    def test_ab_itself(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as credentials:
            json.dump({"username": "admin", "email": "ab2@b", "password": "1234"}, credentials)
            credentials.flush()
            run = subprocess.run(["ab", "-p", credentials.name, "-T", "application/json", "-c", "10", "-n", "100", "-l", "http://127.0.0.1:%d/users/signup" % self.facade_port],
                                 capture_output=True, text=True, timeout=120 * SLOW)
        self.assertIn("Complete requests:      100", run.stdout, run.stderr)
        self.assertIn("Failed requests:        0", run.stdout)
        self.assertNotIn("Non-2xx", run.stdout)


class Clusters(unittest.TestCase):
    def test_the_client_goes_on_at_another_node(self):
        cluster, ports = facade_cluster("tasks")
        with cluster:
            answer = Product(ports[0]).post("/users/signup", {"username": "tess", "email": "t@x", "password": "1234"})
            self.assertEqual(answer.status, 200, answer.text)
            token, me = answer.json["token"], answer.json["user"]["_id"]
            made = [Product(ports[i], token=token).post("/tasks", {"title": "task %d" % i, "assignedTo": me}) for i in range(3)]
            self.assertEqual([m.status for m in made], [200] * 3, made[0].text)
            cluster.kill(0)
            listed = Product(ports[1], token=token).get("/tasks")
            self.assertEqual(listed.status, 200, listed.text)
            self.assertEqual([t["title"] for t in listed.json], ["task 0", "task 1", "task 2"])
            changed = Product(ports[2], token=token).put("/tasks/" + made[0].json["_id"], {"status": "Done"})
            self.assertEqual((changed.status, changed.json["status"]), (200, "Done"), changed.text)
            self.assertEqual(Product(ports[1], token=token).get("/tasks/" + made[0].json["_id"]).json["status"], "Done")
            login = Product(ports[1]).post("/users/login", {"email": "tess", "password": "1234"})
            self.assertEqual((login.status, len(login.json["user"]["tasks"])), (200, 3), login.text)
            # without a majority: the product's shape, and a status that says what it is
            cluster.kill(1)
            answer = until_no_majority(lambda: Product(ports[2], token=token).get("/tasks"))
            self.assertEqual(answer.json["error"], "error 503")
            self.assertTrue(answer.headers["Retry-After"])


if __name__ == "__main__":
    main()
