"""Versions side by side: switches under load, labels, refusals, rollback, SIGHUP, and what stays in memory."""

import http.client
import json
import re
import signal
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import contract
import harness
from harness import NOW, Answer, copy_bundle
from test_bundles import edit_bytes, edit_manifest, edit_tensor, setting, sign

USERS = [f"demo-{genre}-{i}" for genre in ["horror", "scifi", "romance", "comedy"] for i in (1, 2)]
REQUESTS = [
    {
        "user_id": user,
        "candidates": [{"item_id": f"film-{1 + 97 * (i + 31 * k):05}"} for i in range(30)],
        "now": NOW,
        "degrade": "never",
        "deadline_ms": 10_000,
    }
    for k, user in enumerate(USERS)
]


@cache
def version(name: str, weight: float) -> Path:
    """The demo bundle under another version, whose scores differ by more than a rounding."""
    bundle = copy_bundle(name)
    goldens = []
    for line in (bundle / "golden.jsonl").read_text().splitlines():
        golden = json.loads(line)
        golden["stages"].pop("value", None)
        goldens.append(json.dumps(golden))
    (bundle / "golden.jsonl").write_text("\n".join(goldens) + "\n")

    def change(manifest: dict) -> None:
        manifest["model_version"] = name
        weights = manifest["value"]["weights"]
        manifest["value"]["weights"] = {task: w * weight for task, w in weights.items()}

    edit_manifest(bundle, change)
    sign(bundle)
    return bundle


def first() -> Path:
    return version("swap-a", 1.0)


def second() -> Path:
    return version("swap-b", 1.3)


def damaged(name: str) -> Path:
    """A copy of the second version, to damage."""
    return copy_bundle(f"swap-{name}", second())


class AdminDaemon(harness.Daemon):
    """A daemon with an admin listener, at first on the first version."""

    def __init__(self, *flags: str, bundle: Path | None = None, **options: Any) -> None:
        super().__init__("--admin-port", "0", *flags, bundle=bundle or first(), wait=False, **options)
        line = self.process.stdout.readline().decode()
        self.admin_port = int(re.search(r"admin listening on http://[\d.]+:(\d+)", line)[1])
        self.wait_until_ready()

    def admin(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.admin_port, timeout=4 * harness.patience())
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            given = {"Content-Type": "application/json"} if headers is None else headers
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def load(self, bundle: Path, **more: Any) -> Answer:
        return self.admin("POST", "/bundles?wait=true", {"path": str(bundle)} | more)

    def metric(self, series: str) -> float:
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith(series + " "):
                return float(line.split()[-1])
        raise AssertionError(f"no metric {series}")

    def resident(self) -> float:
        return self.metric("process_resident_memory_bytes")

    def bundles(self) -> Any:
        return self.admin("GET", "/bundles").json

    def wait_until_freed(self) -> None:
        limit = time.monotonic() + harness.patience()
        while any(b["state"] == "draining" for b in self.bundles()["bundles"]):
            if time.monotonic() > limit:
                raise AssertionError("a version is still draining")
            time.sleep(0.01)


@cache
def oracle(bundle: Path) -> list[list[tuple[str, float]]]:
    """What a daemon with nothing but this version answers to each of the requests."""
    daemon = harness.Daemon(bundle=bundle)
    try:
        answers = [daemon.recommend(**request) for request in REQUESTS]
    finally:
        daemon.stop()
    return [[(item["item_id"], item["score"]) for item in answer["items"]] for answer in answers]


