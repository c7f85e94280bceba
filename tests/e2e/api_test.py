"""Accounts and reminders over HTTP, as docs/http-api.md says."""
import base64
import json
import subprocess
import threading
import time

from belfry import BINARY, NodeTest, main


class Accounts(NodeTest):
    def test_signup_signin_and_profile(self):
        alice = self.node.signup("Alice")
        self.assertEqual(alice.user["role"], "user")
        self.assertNotIn("password", json.dumps(alice.user))
        me = self.expect(alice.get("/v1/users/me"), 200)
        self.assertEqual(me.json["username"], "Alice")
        self.assertTrue(me.headers["ETag"])
        login = self.expect(self.node.client().post("/v1/auth/login", {"login": "aLICE", "password": "correct horse"}), 200)
        self.assertEqual(login.json["token_type"], "Bearer")
        self.assertEqual(login.json["expires_in"], 900)
        self.assertEqual(login.headers["Cache-Control"], "no-store")
        self.expect(self.node.client().post("/v1/auth/login", {"login": "alice@example.org", "password": "correct horse"}), 200)
        profile = self.expect(self.node.client().get("/v1/users/alice"), 200).json
        self.assertEqual(sorted(profile), ["created_at", "username"])
        self.expect(self.node.client().get("/v1/users/nobody"), 404, "not_found")

    def test_names_are_unique_without_regard_to_case(self):
        self.node.signup("bob")
        client = self.node.client()
        body = {"username": "BOB", "email": "other@example.org", "password": "password1"}
        self.expect(client.post("/v1/auth/signup", body), 409, "username_taken")
        body = {"username": "bob2", "email": "BOB@example.org", "password": "password1"}
        self.expect(client.post("/v1/auth/signup", body), 409, "email_taken")
        # The username of the attempt that failed on its email is free again.
        body["email"] = "bob2@example.org"
        self.expect(client.post("/v1/auth/signup", body), 201)

    def test_signup_refuses_bad_fields(self):
        client = self.node.client()
        good = {"username": "carol", "email": "carol@example.org", "password": "password1"}
        for change, pointer in [({"username": ""}, "/username"), ({"username": "a@b"}, "/username"), ({"username": "x" * 65}, "/username"),
                                ({"email": "nobody"}, "/email"), ({"email": "a@b@c"}, "/email"), ({"password": "short"}, "/password"),
                                ({"password": "x" * 1025}, "/password"), ({"admin": True}, "/admin"), ({"username": 7}, "/username")]:
            answer = self.expect(client.post("/v1/auth/signup", {**good, **change}), 422, "invalid_fields")
            self.assertIn(pointer, [e["pointer"] for e in answer.json["errors"]], answer.text)
        answer = self.expect(client.post("/v1/auth/signup", {}), 422, "invalid_fields")
        self.assertEqual({e["pointer"] for e in answer.json["errors"]}, {"/username", "/email", "/password"})

    def test_wrong_password_and_unknown_user_look_the_same(self):
        self.node.signup("dave")
        client = self.node.client()
        wrong = self.expect(client.post("/v1/auth/login", {"login": "dave", "password": "wrong"}), 401, "invalid_credentials").json
        unknown = self.expect(client.post("/v1/auth/login", {"login": "nobody", "password": "wrong"}), 401, "invalid_credentials").json
        for problem in (wrong, unknown):
            del problem["request_id"]
        self.assertEqual(wrong, unknown)

    def test_token_is_required_and_checked(self):
        erin = self.node.signup("erin")
        answer = self.expect(self.node.client().get("/v1/users/me"), 401, "unauthorized")
        self.assertTrue(answer.headers["WWW-Authenticate"].startswith("Bearer"))
        head, payload, signature = erin.token.split(".")

        def forged(header):
            return base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        self.assertEqual(sorted(claims), ["exp", "iat", "iss", "jti", "role", "sid", "sub"])
        kid = json.loads(base64.urlsafe_b64decode(head + "=="))["kid"]
        admin = base64.urlsafe_b64encode(json.dumps({**claims, "role": "admin"}).encode()).rstrip(b"=").decode()
        for token in ["x", "a.b.c", head + "." + payload, head + "." + payload + ".", head + "." + admin + "." + signature,
                      forged({"alg": "none", "kid": kid}) + "." + payload + ".", forged({"alg": "HS256", "kid": kid}) + "." + payload + "." + signature,
                      head + "." + payload + "." + ("A" if signature[9] != "A" else "B").join([signature[:9], signature[10:]]), "." * 2000]:
            self.expect(self.node.client(token).get("/v1/users/me"), 401, "unauthorized")
        keys = self.expect(self.node.client().get("/.well-known/jwks.json"), 200).json["keys"]
        self.assertEqual([(k["kty"], k["crv"], k["kid"]) for k in keys], [("OKP", "Ed25519", kid)])

    def test_refresh_rotates_and_a_reused_token_ends_the_session(self):
        frank = self.node.signup("frank")
        client = self.node.client()
        first = self.expect(client.post("/v1/auth/refresh", {"refresh_token": frank.refresh_token}), 200).json
        second = self.expect(client.post("/v1/auth/refresh", {"refresh_token": first["refresh_token"]}), 200).json
        self.expect(self.node.client(second["access_token"]).get("/v1/users/me"), 200)
        self.expect(client.post("/v1/auth/refresh", {"refresh_token": first["refresh_token"]}), 401, "invalid_refresh_token")
        self.expect(client.post("/v1/auth/refresh", {"refresh_token": second["refresh_token"]}), 401, "invalid_refresh_token")
        self.expect(self.node.client(second["access_token"]).get("/v1/users/me"), 401, "unauthorized")
        self.expect(client.post("/v1/auth/refresh", {"refresh_token": "nonsense"}), 401, "invalid_refresh_token")

    def test_logout_ends_this_session_or_all(self):
        grace = self.node.signup("grace")
        other = self.node.client(self.node.client().post("/v1/auth/login", {"login": "grace", "password": "correct horse"}).json["access_token"])
        sessions = self.expect(grace.get("/v1/auth/sessions"), 200).json["items"]
        self.assertEqual(len(sessions), 2)
        self.assertEqual(sorted(sessions[0]), ["created_at", "id", "remote", "used_at"])
        self.expect(grace.post("/v1/auth/logout"), 204)
        self.expect(grace.get("/v1/users/me"), 401, "unauthorized")
        self.expect(self.node.client().post("/v1/auth/refresh", {"refresh_token": grace.refresh_token}), 401)
        self.expect(other.get("/v1/users/me"), 200)
        self.expect(other.post("/v1/auth/logout?everywhere=true"), 204)
        self.expect(other.get("/v1/users/me"), 401, "unauthorized")
        again = self.expect(self.node.client().post("/v1/auth/login", {"login": "grace", "password": "correct horse"}), 200).json
        again = self.node.client(again["access_token"])
        session = self.expect(again.get("/v1/auth/sessions"), 200).json["items"]
        self.assertEqual(len(session), 1)
        self.expect(again.delete("/v1/auth/sessions/01a1fd35-03c5-8000-b42c-870189e739ab"), 404, "not_found")
        self.expect(again.delete("/v1/auth/sessions/" + session[0]["id"]), 204)
        self.expect(again.get("/v1/users/me"), 401)

    def test_password_change_ends_other_sessions(self):
        heidi = self.node.signup("heidi")
        other = self.node.client(self.node.client().post("/v1/auth/login", {"login": "heidi", "password": "correct horse"}).json["access_token"])
        self.expect(heidi.put("/v1/users/me/password", {"old": "wrong", "new": "another one"}), 401, "invalid_credentials")
        self.expect(heidi.put("/v1/users/me/password", {"old": "correct horse", "new": "x"}), 422, "invalid_fields")
        self.expect(heidi.put("/v1/users/me/password", {"old": "correct horse", "new": "another one"}), 204)
        self.expect(heidi.get("/v1/users/me"), 200)
        self.expect(other.get("/v1/users/me"), 401, "unauthorized")
        self.expect(self.node.client().post("/v1/auth/login", {"login": "heidi", "password": "correct horse"}), 401)
        login = self.expect(self.node.client().post("/v1/auth/login", {"login": "heidi", "password": "another one"}), 200)
        self.expect(self.node.client(login.json["access_token"]).get("/v1/users/me"), 200)

    def test_patch_me_with_etags(self):
        ivan = self.node.signup("ivan")
        tag = ivan.get("/v1/users/me").headers["ETag"]
        self.expect(ivan.get("/v1/users/me", headers={"If-None-Match": tag}), 304)
        answer = self.expect(ivan.patch("/v1/users/me", {"first_name": "Ivan", "last_name": "I."}, headers={"If-Match": tag}), 200)
        self.assertEqual((answer.json["first_name"], answer.json["last_name"]), ("Ivan", "I."))
        self.expect(ivan.patch("/v1/users/me", {"first_name": "X"}, headers={"If-Match": tag}), 412, "precondition_failed")
        self.assertNotIn("last_name", self.expect(ivan.patch("/v1/users/me", {"last_name": None}), 200).json)
        self.expect(ivan.patch("/v1/users/me", {"email": "x@y"}), 422, "invalid_fields")

    def test_delete_me_removes_everything(self):
        judy = self.node.signup("judy")
        kim = self.node.signup("kim")
        for i in range(450):
            self.expect(judy.post("/v1/reminders", {"title": "r%d" % i, "public": True}), 201)
        theirs = self.expect(kim.post("/v1/reminders", {"title": "for judy", "assignee": "judy"}), 201).json
        self.expect(judy.delete("/v1/users/me"), 204)
        self.expect(judy.get("/v1/users/me"), 401, "unauthorized")
        self.expect(self.node.client().get("/v1/users/judy"), 404)
        self.assertEqual([r for r in kim.get("/v1/reminders?scope=public&limit=200").json["items"] if r["created_by"] == "judy"], [])
        self.assertNotIn("assignee", kim.get("/v1/reminders/" + theirs["id"]).json)
        fresh = self.node.signup("judy")
        self.assertEqual(fresh.get("/v1/reminders?scope=all&limit=200").json["items"][:1], kim.get("/v1/reminders?scope=public&limit=1").json["items"])

    def test_admin_is_granted_on_the_node(self):
        liam = self.node.signup("liam")
        self.expect(liam.get("/v1/users"), 403, "forbidden")
        self.assertEqual(subprocess.run([BINARY, "admin", "--data", self.node.data, "nobody-there"], capture_output=True).returncode, 1)
        subprocess.run([BINARY, "admin", "--data", self.node.data, "liam"], check=True, capture_output=True)
        self.expect(liam.get("/v1/users"), 401, "unauthorized")  # the old token says "user"
        token = self.expect(self.node.client().post("/v1/auth/refresh", {"refresh_token": liam.refresh_token}), 200).json
        admin = self.node.client(token["access_token"])
        users = self.expect(admin.get("/v1/users?limit=200"), 200).json["items"]
        self.assertIn("liam", [u["username"] for u in users])
        self.node.signup("mia")
        self.assertEqual(self.expect(admin.patch("/v1/users/mia", {"role": "admin"}), 200).json["role"], "admin")
        self.expect(admin.patch("/v1/users/mia", {"role": "king"}), 422, "invalid_fields")
        self.expect(admin.patch("/v1/users/nobody", {"role": "admin"}), 404, "not_found")

    def test_concurrent_signups_of_one_name_make_one_account(self):
        results = []

        def attempt(i):
            body = {"username": "race", "email": "race%d@example.org" % i, "password": "password1"}
            results.append(self.node.client().post("/v1/auth/signup", body).status)
        threads = [threading.Thread(target=attempt, args=(i,)) for i in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(sorted(results), [201] + [409] * 15)

    def test_session_count_is_bounded(self):
        noah = self.node.signup("noah")
        for _ in range(55):
            last = self.node.client().post("/v1/auth/login", {"login": "noah", "password": "correct horse"}).json
        sessions = self.node.client(last["access_token"]).get("/v1/auth/sessions").json["items"]
        self.assertEqual(len(sessions), 50)


class Reminders(NodeTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ann = cls.node.signup("ann")
        cls.ben = cls.node.signup("ben")
        cls.eve = cls.node.signup("eve")

    def create(self, client, **body):
        return self.expect(client.post("/v1/reminders", {"title": "t", **body}), 201)

    def test_create_read_change_delete(self):
        answer = self.create(self.ann, title="buy milk", content="two\nlitres", due_at="2030-01-02T03:04:05+02:00")
        reminder = answer.json
        self.assertEqual(answer.headers["Location"], "/v1/reminders/" + reminder["id"])
        self.assertEqual(reminder["due_at"], "2030-01-02T01:04:05.000Z")
        self.assertEqual((reminder["public"], reminder["status"], reminder["completed"], reminder["created_by"]), (False, "todo", False, "ann"))
        path = answer.headers["Location"]
        got = self.expect(self.ann.get(path), 200)
        self.assertEqual(got.json, reminder)
        self.assertEqual(got.headers["ETag"], answer.headers["ETag"])
        head = self.expect(self.ann.request("HEAD", path), 200)
        self.assertEqual((head.body, head.headers["Content-Length"]), (b"", str(len(got.body))))
        self.expect(self.ann.get(path, headers={"If-None-Match": got.headers["ETag"]}), 304)
        done = self.expect(self.ann.patch(path, {"completed": True}, headers={"If-Match": got.headers["ETag"]}), 200)
        self.assertEqual((done.json["status"], done.json["completed"]), ("done", True))
        self.expect(self.ann.patch(path, {"title": "x"}, headers={"If-Match": got.headers["ETag"]}), 412, "precondition_failed")
        for tag in ["W/" + done.headers["ETag"], done.headers["ETag"].replace('"', '"0', 1), "x", '""']:
            self.expect(self.ann.patch(path, {"title": "x"}, headers={"If-Match": tag}), 412, "precondition_failed")
        self.expect(self.ann.patch(path, {"title": "x"}, headers={"If-Match": "*"}), 200)
        self.expect(self.ann.delete(path, headers={"If-Match": got.headers["ETag"]}), 412, "precondition_failed")
        put = self.expect(self.ann.put(path, {"title": "whole"}), 200).json
        self.assertEqual((put["content"], put["status"], "due_at" in put), ("", "todo", False))
        self.assertEqual(put["created_at"], reminder["created_at"])
        patched = self.expect(self.ann.request("PATCH", path, json.dumps({"content": "c"}), {"Content-Type": "application/merge-patch+json"}, raw=True), 200)
        self.assertEqual(patched.json["content"], "c")
        self.expect(self.ann.delete(path), 204)
        self.expect(self.ann.get(path), 404, "not_found")
        self.expect(self.ann.delete(path), 404, "not_found")

    def test_status_and_completed_agree(self):
        path = self.create(self.ann, status="doing").headers["Location"]
        self.expect(self.ann.patch(path, {"status": "done", "completed": False}), 422, "invalid_fields")
        self.assertTrue(self.expect(self.ann.patch(path, {"status": "done"}), 200).json["completed"])
        self.assertEqual(self.expect(self.ann.patch(path, {"completed": False}), 200).json["status"], "todo")

    def test_private_is_invisible_to_others(self):
        path = self.create(self.ann).headers["Location"]
        for call in (self.ben.get, self.ben.delete):
            self.expect(call(path), 404, "not_found")
        self.expect(self.ben.patch(path, {"title": "x"}), 404, "not_found")
        self.expect(self.ben.put(path, {"title": "x"}), 404, "not_found")
        self.expect(self.node.client().get(path), 401, "unauthorized")

    def test_public_is_read_by_all_and_changed_by_its_creator(self):
        path = self.create(self.ann, public=True).headers["Location"]
        self.expect(self.ben.get(path), 200)
        self.expect(self.ben.patch(path, {"status": "done"}), 403, "forbidden")
        self.expect(self.ben.put(path, {"title": "x"}), 403, "forbidden")
        self.expect(self.ben.delete(path), 403, "forbidden")

    def test_assignee_may_change_the_status_and_nothing_else(self):
        self.expect(self.ann.post("/v1/reminders", {"title": "x", "assignee": "no one"}), 422, "invalid_fields")
        answer = self.create(self.ann, assignee="BEN")
        path = answer.headers["Location"]
        self.assertEqual(answer.json["assignee"], "ben")
        self.expect(self.ben.get(path), 200)
        self.assertEqual(self.expect(self.ben.patch(path, {"status": "doing"}), 200).json["status"], "doing")
        self.expect(self.ben.patch(path, {"title": "mine now"}), 403, "forbidden")
        self.expect(self.ben.delete(path), 403, "forbidden")
        self.expect(self.ann.patch(path, {"assignee": None}), 200)
        self.expect(self.ben.get(path), 404, "not_found")

    def test_lists_by_scope_and_filter_in_pages(self):
        lou, max_ = self.node.signup("lou"), self.node.signup("max")
        made = [self.create(lou, title="r%02d" % i, content="even Straße" if i % 2 == 0 else "odd", due_at="2030-01-%02dT00:00:00Z" % (i + 1)).json["id"] for i in range(25)]
        self.create(max_, title="max private")
        public = self.create(max_, title="max public", public=True).json["id"]
        assigned = self.create(max_, title="for lou", assignee="lou").json["id"]

        def ids(query, client=lou):
            return [r["id"] for r in self.expect(client.get("/v1/reminders" + query), 200).json["items"]]
        self.assertEqual(ids("?limit=200"), made[::-1])
        self.assertEqual(ids("?scope=assigned"), [assigned])
        self.assertIn(public, ids("?scope=public"))
        everything = ids("?scope=all&limit=200")
        self.assertEqual([i for i in everything if i in made + [assigned, public]], sorted(made + [assigned, public], reverse=True))
        pages, cursor, link = [], "", None
        while cursor is not None:
            answer = self.expect(lou.get("/v1/reminders?limit=7" + ("&cursor=" + cursor if cursor else "")), 200)
            pages += [r["id"] for r in answer.json["items"]]
            cursor, link = answer.json["next_cursor"], answer.headers["Link"]
            self.assertEqual(cursor is None, link is None)
        self.assertEqual(pages, made[::-1])
        self.assertEqual(ids("?limit=200&q=STRASSE"), made[::2][::-1])
        self.assertEqual(ids("?due_before=2030-01-03T00:00:00Z"), made[:2][::-1])
        self.assertEqual(ids("?due_after=2030-01-24T00:00:00Z"), made[24:])
        lou.patch("/v1/reminders/" + made[3], {"status": "done"})
        self.assertEqual(ids("?completed=true"), [made[3]])
        self.assertEqual(ids("?status=done"), [made[3]])
        self.assertEqual(len(ids("?completed=false")), 24)
        for bad in ["?limit=0", "?limit=201", "?scope=none", "?status=x", "?due_before=tomorrow", "?colour=red", "?limit=1&limit=2", "?q=%zz"]:
            self.expect(lou.get("/v1/reminders" + bad), 422, "invalid_fields")
        self.expect(lou.get("/v1/reminders?cursor=xyz"), 400, "invalid_cursor")

    def test_bad_bodies(self):
        def post(body, content_type="application/json"):
            return self.ann.request("POST", "/v1/reminders", body, {"Content-Type": content_type}, raw=True)
        for body in [b"{", b"", b"[" * 100000, b'{"title":"a","title":"b"}', b'{"title":"a"} x', b'{"title":"\xff"}', b'{"title":' + b"[" * 40 + b"]" * 40 + b"}", b'{"title":"\\ud800"}', b"nul"]:
            answer = post(body)
            self.assertIn(answer.status, (400, 422), (body[:50], answer.text))
            if body != b"":
                self.expect(answer, 400, "invalid_json")
        for body in [{"title": ""}, {"title": "x" * 201}, {"title": "t", "content": "x" * 65537}, {"title": "t", "nope": 1}, {"title": 3}, {"title": None},
                     {"title": "t", "due_at": "soon"}, {"title": "t", "status": "later"}, {"title": "t", "public": "yes"}, {"title": "a\nb"}, {"title": "a\u0000b"}, []]:
            self.expect(post(json.dumps(body).encode()), 422, "invalid_fields")
        self.expect(post(b'{"title":"t"}', "text/plain"), 415, "unsupported_media_type")
        self.expect(post(b'{"title":"t"}', "application/merge-patch+json"), 415, "unsupported_media_type")
        self.expect(post(b'{"title":"t"}', "application/json; charset=utf-8"), 201)
        self.assertEqual(self.create(self.ann, title="\U0001f514 Größe").json["title"], "\U0001f514 Größe")

    def test_bad_ids_and_methods(self):
        for path in ["x", "01a1fd35-03c5-4000-b42c-870189e739ab", "01a1fd35-03c5-8fff-b42c-870189e739ab", "01a1fd35-03c5-8001-b42c-870189e739ab", "%00", "..", "a/b"]:
            self.expect(self.ann.get("/v1/reminders/" + path), 404, "not_found")
        answer = self.expect(self.ann.post("/v1/reminders/x", {}), 405, "method_not_allowed")
        self.assertEqual(answer.headers["Allow"], "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")
        self.assertEqual(self.expect(self.ann.request("OPTIONS", "/v1/reminders"), 204).headers["Allow"], "GET, HEAD, POST, OPTIONS")
        self.expect(self.ann.get("/nowhere"), 404, "not_found")

    def test_idempotency_key(self):
        key = {"Idempotency-Key": "k1"}
        first = self.expect(self.ann.post("/v1/reminders", {"title": "once"}, headers=key), 201)
        self.assertIsNone(first.headers["Idempotency-Replayed"])
        second = self.expect(self.ann.post("/v1/reminders", {"title": "once"}, headers=key), 201)
        self.assertEqual((second.json, second.headers["Idempotency-Replayed"], second.headers["Location"]), (first.json, "true", first.headers["Location"]))
        self.expect(self.ann.post("/v1/reminders", {"title": "twice"}, headers=key), 422, "idempotency_key_reuse")
        other = self.expect(self.ben.post("/v1/reminders", {"title": "once"}, headers=key), 201)
        self.assertNotEqual(other.json["id"], first.json["id"])
        self.ann.delete(first.headers["Location"])
        self.assertEqual(self.expect(self.ann.post("/v1/reminders", {"title": "once"}, headers=key), 201).json, first.json)
        self.expect(self.ann.post("/v1/reminders", {"title": "t"}, headers={"Idempotency-Key": "x" * 256}), 400, "bad_request")

    def test_an_idempotency_key_is_of_one_path(self):
        key, body = {"Idempotency-Key": "snooze"}, {"until": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + 86400))}
        made = [self.create(self.ann, title="s%d" % i, due_at=body["until"]).json for i in range(2)]
        for reminder in made:
            path = "/v1/reminders/" + reminder["id"]
            snoozed = self.expect(self.ann.post(path + "/snooze", body, headers=key), 200)
            self.assertIsNone(snoozed.headers["Idempotency-Replayed"])
            self.assertEqual((snoozed.json["id"], snoozed.json["snoozed_until"]), (reminder["id"], body["until"]))
            again = self.expect(self.ann.post(path + "/snooze", body, headers=key), 200)
            self.assertEqual((again.json, again.headers["Idempotency-Replayed"]), (snoozed.json, "true"))
            self.assertEqual(self.ann.get(path).json["snoozed_until"], body["until"])

    def test_read_your_writes_from_many_threads(self):
        wrong = []

        def work(n):
            client = self.node.client(self.ann.token)
            for i in range(30):
                made = client.post("/v1/reminders", {"title": "w%d.%d" % (n, i)})
                other = self.node.client(self.ann.token)
                got = other.get(made.headers["Location"])
                if got.status != 200 or got.json != made.json:
                    wrong.append(got.text)
                other.close()
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])

    def test_pages_of_the_node(self):
        client = self.node.client()
        self.assertEqual(self.expect(client.get("/livez"), 200).text, "ok\n")
        self.assertIn("[+] leaders", self.expect(client.get("/readyz?verbose"), 200).text)
        api = self.expect(client.get("/openapi.json"), 200).json
        self.assertEqual(api["openapi"], "3.1.0")
        self.assertIn("post", api["paths"]["/v1/reminders"])
        self.assertEqual(api["paths"]["/v1/reminders/{id}"]["get"]["parameters"][0]["in"], "path")
        self.assertIn("/v1/reminders", self.expect(client.get("/docs"), 200).text)
        metrics = self.expect(client.get("/metrics"), 200).text
        for name in ["belfry_http_requests_total{", "belfry_http_request_duration_seconds_bucket{", "belfry_commands_total{kind=\"reminders\",op=\"do_create\"",
                     "belfry_records{kind=\"reminders\"}", "belfry_mailbox_depth", "belfry_log_syncs_total", "belfry_partition_lag_entries"]:
            self.assertIn(name, metrics)
        given = self.expect(client.get("/livez", headers={"X-Request-Id": "my-id"}), 200)
        self.assertEqual(given.headers["X-Request-Id"], "my-id")

    def test_log_names_the_request_and_no_secret(self):
        oscar = self.node.signup("oscar", "a very secret word")
        self.node.client().post("/v1/auth/login", {"login": "oscar", "password": "a wrong secret"})
        oscar.get("/v1/users/me", headers={"X-Request-Id": "find-me"})
        until = time.monotonic() + 5
        while "find-me" not in self.node.log_text() and time.monotonic() < until:
            time.sleep(0.05)
        log = self.node.log_text()
        lines = [json.loads(line) for line in log.splitlines()]
        mine = [line for line in lines if line.get("request_id") == "find-me"]
        self.assertEqual([(m["method"], m["route"], m["status"], m["user"]) for m in mine], [("GET", "/v1/users/me", 200, oscar.user["id"])])
        self.assertTrue({"ts", "level", "node", "msg", "remote", "bytes", "duration_ms"} <= set(mine[0]))
        self.assertTrue(any(line.get("action") == "signup" and line.get("user") == "oscar" for line in lines))
        self.assertTrue(any(line.get("action") == "login_failed" for line in lines))
        for secret in ["secret", oscar.token, oscar.refresh_token]:
            self.assertNotIn(secret, log)


