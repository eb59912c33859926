"""What operators get in deploy/: the service unit, the settings file, alert rules and dashboard fit the daemon."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import harness

DEPLOY = harness.ROOT / "deploy"
METRIC = re.compile(r"\b((?:recserver|process)_[a-z0-9_]+)\b")


def expressions() -> set[str]:
    """Every PromQL expression of the dashboard and of the alert rules."""
    found: set[str] = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "expr":
                    found.add(value)
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads((DEPLOY / "monitoring/dashboard.json").read_text()))
    rules = (DEPLOY / "monitoring/alerts.yaml").read_text()
    found.update(re.findall(r"expr: (?:>-\n)?((?:.|\n)*?)\n        (?:for|labels):", rules))
    return found


class Monitoring(harness.Case):
    def test_dashboard_and_alerts_name_metrics_that_exist(self) -> None:
        self.daemon.recommend(user_id="demo-scifi-1")
        text = self.daemon.get("/metrics").body.decode()
        families = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE "))
        names = {name for expression in expressions() for name in METRIC.findall(expression)}
        self.assertGreater(len(names), 20)
        # Only where certificates are in use; test_tls sees it there.
        for name in names - {"recserver_tls_certificate_days"}:
            family = re.sub("_(bucket|sum|count)$", "", name)
            self.assertTrue(
                name in families or families.get(family) == "histogram", f"{name} is in no answer of /metrics"
            )

    def test_alert_rules_fire_when_they_should(self) -> None:
        promtool = shutil.which("promtool")
        if promtool is None:
            self.skipTest("no promtool")
        for words in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]):
            done = subprocess.run(
                [promtool, *words], cwd=DEPLOY / "monitoring", capture_output=True, text=True, timeout=60
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Logs(harness.Case):
    def test_lines_about_a_request_carry_its_id_and_its_trace(self) -> None:
        daemon = self.start("--log-level", "debug")
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        daemon.post({"n": 1}, X_Request_Id="mine-1", traceparent=f"00-{trace}-00f067aa0ba902b7-01")
        daemon.post({"n": 1}, X_Request_Id="mine-2", traceparent=f"00-{trace}-0-01")
        daemon.stop(self)
        log = Path(daemon.log.name).read_text()
        lines = {line["request_id"]: line for line in map(json.loads, log.splitlines()) if "request_id" in line}
        self.assertEqual(lines["mine-1"]["trace_id"], trace)
        self.assertEqual(lines["mine-1"]["status"], "200")
        self.assertNotIn("trace_id", lines["mine-2"])


class Files(harness.Case):
    def test_example_settings_start_a_daemon(self) -> None:
        folder = str(harness.SCRATCH / "example-state")
        flags = ["--host", "127.0.0.1", "--drain-delay-ms", "0", "--state-dir", folder]
        daemon = self.start("--config", str(DEPLOY / "recserver.json"), *flags)
        self.assertEqual(daemon.get("/readyz").status, 200)

    def test_service_unit_is_valid_and_confined(self) -> None:
        analyze = shutil.which("systemd-analyze")
        if analyze is None:
            self.skipTest("no systemd-analyze")
        done = subprocess.run(
            [analyze, "security", "--offline=yes", "--threshold=20", str(DEPLOY / "recserver.service")],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stdout[-500:] + done.stderr)
        unit = Path(harness.SCRATCH / "recserver.service")
        # The binary and the settings are not installed here: everything else must verify.
        text = (DEPLOY / "recserver.service").read_text()
        unit.write_text(text.replace("/usr/local/bin/recserver", harness.BINARY))
        done = subprocess.run(
            [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
        )
        own = [line for line in done.stderr.splitlines() if "recserver.service" in line]
        self.assertEqual(own, [], done.stderr)

    def test_image_copies_what_is_there(self) -> None:
        text = (DEPLOY / "Dockerfile").read_text()
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
            for source in line.split()[:-1]:
                self.assertTrue((harness.ROOT / source).exists(), source)
