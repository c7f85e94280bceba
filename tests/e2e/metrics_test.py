"""/metrics as Prometheus' own checker sees it, after traffic of every kind."""
import subprocess

from belfry import NodeTest, main


class Metrics(NodeTest):
    def test_promtool_finds_nothing(self):
        user = self.node.signup("m")
        user.post("/v1/reminders", {"title": "t"})
        user.get("/v1/reminders")
        user.get("/nowhere")
        text = user.get("/metrics").body
        check = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
        self.assertEqual((check.returncode, check.stdout, check.stderr), (0, b"", b""))


if __name__ == "__main__":
    main()
