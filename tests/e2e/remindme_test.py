"""The facade `remindme` (docs/facades.md) as its clients use it: cookies, trailing slashes, forms and JSON, integer ids."""
import json
import re
import unittest

from belfry import Node, SLOW, main
from cluster import free_ports
from facade import FacadeTest, Product, claims, ended, facade_cluster, until_no_majority

LOGGED_OUT = {"detail": "You are not logged in! Or Token Expired Log in again."}
NO_ACCESS = {"msg": "You do not have access to this item!"}
GONE = {"detail": "Not found."}


class RemindmeTest(FacadeTest):
    facade = "remindme"

    def register(self, name, password="1234", **kw):
        client = self.product(**kw)
        self.expect(client.post("/api/user-register/", {"username": name, "email": name + "@remind.me", "password": password}), 200)
        return client

    def v1(self, name, password="correct horse"):
        login = self.expect(self.node.client().post("/v1/auth/login", {"login": name, "password": password}), 200).json
        return self.node.client(login["access_token"])

    def create(self, client, title, **more):
        return self.expect(client.post("/api/task-create/", dict({"title": title, "content": "", "public": False}, **more)), 200).json


class Users(RemindmeTest):
    def test_register_sets_the_cookie(self):
        client = self.product()
        answer = self.expect(client.post("/api/user-register/", {"username": "ann", "email": "ann@x.org", "password": "p"}), 200)
        self.assertEqual(set(answer.json), {"jwt"})
        cookie = answer.headers["Set-Cookie"]
        self.assertTrue(cookie.startswith("jwt=" + answer.json["jwt"] + ";"))
        self.assertIn("HttpOnly", cookie)
        self.assertIn("Path=/", cookie)
        self.assertNotIn("expires", cookie.lower())
        self.assertNotIn("max-age", cookie.lower())
        header, payload = claims(answer.json["jwt"])
        self.assertEqual((header["alg"], payload["username"], payload["email"]), ("HS256", "ann", "ann@x.org"))
        self.assertEqual(payload["exp"] - payload["iat"], 2 * 24 * 3600)
        self.expect(client.get("/api/current-user/"), 200)

    def test_register_refuses_as_the_serializer_does(self):
        self.register("ben")
        for body, expected in (({"username": "BEN", "email": "b2@x.org", "password": "p"}, {"username": ["user with this username already exists."]}),
                               ({"username": "ben2", "email": "Ben@remind.me", "password": "p"}, {"email": ["user with this email already exists."]}),
                               ({"email": "b3@x.org", "password": "p"}, {"username": ["This field is required."]}),
                               ({"username": "b", "password": "p"}, {"email": ["This field is required."]}),
                               ({"username": "b", "email": "b3@x.org"}, {"password": ["This field is required."]}),
                               ({"username": "b", "email": "b3@x.org", "password": ""}, {"password": ["This field may not be blank."]}),
                               ({"username": "b" * 65, "email": "b3@x.org", "password": "p"}, {"username": ["Ensure this field has no more than 64 characters."]}),
                               ({"username": "a@b", "email": "b3@x.org", "password": "p"}, {"username": ["A username has no @ or / and no space at its ends"]}),
                               ({"username": "a\u0007b", "email": "b3@x.org", "password": "p"}, {"username": ["Enter a valid username."]}),
                               ({"username": "b", "email": "no email", "password": "p"}, {"email": ["An email address has one @ with something on both sides"]})):
            client = self.product()
            answer = self.expect(client.post("/api/user-register/", body), 400)
            self.assertEqual(answer.json, expected)
            self.assertEqual(client.cookies, {})  # no token for somebody else's account
        # the username of a refused email is free again
        self.expect(self.product().post("/api/user-register/", {"username": "ben2", "email": "ben2@x.org", "password": "p"}), 200)

    def test_login_by_form_and_json(self):
        self.register("cleo", password="p w+&=%")
        for form in (False, True):
            client = self.product(form=form)
            answer = self.expect(client.post("/api/user-login/", {"username": "Cleo", "password": "p w+&=%"}), 200)
            self.assertEqual(set(answer.json), {"jwt"})
            self.assertEqual(client.get("/api/current-user/").json["username"], "cleo")
            self.assertEqual(self.expect(client.post("/api/user-login/", {"username": "nobody", "password": "p"}), 403).json, {"detail": "User not found!"})
            answer = self.expect(client.post("/api/user-login/", {"username": "cleo", "password": "x"}), 403)
            self.assertEqual(answer.json, {"detail": "Incorrect password!"})
            self.assertIsNone(answer.headers["WWW-Authenticate"])
            self.assertIsNone(answer.headers["Set-Cookie"])
        self.expect(self.product().post("/api/user-login/", {"password": "x"}), 400)

    def test_current_user_and_logout(self):
        dan = self.register("dan")
        user = self.expect(dan.get("/api/current-user/"), 200).json
        self.assertEqual((user["username"], user["email"], user["is_superuser"], user["first_name"], user["last_name"]), ("dan", "dan@remind.me", False, "", ""))
        self.assertIsInstance(user["id"], int)
        self.assertNotIn("password", user)
        self.assertNotIn("argon2", dan.get("/api/current-user/").text)
        answer = self.expect(dan.post("/api/user-logout/"), 200)
        self.assertEqual(answer.json, {"message": "success"})
        self.assertIn("jwt=", answer.headers["Set-Cookie"])
        self.assertIn("1970", answer.headers["Set-Cookie"])
        self.assertEqual(dan.cookies, {})
        self.assertEqual(self.expect(dan.get("/api/current-user/"), 403).json, LOGGED_OUT)
        self.expect(self.product().post("/api/user-logout/"), 200)

    def test_tokens(self):
        eve = self.register("eve")
        token = eve.cookies["jwt"]
        paths = (("GET", "/api/current-user/"), ("GET", "/api/task-list/"), ("POST", "/api/task-create/"), ("POST", "/api/task-update/1/"), ("DELETE", "/api/task-delete/1/"),
                 ("GET", "/api/profile/"), ("GET", "/api/reminder/"), ("POST", "/api/create-reminder/"))
        for method, path in paths:
            self.assertEqual(self.expect(self.product().request(method, path), 403).json, LOGGED_OUT)
        for bad in ("", "x", token[:-2], token + "A", "a.b.c"):
            self.assertEqual(self.expect(self.product(cookies={"jwt": bad}).get("/api/task-list/"), 403).json, LOGGED_OUT)
        self.expect(self.product(token=token).get("/api/task-list/"), 403)  # no Authorization header is read
        self.expect(self.product(cookies={"a": "b", "jwt": token, "c": "d"}).get("/api/task-list/"), 200)
        self.expect(self.product().get("/api/task-list/", headers={"Cookie": 'x=y;jwt="%s"' % token}), 200)
        self.expect(self.node.client(token).get("/v1/users/me"), 401)
        v1 = self.node.signup("eve-v1")
        self.expect(self.product(cookies={"jwt": v1.token}).get("/api/task-list/"), 403)

    def test_v1_ends_its_tokens(self):
        fay = self.register("fay", password="correct horse")
        self.expect(self.v1("fay").post("/v1/auth/logout?everywhere=true"), 204)
        self.assertTrue(ended(lambda: fay.get("/api/task-list/").status == 403))
        self.expect(fay.post("/api/user-login/", {"username": "fay", "password": "correct horse"}), 200)
        self.expect(fay.get("/api/task-list/"), 200)
        self.expect(self.v1("fay").put("/v1/users/me/password", {"old": "correct horse", "new": "battery staple"}), 204)
        self.assertTrue(ended(lambda: fay.get("/api/task-list/").status == 403))
        self.expect(fay.post("/api/user-login/", {"username": "fay", "password": "battery staple"}), 200)
        self.expect(self.v1("fay", "battery staple").delete("/v1/users/me"), 204)
        self.assertTrue(ended(lambda: fay.get("/api/task-list/").status == 403))
        self.assertEqual(fay.post("/api/user-login/", {"username": "fay", "password": "battery staple"}).json, {"detail": "User not found!"})

    def test_accounts_are_those_of_v1(self):
        self.node.signup("gus")
        client = self.product()
        self.expect(client.post("/api/user-login/", {"username": "gus", "password": "correct horse"}), 200)
        self.assertEqual(client.get("/api/current-user/").json["email"], "gus@example.org")
        self.register("hedy", password="1")
        self.assertEqual(self.v1("hedy", "1").get("/v1/users/me").json["email"], "hedy@remind.me")
        self.expect(self.node.client().post("/v1/auth/signup", {"username": "hedy", "email": "h@x.org", "password": "correct horse"}), 409, "username_taken")