class Clients:
    """Threads that ask again and again, each on a connection of its own, and compare every answer."""

    def __init__(self, case: harness.Case, daemon: AdminDaemon, count: int = 4) -> None:
        self.case, self.daemon = case, daemon
        self.expected = {"swap-a": oracle(first()), "swap-b": oracle(second())}
        self.bodies = [json.dumps(request).encode() for request in REQUESTS]
        self.ending = threading.Event()
        self.failures: list[str] = []
        self.seen = {"swap-a": 0, "swap-b": 0}
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def run(self, index: int) -> None:
        connection = http.client.HTTPConnection(self.daemon.host, self.daemon.port, timeout=60)
        at = index
        try:
            # A slow daemon's loads get what requests leave, and requests would leave nothing.
            while not self.ending.wait(0.2 if harness.SLOW else 0):
                at = (at + 1) % len(REQUESTS)
                connection.request(
                    "POST", "/recommend", self.bodies[at], {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                self.check(at, answer.status, answer.read())
        except Exception as error:
            self.failures.append(repr(error))
        finally:
            connection.close()

    def check(self, at: int, status: int, body: bytes) -> None:
        if status != 200:
            self.failures.append(f"{status} {body[:200]!r}")
            return
        answer = json.loads(body)
        expected = self.expected[answer["model_version"]][at]
        items = [(item["item_id"], item["score"]) for item in answer["items"]]
        same = [i for i, _ in items] == [i for i, _ in expected] and all(
            abs(a - b) <= 1e-5 * abs(b) + 1e-12 for (_, a), (_, b) in zip(items, expected)
        )
        if not same:
            self.failures.append(f"{answer['model_version']} does not answer so: {items[:3]}")
        with self.lock:
            self.seen[answer["model_version"]] += 1


class Switching(harness.Case):
    def start(self, *flags: str, **options: Any) -> AdminDaemon:
        daemon = AdminDaemon(*flags, **options)
        self.addCleanup(daemon.stop, self)
        return daemon

    def assert_answers(self, daemon: AdminDaemon, bundle: Path, **more: Any) -> None:
        for request, expected in zip(REQUESTS, oracle(bundle)):
            answer = daemon.recommend(**request, **more)
            self.assertEqual(answer["model_version"], bundle.name)
            self.assertEqual([i["item_id"] for i in answer["items"]], [i for i, _ in expected])
            self.assert_close([i["score"] for i in answer["items"]], [s for _, s in expected])

    def test_the_two_versions_can_be_told_apart(self) -> None:
        for a, b in zip(oracle(first()), oracle(second())):
            scores = dict(b)
            self.assertTrue(all(abs(score - scores[item]) > 1e-3 * abs(score) for item, score in a))

    def test_switches_under_load_fail_no_request_and_mix_no_versions(self) -> None:
        daemon = self.start("--keep-previous", "off")
        rounds = 100 if harness.FULL else 3 if harness.SLOW else 12
        settled = 0.0
        with Clients(self, daemon) as clients:
            for i in range(rounds):
                answer = daemon.load([second(), first()][i % 2])
                self.assertEqual(answer.status, 200, answer.body)
                if i == min(9, rounds // 2):
                    daemon.wait_until_freed()
                    settled = daemon.resident()
        daemon.wait_until_freed()
        resident = daemon.resident()
        self.assertEqual(clients.failures[:5], [])
        self.assertGreater(min(clients.seen.values()), 0, clients.seen)
        self.assertEqual(daemon.metric('recserver_bundle_swaps_total{label="default"}'), rounds + 1)
        self.assertEqual(daemon.metric('recserver_bundle_loads_total{result="loaded"}'), rounds + 1)
        self.assertEqual(daemon.metric('recserver_bundle_versions{state="ready"}'), 1)
        # Sanitizers quarantine what is freed.
        if not harness.SLOW:
            # The demo bundle is small: a page left over in each heap is a percent already.
            limit = settled * (1.02 if harness.FULL else 1.1) + (1 << 20)
            self.assertLess(resident, limit, f"{settled} before")

    def test_a_rollback_is_one_call(self) -> None:
        daemon = self.start()
        contract.check_problem(daemon.admin("POST", "/bundles/rollback", {}), "conflict", 409)
        self.assertEqual(daemon.load(second()).status, 200)
        self.assert_answers(daemon, second())
        for bundle in [first(), second(), first()]:
            answer = daemon.admin("POST", "/bundles/rollback", {})
            self.assertEqual(answer.status, 200, answer.body)
            self.assert_answers(daemon, bundle)
        self.assertEqual(daemon.metric('recserver_bundle_loads_total{result="loaded"}'), 2)

    def test_a_rollback_loads_what_was_not_kept(self) -> None:
        daemon = self.start("--keep-previous", "off")
        self.assertEqual(daemon.load(second()).status, 200)
        daemon.wait_until_freed()
        self.assertEqual([b["model_version"] for b in daemon.bundles()["bundles"]], [second().name])
        answer = daemon.admin("POST", "/bundles/rollback?wait=true", {})
        self.assertEqual(answer.status, 200, answer.body)
        self.assert_answers(daemon, first())

    def test_bundles_that_are_refused_change_nothing(self) -> None:
        daemon = self.start()
        cases: list[tuple[Path, str, str]] = []

        def case(name: str, reason: str, word: str) -> Path:
            bundle = damaged(name)
            cases.append((bundle, reason, word))
            return bundle

        edit_bytes(case("flipped", "digest", "model.safetensors") / "model.safetensors", flip_last)
        (case("missing", "unreadable", "model.safetensors") / "model.safetensors").unlink()
        (case("extra", "other", "extra.bin") / "extra.bin").write_bytes(b"x")
        (case("text", "manifest", "manifest.json") / "manifest.json").write_text("{")
        edit_tensor(
            case("nan", "tensors", "sequence.target.weight"),
            "sequence.target.weight",
            setting(0, 1, to=float("nan")),
        )
        edit_tensor(case("shape", "tensors", "item.vector"), "item.vector", lambda t: t[:-1])
        wrong = case("golden", "goldens", "golden.jsonl")
        edit_tensor(wrong, "sequence.target.weight", lambda t: t * np.float32(1.5))
        with Clients(self, daemon, count=2) as clients:
            for bundle, reason, word in cases:
                with self.subTest(bundle=bundle.name):
                    answer = daemon.load(bundle)
                    contract.check_problem(answer, "bundle-refused", 422)
                    self.assertIn(word, answer.json["detail"])
                    last = daemon.bundles()["last_load"]
                    self.assertEqual((last["result"], last["class"]), ("refused", reason), last)
                    self.assertIn("the bundle was refused", daemon.log_text())
        self.assertEqual(clients.failures[:5], [])
        self.assertEqual(clients.seen["swap-b"], 0)
        refused = sum(
            float(line.split()[-1])
            for line in daemon.get("/metrics").body.decode().splitlines()
            if line.startswith('recserver_bundle_loads_total{result="refused_')
        )
        self.assertEqual(refused, len(cases))
        self.assertEqual(daemon.load(second()).status, 200)
        self.assert_answers(daemon, second())

    def test_sighup_follows_a_link_that_was_switched(self) -> None:
        link = harness.SCRATCH / "current"
        link.unlink(missing_ok=True)
        link.symlink_to(first())
        daemon = self.start(bundle=link)
        unchanged = 'recserver_bundle_loads_total{result="unchanged"}'
        daemon.process.send_signal(signal.SIGHUP)
        self.wait_for(lambda: daemon.metric(unchanged) == 1)
        link.unlink()
        link.symlink_to(second())
        with Clients(self, daemon, count=2) as clients:
            daemon.process.send_signal(signal.SIGHUP)
            self.wait_for(lambda: daemon.get("/version").json["labels"]["default"] == second().name)
        self.assertEqual(clients.failures[:5], [])
        self.assert_answers(daemon, second())

    def test_a_pinned_default_ignores_sighup_and_loads(self) -> None:
        link = harness.SCRATCH / "pinned"
        link.unlink(missing_ok=True)
        link.symlink_to(first())
        daemon = self.start(bundle=link)
        self.assertEqual(daemon.admin("POST", "/bundles/pin", {"pinned": True}).status, 200)
        self.assertTrue(daemon.bundles()["labels"]["default"]["pinned"])
        link.unlink()
        link.symlink_to(second())
        daemon.process.send_signal(signal.SIGHUP)
        self.wait_for(lambda: daemon.metric('recserver_bundle_loads_total{result="refused_registry"}') == 1)
        contract.check_problem(daemon.load(second()), "conflict", 409)
        self.assert_answers(daemon, first())
        self.assertEqual(daemon.admin("POST", "/bundles/pin", {"pinned": False}).status, 200)
        self.assertEqual(daemon.load(second()).status, 200)
        self.assert_answers(daemon, second())

    def test_a_canary_answers_its_users_until_it_is_promoted(self) -> None:
        daemon = self.start()
        self.assertEqual(daemon.load(second(), label="canary", share=0.5).status, 200)
        users = [f"someone-{i}" for i in range(60)]

        def ask(user: str) -> tuple[str, str]:
            answer = daemon.recommend(user_id=user, n=1)
            return answer["model"], answer["model_version"]

        chosen = [ask(user) for user in users]
        self.assertEqual(set(chosen), {("default", first().name), ("canary", second().name)})
        self.assertEqual([ask(user) for user in users], chosen)
        self.assert_answers(daemon, first(), model="default")
        self.assert_answers(daemon, second(), model="canary")
        self.assert_answers(daemon, second(), model=second().name)
        contract.check_problem(daemon.post({"model": "nobody"}), "unknown-model", 422)
        answer = daemon.admin("POST", "/bundles/promote", {"from": "canary"})
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(set(answer.json["labels"]), {"default"})
        self.assert_answers(daemon, second())
        contract.check_problem(daemon.post({"model": "canary"}), "unknown-model", 422)
        self.assertEqual(daemon.admin("DELETE", f"/bundles/{first().name}").status, 200)
        contract.check_problem(daemon.admin("DELETE", f"/bundles/{second().name}"), "conflict", 409)
        contract.check_problem(daemon.admin("DELETE", "/bundles/nothing"), "not-found", 404)

    def test_a_shadow_is_compared_and_never_answers(self) -> None:
        daemon = self.start()
        self.assertEqual(daemon.load(second(), label="shadow", share=1).status, 200)
        for _ in range(3):
            self.assert_answers(daemon, first())
        sent = 3 * len(REQUESTS)

        def counts() -> list[float]:
            return [
                daemon.metric(f'recserver_shadow_requests_total{{result="{result}"}}')
                for result in ["answered", "failed", "dropped"]
            ]

        self.wait_for(lambda: sum(counts()) == sent)
        answered, failed, _ = counts()
        self.assertEqual(failed, 0)
        self.assertGreater(answered, 0)
        self.assertEqual(daemon.metric("recserver_shadow_overlap_count"), answered)
        # All candidates are on both pages, whatever their order.
        self.assertEqual(daemon.metric("recserver_shadow_overlap_sum"), answered)
        contract.check_problem(daemon.post({"model": "shadow"}), "unknown-model", 422)
        contract.check_answer("/version", "GET", daemon.get("/version"))

    def test_one_load_at_a_time_and_none_holds_up_the_end(self) -> None:
        daemon = self.start("--load-bytes-per-second", "100000")
        answer = daemon.admin("POST", "/bundles", {"path": str(second())})
        self.assertEqual(answer.status, 202, answer.body)
        self.assertEqual(answer.json["loading"]["path"], str(second()))
        contract.check_problem(daemon.load(second()), "conflict", 409)
        self.assert_answers(daemon, first())
        self.assertEqual(daemon.metric('recserver_bundle_versions{state="loading"}'), 1)
        # It would go on for half a minute.
        begun = time.monotonic()
        self.assertEqual(daemon.stop(), 0)
        self.assertLess(time.monotonic() - begun, 10)

    def test_admin_requests_are_checked(self) -> None:
        daemon = self.start()
        here = {"path": str(second())}
        for method, path, body, headers, kind, status in [
            ("GET", "/bundles", None, {"Origin": "http://localhost"}, "forbidden", 403),
            ("GET", "/bundles", None, {"Host": "pages.example"}, "forbidden", 403),
            ("POST", "/bundles", here, {"Content-Type": "text/plain"}, "unsupported-media-type", 415),
            ("POST", "/bundles", b"{", None, "malformed-json", 400),
            ("POST", "/bundles", {}, None, "out-of-range", 400),
            ("POST", "/bundles", here | {"label": "other"}, None, "out-of-range", 400),
            ("POST", "/bundles", here | {"share": 1.5}, None, "out-of-range", 400),
            ("POST", "/bundles", here | {"when": 1}, None, "unknown-field", 400),
            ("POST", "/bundles/pin", {}, None, "out-of-range", 400),
            ("POST", "/bundles/promote", {"from": "canary"}, None, "conflict", 409),
            ("DELETE", "/bundles", None, None, "method-not-allowed", 405),
            ("GET", "/metrics", None, None, "not-found", 404),
        ]:
            with self.subTest(method=method, path=path, body=body):
                contract.check_problem(daemon.admin(method, path, body, headers), kind, status)
        # The public listener knows nothing of it.
        contract.check_problem(daemon.get("/bundles"), "not-found", 404)
        contract.check_problem(daemon.request("POST", "/bundles", b"{}"), "not-found", 404)

    def test_too_little_memory_is_said_in_numbers(self) -> None:
        done = harness.run(
            "serve", "--bundle", str(first()), "--port", "0", "--memory-headroom", "1099511627776"
        )
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"memory: expected \d+ bytes and memory_headroom 1099511627776")

    def wait_for(self, condition: Any) -> None:
        limit = time.monotonic() + 4 * harness.patience()
        while not condition():
            self.assertLess(time.monotonic(), limit, "waited in vain")
            time.sleep(0.02)


def flip_last(data: bytearray) -> None:
    data[-1] ^= 1
