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


if __name__ == "__main__":
    main()