class Reminders(RemindmeTest):
    def test_create_list_update_delete(self):
        ida = self.register("ida")
        made = self.expect(ida.post("/api/task-create/", {"title": "milk", "content": "two\nlitres", "created_by": "somebody", "public": False}), 200).json
        self.assertEqual(set(made), {"id", "title", "content", "created_by", "public"})
        self.assertEqual((made["title"], made["content"], made["created_by"], made["public"]), ("milk", "two\nlitres", "ida", False))
        self.assertIsInstance(made["id"], int)
        self.assertLess(made["id"], 2 ** 53)
        item, = self.expect(ida.get("/api/task-list/"), 200).json
        self.assertEqual(set(item), {"id", "title", "content", "completed", "regisDate", "created_by", "public"})
        self.assertEqual((item["id"], item["completed"], item["created_by"]), (made["id"], False, "ida"))
        self.assertRegex(item["regisDate"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        updated = self.expect(ida.post("/api/task-update/%d/" % made["id"], dict(item, title="more milk", completed=True, created_by="x", id=7)), 200).json
        self.assertEqual(updated, dict(item, title="more milk", completed=True))
        self.assertEqual(self.expect(ida.get("/api/task-detail/%d/" % made["id"]), 200).json, updated)
        self.assertEqual(self.expect(ida.delete("/api/task-delete/%d/" % made["id"]), 200).json, {"msg": "Item deleted successfully"})
        self.assertEqual(self.expect(ida.delete("/api/task-delete/%d/" % made["id"]), 403).json, NO_ACCESS)
        self.assertEqual(self.expect(ida.post("/api/task-update/%d/" % made["id"], item), 403).json, NO_ACCESS)
        self.assertEqual(ida.get("/api/task-list/").json, [])

    def test_newest_first_and_public_ones_of_others(self):
        jan, kit = self.register("jan"), self.register("kit", form=True)
        for i in range(30):
            self.create(jan, "jan %d" % i, public=i % 3 == 0)
            self.create(kit, "kit %d" % i, public="true" if i % 2 else "false")
        items = [i for i in jan.get("/api/task-list/").json if i["created_by"] in ("jan", "kit")]
        self.assertEqual([i["title"] for i in items if i["created_by"] == "jan"], ["jan %d" % i for i in reversed(range(30))])
        self.assertEqual([i["title"] for i in items if i["created_by"] == "kit"], ["kit %d" % i for i in reversed(range(1, 30, 2))])
        ids = [i["id"] for i in items]
        self.assertEqual(ids, sorted(ids, reverse=True))
        self.assertEqual(len(set(ids)), len(ids))

    def test_others_and_anonymous(self):
        lea, mo = self.register("lea"), self.register("mo")
        public, private = self.create(lea, "seen", public=True)["id"], self.create(lea, "hidden")["id"]
        for client in (mo, self.product(), self.product(cookies={"jwt": "bad"})):
            self.assertEqual(self.expect(client.get("/api/task-detail/%d/" % public), 200).json["title"], "seen")
            self.assertEqual(self.expect(client.get("/api/task-detail/%d/" % private), 404).json, GONE)
        self.expect(lea.get("/api/task-detail/%d/" % private), 200)
        for number in (public, private):
            self.assertEqual(self.expect(mo.post("/api/task-update/%d/" % number, {"title": "mine"}), 403).json, NO_ACCESS)
            self.assertEqual(self.expect(mo.delete("/api/task-delete/%d/" % number), 403).json, NO_ACCESS)
        for bad in ("0", "1", "x", "-1", "9007199254740992", "99999999999999999999", "1.0", "%20"):
            self.assertEqual(self.expect(lea.get("/api/task-detail/%s/" % bad), 404).json, GONE)
            self.assertEqual(self.expect(lea.delete("/api/task-delete/%s/" % bad), 403).json, NO_ACCESS)

    def test_what_the_serializer_refuses(self):
        ned = self.register("ned")
        for body, expected in (({}, {"title": ["This field is required."]}), ({"title": " "}, {"title": ["This field may not be blank."]}),
                               ({"title": "t" * 201}, {"title": ["Ensure this field has no more than 200 characters."]}), ({"title": "t", "public": "maybe"}, {"public": ["Must be a valid boolean."]}),
                               ({"title": "t", "content": "c" * 65537}, {"content": ["Ensure this field has no more than 65536 bytes."]})):
            self.assertEqual(self.expect(ned.post("/api/task-create/", body), 400).json, expected)
        made = self.create(ned, "  a\ttitle\x1b ", public="on", extra={"a": 1})
        self.assertEqual((made["title"], made["public"]), ("a title", True))
        self.assertEqual(self.expect(ned.post("/api/task-update/%d/" % made["id"], {"title": "t", "completed": "perhaps"}), 400).json, {"completed": ["Must be a valid boolean."]})
        changed = self.expect(ned.post("/api/task-update/%d/" % made["id"], {"title": "t", "completed": 1}), 200).json
        self.assertEqual((changed["completed"], changed["public"]), (True, True))

    def test_the_same_under_v1(self):
        ole = self.register("ole", password="correct horse")
        made = self.create(ole, "both", content="c")
        v1 = self.v1("ole")
        item, = self.expect(v1.get("/v1/reminders"), 200).json["items"]
        self.assertEqual((item["title"], item["content"], item["created_by"]), ("both", "c", "ole"))
        self.expect(v1.patch("/v1/reminders/" + item["id"], {"completed": True, "public": True}), 200)
        seen = ole.get("/api/task-detail/%d/" % made["id"]).json
        self.assertEqual((seen["completed"], seen["public"], seen["regisDate"]), (True, True, item["created_at"]))
        other = self.expect(v1.post("/v1/reminders", {"title": "from v1"}), 201).json
        self.assertEqual(ole.get("/api/task-list/").json[0]["title"], "from v1")
        number = ole.get("/api/task-list/").json[0]["id"]
        self.expect(ole.delete("/api/task-delete/%d/" % number), 200)
        self.expect(v1.get("/v1/reminders/" + other["id"]), 404)


class Teams(RemindmeTest):
    @classmethod
    def setUpClass(cls):
        cls.tasks_port, = free_ports(1)
        cls.flags = ["--listen", "127.0.0.1:%d,facade=tasks" % cls.tasks_port]
        super().setUpClass()

    def test_a_teams_tasks_need_a_token(self):
        team = Product(self.tasks_port)
        team.token = self.expect(team.post("/users/signup", {"username": "pia", "password": "1234"}), 200).json["token"]
        self.expect(team.post("/tasks", {"title": "of a team"}), 200)
        una = self.register("una")
        own = self.create(una, "for everybody", public=True)["id"]
        task = [i["id"] for i in una.get("/api/task-list/").json if i["title"] == "of a team"][0]
        for path in ("/api/task-detail/%d/", "/api/reminder/%d/"):
            self.assertEqual(self.expect(una.get(path % task), 200).json["title"], "of a team")
            for client in (self.product(), self.product(cookies={"jwt": "bad"})):
                self.assertEqual(self.expect(client.get(path % task), 404).json, GONE)
                self.expect(client.get(path % own), 200)


class SecondVersion(RemindmeTest):
    def test_auth_service(self):
        client = self.product()
        self.assertIn("List", self.expect(client.get("/api/overview/"), 200).json)
        self.expect(client.post("/api/signup/", {"username": "pia", "email": "pia@x.org", "password": "p"}), 200)
        self.assertEqual(self.expect(client.get("/api/profile/"), 200).json["email"], "pia@x.org")
        self.expect(client.post("/api/logout/"), 200)
        self.expect(client.get("/api/profile/"), 403)
        self.expect(client.post("/api/login/", {"email": "pia@x.org", "password": "p"}), 200)
        self.assertEqual(claims(client.cookies["jwt"])[1]["email"], "pia@x.org")
        self.assertEqual(self.expect(client.post("/api/login/", {"email": "nobody@x.org", "password": "p"}), 403).json, {"detail": "User not found!"})

    def test_reminder_service(self):
        quin = self.register("quin")
        made = self.expect(quin.post("/api/create-reminder/", {"title": "t", "content": "c", "author": "x", "public": True}), 200).json
        self.assertEqual((set(made), made["author"]), ({"id", "title", "content", "author", "public"}, "quin"))
        item = self.expect(quin.get("/api/reminder/%d/" % made["id"]), 200).json
        self.assertEqual(set(item), {"id", "title", "content", "completed", "created_at", "author", "public"})
        self.assertEqual(quin.get("/api/reminder/").json[0], item)
        self.assertEqual(self.expect(quin.post("/api/update-reminder/%d/" % made["id"], dict(item, completed=True)), 200).json, dict(item, completed=True))
        self.assertEqual(quin.get("/api/task-detail/%d/" % made["id"]).json["completed"], True)
        self.assertEqual(self.expect(quin.delete("/api/delete-reminder/%d/" % made["id"]), 200).json, {"msg": "Item deleted successfully"})


class Edges(RemindmeTest):
    def test_slashes(self):
        for path in ("/api/task-list", "/api", "/login", "/api/task-detail/12"):
            answer = self.expect(self.product().get(path + "?a=b"), 301)
            self.assertEqual(answer.headers["Location"], path + "/?a=b")
            self.assertEqual(answer.body, b"")
        self.assertEqual(self.expect(self.product().post("/api/user-login", {"username": "a", "password": "b"}), 404).json, GONE)
        for path in ("/nix", "/api/nix/", "//evil.example/api", "/v1/users/me", "/livez", "/metrics", "/docs"):
            self.assertEqual(self.expect(self.product().get(path), 404).json, GONE, path)
        self.expect(self.node.client().get("/api/"), 404, "not_found")

    def test_methods(self):
        for method, path in (("GET", "/api/user-login/"), ("PUT", "/api/task-list/"), ("DELETE", "/api/task-update/1/"), ("PATCH", "/api/")):
            answer = self.expect(self.product().request(method, path), 405)
            self.assertEqual(answer.json, {"detail": 'Method "%s" not allowed.' % method})
            self.assertTrue(answer.headers["Allow"])

    def test_bodies(self):
        client = self.product()
        answer = self.expect(client.post("/api/user-login/", raw='{"username"', headers={"Content-Type": "application/json"}), 400)
        self.assertTrue(answer.json["detail"].startswith("JSON parse error - "))
        self.expect(client.post("/api/user-login/", raw="x", headers={"Content-Type": "text/plain"}), 415)
        answer = self.expect(client.get("/api/", headers={"X": "y" * 20000}), 431)
        self.assertEqual(set(answer.json), {"detail"})
        self.expect(client.post("/api/user-login/", {"username": "\u0000", "password": "x"}), 403)
        self.expect(client.post("/api/user-login/", {"username": "a", "password": "x" * 5000}), 400)
        self.expect(client.post("/api/user-login/", [1, 2]), 400)

    def test_pages(self):
        for path, form in (("/", "/api/task-create/"), ("/login/", "/api/user-login/"), ("/register/", "/api/user-register/")):
            answer = self.expect(self.product().get(path), 200)
            self.assertTrue(answer.headers["Content-Type"].startswith("text/html"))
            self.assertIn('<form method="post" action="%s">' % form, answer.text)
            self.assertIsNone(re.search(r'(src|href)="(https?:)?//', answer.text))
            self.assertIn("<script>", answer.text)  # inline: the policy must not say script-src
            self.assertEqual((answer.headers["X-Frame-Options"], answer.headers["Content-Security-Policy"]), ("DENY", "frame-ancestors 'none'"))
        self.assertEqual(set(self.expect(self.product().get("/api/"), 200).json) & {"List", "Create", "Update", "Delete"}, {"List", "Create", "Update", "Delete"})


class Partitions(unittest.TestCase):
    def test_more_than_fit_into_an_id_are_refused(self):
        node = Node("--partitions", "32", "--listen", "127.0.0.1:0,facade=remindme")
        self.addCleanup(node.close)
        with self.assertRaisesRegex(AssertionError, "ids of remindme have room for 31 partitions"):
            node.start()


class Clusters(unittest.TestCase):
    def test_the_client_goes_on_at_another_node(self):
        cluster, ports = facade_cluster("remindme")
        with cluster:
            client = Product(ports[0])
            answer = client.post("/api/user-register/", {"username": "tess", "email": "t@x.org", "password": "1234"})
            self.assertEqual(answer.status, 200, answer.text)
            made = []
            for port in ports:
                client.port = port
                made.append(client.post("/api/task-create/", {"title": "at %d" % ports.index(port), "content": "", "public": False}))
            self.assertEqual([m.status for m in made], [200] * 3, made[-1].text)
            cluster.kill(0)
            client.port = ports[1]
            self.assertEqual([i["title"] for i in client.get("/api/task-list/").json], ["at 2", "at 1", "at 0"])
            client.port = ports[2]
            changed = client.post("/api/task-update/%d/" % made[0].json["id"], {"title": "changed", "completed": True})
            self.assertEqual(changed.status, 200, changed.text)
            client.port = ports[1]
            self.assertEqual(client.get("/api/task-detail/%d/" % made[0].json["id"]).json["title"], "changed")
            self.assertEqual(client.delete("/api/task-delete/%d/" % made[1].json["id"]).status, 200)
            cluster.kill(1)
            client.port = ports[2]
            answer = until_no_majority(lambda: client.get("/api/task-list/"))
            self.assertEqual(set(answer.json), {"detail"})


if __name__ == "__main__":
    main()
