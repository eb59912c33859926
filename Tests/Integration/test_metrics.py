"""/metrics: well formed in both formats, and its counters count."""

import re
import shutil
import subprocess

import harness

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABELS = rf'\{{{NAME}="(?:[^"\\\n]|\\["\\n])*"(?:,{NAME}="(?:[^"\\\n]|\\["\\n])*")*\}}'
SAMPLE = re.compile(rf"({NAME})({LABELS})? (NaN|[+-]Inf|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")


def parse(text: str) -> tuple[dict[str, str], dict[str, float]]:
    """Types by family and values by series; raises on a line that is neither."""
    types: dict[str, str] = {}
    helps: set[str] = set()
    values: dict[str, float] = {}
    for line in text.splitlines():
        if line == "# EOF":
            continue
        if line.startswith("# HELP "):
            helps.add(line.split()[2])
        elif line.startswith("# TYPE "):
            _, _, family, kind = line.split()
            if family in types:
                raise AssertionError(f"two types of {family}")
            types[family] = kind
        else:
            # An exemplar, in OpenMetrics alone.
            match = SAMPLE.fullmatch(re.sub(r' # \{trace_id="[0-9a-f]{32}"\} \S+ \S+$', "", line))
            if not match:
                raise AssertionError(f"not a sample: {line!r}")
            series = match[1] + (match[2] or "")
            if series in values:
                raise AssertionError(f"twice: {series}")
            family = next(
                (f for f in (match[1], re.sub("_(total|bucket|sum|count)$", "", match[1])) if f in types),
                None,
            )
            if family is None or family not in helps:
                raise AssertionError(f"{series} before its TYPE and HELP")
            values[series] = float(match[3])
    return types, values


class Metrics(harness.Case):
    def values(self) -> dict[str, float]:
        return parse(self.daemon.get("/metrics").body.decode())[1]

    def test_both_formats_parse(self) -> None:
        self.daemon.recommend(user_id="demo-scifi-1")
        plain = self.daemon.get("/metrics")
        self.assertTrue(plain.headers["content-type"].startswith("text/plain; version=0.0.4"))
        types, values = parse(plain.body.decode())
        self.assertGreater(len(types), 20)
        self.assertNotIn("# EOF", plain.body.decode())
        open_ = self.daemon.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        self.assertTrue(
            open_.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        )
        self.assertTrue(open_.body.endswith(b"# EOF\n"))
        parse(open_.body.decode())
        for family, kind in types.items():
            if kind == "histogram":
                for series in [s for s in values if s.startswith(family + "_bucket") and 'le="+Inf"' in s]:
                    labels = (
                        series[len(family) + 7 :]
                        .replace('le="+Inf"', "")
                        .replace(",}", "}")
                        .replace("{}", "")
                    )
                    self.assertEqual(values[series], values[family + "_count" + labels])
            if kind == "counter":
                self.assertTrue(family.endswith("_total"), family)

    def test_counters_count(self) -> None:
        series = {
            'recserver_request_seconds_count{route="/recommend",status="200"}': lambda: self.daemon.post(
                {"n": 1}
            ),
            'recserver_request_seconds_count{route="/recommend",status="400"}': lambda: self.daemon.post(
                {"n": 0}
            ),
            'recserver_request_seconds_count{route="/similar/{item_id}",status="200"}': lambda: (
                self.daemon.get("/similar/film-00001")
            ),
            'recserver_request_seconds_count{route="/similar/{item_id}",status="404"}': lambda: (
                self.daemon.get("/similar/none")
            ),
            'recserver_request_seconds_count{route="other",status="404"}': lambda: self.daemon.get(
                "/nothing"
            ),
            'recserver_request_seconds_count{route="/recommend",status="405"}': lambda: self.daemon.get(
                "/recommend"
            ),
            "recserver_protocol_errors_total": lambda: self.daemon.raw(b"BAD\r\n\r\n"),
            "recserver_connections_accepted_total": lambda: self.daemon.get("/livez"),
            # Of nobody, so that the cache has none of it.
            "recserver_history_tokens_total": lambda: self.daemon.recommend(
                history=[{"item_id": "film-00001"}]
            ),
            "recserver_deadline_missed_total": lambda: self.daemon.post(
                {
                    "user_id": "demo-scifi-1",
                    "n": 500,
                    "deadline_ms": 1,
                    "degrade": "never",
                    "diversity": 1,
                    "filter": {"not": {"any": []}},
                }
            ),
            "recserver_short_answers_total": lambda: self.daemon.recommend(filter={"any": []}),
            'recserver_stage_seconds_count{stage="rank"}': lambda: self.daemon.recommend(
                user_id="demo-scifi-1"
            ),
            "recserver_received_bytes_total": lambda: self.daemon.get("/livez"),
            "recserver_sent_bytes_total": lambda: self.daemon.get("/livez"),
        }
        for name, act in series.items():
            with self.subTest(name):
                before = self.values().get(name, 0)
                for _ in range(5):
                    act()
                self.assertGreater(self.values().get(name, 0), before)

    def test_labels_come_from_fixed_sets(self) -> None:
        for path in ["/a", "/b?c=d", '/"', "/similar/x%22%0A", "/recommend/x"]:
            self.daemon.get(path)
        text = self.daemon.get("/metrics").body.decode()
        routes = set(re.findall(r'route="([^"]*)"', text))
        self.assertLessEqual(
            routes,
            {
                "/recommend",
                "/similar/{item_id}",
                "/events",
                "/users/{user_id}",
                "/users/{user_id}/events/{event_id}",
                "/livez",
                "/readyz",
                "/healthz",
                "/version",
                "/metrics",
                "/openapi.yaml",
                "other",
            },
        )

    def test_the_gauges_tell_the_truth(self) -> None:
        values = self.values()
        self.assertEqual(values["recserver_ready"], 1)
        self.assertEqual(values["recserver_bundle_items"], len(harness.catalogue().items))
        self.assertGreater(values["process_resident_memory_bytes"], 1e6)
        self.assertTrue(
            any(
                series.startswith("recserver_bundle_info{") and 'model_version="demo-1"' in series
                for series in values
            )
        )

    def test_promtool_agrees(self) -> None:
        if not harness.FULL:
            self.skipTest("only with --full")
        if not shutil.which("promtool"):
            self.skipTest("promtool is not installed")
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=self.daemon.get("/metrics").body, capture_output=True
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
