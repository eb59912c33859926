"""API keys, roles and rates: who may ask, how often, and what a new keys file changes."""

import hashlib
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import contract
import harness
from harness import SCRATCH, Answer, Daemon

ROLES = ["read", "events", "items", "users", "admin"]
EVENT = {"user_id": "u1", "item_id": "film-00001", "action": "watch", "timestamp": harness.NOW}


def entry(name: str, *roles: str, **more: Any) -> dict[str, Any]:
    """An entry whose key is `key-of-NAME`."""
    digest = hashlib.sha256(f"key-of-{name}".encode()).hexdigest()
    return {"name": name, "sha256": digest, "roles": list(roles)} | more


def write_keys(path: Path, *entries: dict[str, Any], **more: Any) -> Path:
    path.write_text(json.dumps({"keys": list(entries)} | more))
    path.chmod(0o600)
    return path


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key-of-{name}"}


class Keys(harness.Case):
    def start_with(self, name: str, *entries: dict[str, Any], flags: list[str] = [], **more: Any) -> Daemon:
        self.path = write_keys(SCRATCH / f"{name}.keys.json", *entries, **more)
        return self.start("--keys-file", str(self.path), *flags)

    def reload(self, daemon: Daemon, result: str) -> None:
        """SIGHUP, and waits until the keys file was read or refused."""
        before = self.metric(daemon, f'recserver_key_reloads_total{{result="{result}"}}')
        daemon.process.send_signal(signal.SIGHUP)
        limit = time.monotonic() + harness.patience()
        while self.metric(daemon, f'recserver_key_reloads_total{{result="{result}"}}') == before:
            self.assertLess(time.monotonic(), limit, daemon.log_text())
            time.sleep(0.01)

    def metric(self, daemon: Daemon, series: str) -> float:
        text = daemon.get("/metrics").body.decode()
        match = re.search("^" + re.escape(series) + r" (\S+)$", text, re.MULTILINE)
        return float(match[1]) if match else 0.0

    def test_each_role_opens_its_routes_and_no_other(self) -> None:
        state = SCRATCH / "keys-state"
        daemon = self.start_with(
            "roles",
            *(entry(role, role) for role in ROLES),
            flags=["--state-dir", str(state), "--admin-port", "0"],
        )
        admin = Daemon.__new__(Daemon)
        admin.host, admin.port = self.admin_address(daemon)
        body, plain = json.dumps(EVENT).encode(), {"Content-Type": "application/json"}

        def ask(headers: dict[str, str]) -> dict[str, Answer]:
            return {
                "recommend": daemon.request("POST", "/recommend", b"{}", plain | headers),
                "similar": daemon.request("GET", "/similar/film-00001", headers=headers),
                "events": daemon.request("POST", "/events", body, plain | headers),
                "user": daemon.request("GET", "/users/u1", headers=headers),
                "admin": admin.request("GET", "/bundles", headers=headers),
            }

        needs = {
            "recommend": "read",
            "similar": "read",
            "events": "events",
            "user": "users",
            "admin": "admin",
        }
        ask(bearer("events"))
        for role in ROLES:
            for headers in (bearer(role), {"X-Api-Key": f"key-of-{role}"}):
                for route, answer in ask(headers).items():
                    with self.subTest(role=role, route=route):
                        if needs[route] == role:
                            self.assertEqual(answer.status, 200, answer.body)
                        else:
                            contract.check_problem(answer, "forbidden", 403)
        for headers in ({}, bearer("nobody"), {"X-Api-Key": ""}, {"Authorization": "Basic a2V5"}):
            for route, answer in ask(headers).items():
                with self.subTest(headers=headers, route=route):
                    contract.check_problem(answer, "unauthorized", 401)
                    self.assertEqual(answer.headers["www-authenticate"], "Bearer")
        both = bearer("read") | {"X-Api-Key": "key-of-users"}
        contract.check_problem(daemon.request("GET", "/users/u1", headers=both), "unauthorized", 401)
        for path in ["/livez", "/readyz", "/healthz", "/metrics", "/version", "/openapi.yaml"]:
            self.assertEqual(daemon.get(path).status, 200)
            self.assertEqual(daemon.request("GET", path, headers=bearer("nobody")).status, 200)

    def admin_address(self, daemon: Daemon) -> tuple[str, int]:
        line = daemon.process.stdout.readline().decode()
        match = re.search(r"admin listening on http://([\d.]+):(\d+)", line)
        self.assertIsNotNone(match, line)
        return match[1], int(match[2])

    def test_an_answer_without_a_key_is_documented_and_comes_before_the_body_is_read(self) -> None:
        daemon = self.start_with("before", entry("a", "read"))
        for body, media in ((b"{", "application/json"), (b"x", "text/plain"), (b"{}", "application/x-ndjson")):
            answer = daemon.request("POST", "/recommend", body, {"Content-Type": media})
            contract.check_problem(answer, "unauthorized", 401)
            contract.check_answer("/recommend", "POST", answer)
        answer = daemon.get("/similar/no-such-film")
        contract.check_problem(answer, "unauthorized", 401)
        contract.check_answer("/similar/{item_id}", "GET", answer)

    def test_anonymous_requests_may_do_what_the_file_says(self) -> None:
        daemon = self.start_with("anonymous", entry("a", "users"), anonymous={"roles": ["read"]})
        self.assertEqual(daemon.post({}).status, 200)
        contract.check_problem(daemon.request("GET", "/users/u1"), "unauthorized", 401)
        contract.check_problem(daemon.post({}, X_Api_Key="wrong"), "unauthorized", 401)
        contract.check_problem(daemon.post({}, X_Api_Key="key-of-a"), "forbidden", 403)

    def test_without_keys_state_is_for_this_machine_and_no_web_page(self) -> None:
        daemon = self.start("--state-dir", str(SCRATCH / "no-keys-state"))
        body, plain = json.dumps(EVENT).encode(), {"Content-Type": "application/json"}
        self.assertEqual(daemon.request("POST", "/events", body, plain).status, 200)
        for headers in (
            {"Origin": "http://example.org"},
            {"Host": "example.org"},
            {"Host": "127.0.0.1.example.org"},
            {"X-Forwarded-For": "192.0.2.1"},
            {"Forwarded": "for=192.0.2.1"},
        ):
            with self.subTest(headers=headers):
                answer = daemon.request("POST", "/events", body, plain | headers)
                contract.check_problem(answer, "forbidden", 403)
                contract.check_problem(
                    daemon.request("GET", "/users/u1", headers=headers), "forbidden", 403
                )
                self.assertEqual(daemon.request("POST", "/recommend", b"{}", plain | headers).status, 200)

    def test_a_new_file_counts_after_sighup_and_a_bad_one_changes_nothing(self) -> None:
        daemon = self.start_with("reload", entry("old", "read"))
        self.assertEqual(daemon.request("POST", "/recommend", b"", bearer("old")).status, 200)
        write_keys(self.path, entry("new", "read"))
        self.assertEqual(daemon.request("POST", "/recommend", b"", bearer("old")).status, 200)
        self.reload(daemon, "loaded")
        self.assertEqual(daemon.request("POST", "/recommend", b"", bearer("old")).status, 401)
        self.assertEqual(daemon.request("POST", "/recommend", b"", bearer("new")).status, 200)
        bad = [b"", b"{", b'{"keys":[]', json.dumps({"keys": [entry("x", "root")]}).encode()]
        for text in bad:
            self.path.write_bytes(text)
            self.reload(daemon, "refused")
            self.assertEqual(daemon.request("POST", "/recommend", b"", bearer("new")).status, 200)
        self.path.unlink()
        self.reload(daemon, "refused")
        self.assertEqual(daemon.request("POST", "/recommend", b"", bearer("new")).status, 200)
        self.assertIn("the keys file was refused", daemon.log_text())
        # A mounted secret is a link that is switched.
        target = write_keys(SCRATCH / "linked.keys.json", entry("linked", "read"))
        self.path.symlink_to(target)
        self.reload(daemon, "loaded")
        self.assertEqual(daemon.request("POST", "/recommend", b"", bearer("linked")).status, 200)

    def test_a_bad_file_ends_the_start(self) -> None:
        for name, text in {
            "none": None,
            "empty": b"",
            "unknown-role": json.dumps({"keys": [entry("x", "root")]}).encode(),
            "key-itself": json.dumps({"keys": [{"name": "x", "key": "s3cret", "roles": []}]}).encode(),
        }.items():
            with self.subTest(name=name):
                path = SCRATCH / f"bad-{name}.keys.json"
                if text is not None:
                    path.write_bytes(text)
                done = harness.run(
                    "serve", "--bundle", str(harness.DEMO), "--port", "0", "--keys-file", str(path)
                )
                self.assertEqual(done.returncode, 1)
                self.assertIn("keys_file", done.stderr)
                self.assertNotIn("s3cret", done.stderr)

    def test_a_file_that_all_may_read_is_warned_about(self) -> None:
        daemon = self.start_with("open", entry("a", "read"))
        self.assertNotIn("may read the keys file", daemon.log_text())
        self.path.chmod(0o644)
        self.reload(daemon, "loaded")
        self.assertIn("may read the keys file", daemon.log_text())

    def test_a_key_has_its_rate_and_then_429(self) -> None:
        daemon = self.start_with(
            "rate", entry("slow", "read", rate=0.01, burst=5), entry("free", "read"), flags=["--loops", "3"]
        )
        statuses = [daemon.request("POST", "/recommend", b"", bearer("slow")).status for _ in range(8)]
        self.assertEqual(statuses, [200] * 5 + [429] * 3)
        answer = daemon.request("POST", "/recommend", b"", bearer("slow"))
        contract.check_problem(answer, "rate-limited", 429)
        contract.check_answer("/recommend", "POST", answer)
        self.assertIn(int(answer.headers["retry-after"]), range(90, 101))
        self.assertEqual(daemon.request("POST", "/recommend", b"", bearer("free")).status, 200)
        self.assertEqual(
            self.metric(daemon, 'recserver_key_requests_total{key="slow",outcome="allowed"}'), 5
        )
        self.assertEqual(
            self.metric(daemon, 'recserver_key_requests_total{key="slow",outcome="limited"}'), 4
        )
        self.assertEqual(self.metric(daemon, 'recserver_requests_refused_total{reason="key_rate"}'), 4)
        # The same rate in a new file is the same budget.
        write_keys(self.path, entry("slow", "read", rate=0.01, burst=5))
        self.reload(daemon, "loaded")
        self.assertEqual(daemon.request("POST", "/recommend", b"", bearer("slow")).status, 429)

    def test_an_address_has_its_rate_and_probes_have_none(self) -> None:
        daemon = self.start("--rate-per-address", "20")
        statuses = [daemon.post({}).status for _ in range(200)]
        self.assertEqual(set(statuses), {200, 429})
        self.assertGreaterEqual(statuses.count(200), 20)
        while (answer := daemon.get("/similar/film-00001")).status != 429:
            pass
        contract.check_problem(answer, "rate-limited", 429)
        contract.check_answer("/similar/{item_id}", "GET", answer)
        self.assertEqual(answer.headers["retry-after"], "1")
        for path in ["/livez", "/readyz", "/metrics"] * 50:
            self.assertEqual(daemon.get(path).status, 200)
        time.sleep(1)
        self.assertEqual(daemon.post({}).status, 200)

    def test_a_key_made_on_the_command_line_opens_what_it_says(self) -> None:
        done = harness.run("key", "new", "shop", "--roles", "read,events", "--rate", "50", "--days", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        key, line = done.stdout.splitlines()
        self.assertRegex(key, "^[0-9a-f]{64}$")
        made = json.loads(line)
        self.assertEqual(made["sha256"], hashlib.sha256(key.encode()).hexdigest())
        self.assertEqual(made["roles"], ["read", "events"])
        daemon = self.start_with("made", made)
        answer = daemon.request("POST", "/recommend", b"", {"Authorization": f"Bearer {key}"})
        self.assertEqual(answer.status, 200)
        other = harness.run("key", "new", "shop", "--roles", "read")
        self.assertNotEqual(other.stdout.splitlines()[0], key)
        for arguments in (["a b", "--roles", "read"], ["a", "--roles", "root"], ["a", "--roles", "read,read"]):
            self.assertEqual(harness.run("key", "new", *arguments).returncode, 2, arguments)
        # Nothing of a key is in the log or in the metrics, at the most talkative level.
        talkative = self.start("--keys-file", str(self.path), "--log-level", "debug")
        for headers in ({"Authorization": f"Bearer {key}"}, {"X-Api-Key": key + "x"}):
            talkative.request("POST", "/recommend", b"{}", headers)
        told = Path(talkative.log.name).read_text() + talkative.get("/metrics").body.decode()
        self.assertNotIn(key[:16], told)
        self.assertNotIn(made["sha256"][:16], told)