class Cors(NodeTest):
    flags = ("--cors-origins", "https://a.example https://b.example")

    def test_cors(self):
        client = self.node.client()
        answer = client.request("OPTIONS", "/v1/reminders", headers={"Origin": "https://b.example", "Access-Control-Request-Method": "POST"})
        self.expect(answer, 204)
        self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "https://b.example")
        self.assertIn("PATCH", answer.headers["Access-Control-Allow-Methods"])
        self.assertTrue(answer.headers["Access-Control-Allow-Headers"].endswith(", X-Request-Id"))
        self.assertIsNone(client.get("/livez", headers={"Origin": "https://c.example"}).headers["Access-Control-Allow-Origin"])
        self.assertEqual(client.get("/livez", headers={"Origin": "https://a.example"}).headers["Access-Control-Allow-Origin"], "https://a.example")

    def allowed(self, asked):
        """What a preflight allows beside the headers that are always allowed."""
        answer = self.node.client().request("OPTIONS", "/v1/topics/t/messages/raw", headers={
            "Origin": "https://b.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked})
        return answer.headers["Access-Control-Allow-Headers"].split(", X-Request-Id", 1)[1]

    def test_headers_of_raw_requests(self):
        self.assertEqual(self.allowed("authorization,belfry-delay-ms,belfry-header-trace.id,x-other, Belfry-Key "), ", belfry-delay-ms, belfry-header-trace.id, Belfry-Key")
        self.assertEqual(self.allowed(", ,belfry-,belfry,belfry-a b,belfry-a(b,belfry-\xe4,belfry-a:b,belfry-\"a\",xbelfry-a"), "")
        self.assertEqual(self.allowed("belfry-header-" + "x" * 128), ", belfry-header-" + "x" * 128)
        self.assertEqual(self.allowed("belfry-header-" + "x" * 129), "")
        self.assertEqual(self.allowed(",".join("belfry-header-%d" % i for i in range(400))).count("belfry-"), 64)


if __name__ == "__main__":
    main()
