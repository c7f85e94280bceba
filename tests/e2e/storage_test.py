"""What an operator does to the data directory's space, and what the node says about it."""
import time

from belfry import Node, NodeTest, SLOW, main


class Quota(NodeTest):
    flags = ("--state-quota-mib", "2", "--durable-interval-ms", "200")

    def test_a_full_state_takes_deletions_and_heals(self):
        user = self.node.signup("filler")
        made, status = [], 201
        while status == 201 and len(made) < 2000:
            answer = user.post("/v1/reminders", {"title": "t", "content": "x" * 20000})
            status = answer.status
            if status == 201:
                made.append(answer.json["id"])
        self.expect(answer, 507, "disk_full")
        self.assertEqual(self.node.client().get("/readyz").status, 503)
        self.assertIn("[-] quota", self.node.client().get("/readyz").text)
        self.expect(user.get("/v1/reminders/" + made[0]), 200)
        for id_ in made[5:]:
            self.expect(user.delete("/v1/reminders/" + id_), 204)
        until = time.monotonic() + 20 * SLOW
        while user.post("/v1/reminders", {"title": "again"}).status != 201:
            self.assertLess(time.monotonic(), until)
            user.delete("/v1/reminders/" + made[4])
            time.sleep(0.1)
        self.node.stop()
        self.node.start()
        self.expect(self.node.client(user.token).get("/v1/reminders/" + made[0]), 200)


class Damage(NodeTest):
    def test_a_log_that_lost_what_was_synced_is_refused(self):
        user = self.node.signup("victim")
        user.post("/v1/reminders", {"title": "unique title to be found"})
        self.node.kill()
        path = self.node.data + "/log/0000000000000001.seg"
        with open(path, "r+b") as f:
            at = f.read().rindex(b"unique title")
            f.seek(at)
            f.write(b"X")
        with self.assertRaisesRegex(AssertionError, "damaged"):
            self.node.start()
        with open(path, "r+b") as f:  # the evidence was not touched; put right, all is there
            f.seek(at)
            f.write(b"u")
        self.node.start()
        self.assertEqual(len(self.node.client(user.token).get("/v1/reminders").json["items"]), 1)

    def test_a_clean_log_that_lost_its_end_is_refused(self):
        node = Node().start()
        try:
            node.signup("clean")
            node.stop()
            path = node.data + "/log/0000000000000001.seg"
            with open(path, "r+b") as f:
                data = f.read()
                end = len(data.rstrip(b"\0"))
                f.seek(end - 40)
                f.write(b"\0" * 40)
            with self.assertRaisesRegex(AssertionError, "damaged"):
                node.start()
        finally:
            node.process.wait()
            node.close()


if __name__ == "__main__":
    main()
