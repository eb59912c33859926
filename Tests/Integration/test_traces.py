"""The access log, spans for a collector, exemplars; and nothing secret in any of them."""

import base64
import http.server
import json
import os
import re
import signal
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Callable

import harness

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


def until(found: Callable[[], Any]) -> Any:
    """What `found` gives as soon as that is something."""
    limit = time.monotonic() + harness.patience()
    while time.monotonic() < limit:
        if value := found():
            return value
        time.sleep(0.01)
    raise AssertionError("it did not come")


def file(name: str) -> Path:
    return harness.SCRATCH / f"{name}-{uuid.uuid4().hex}"


class Collector:
    """A collector: keeps what is posted, and answers what it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = collector.statuses.pop(0) if collector.statuses else 200
                collector.requests.append((self.path, dict(self.headers), body))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[Any]:
        """All spans, read by the protocol's own definitions."""
        from google.protobuf import json_format
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        spans = []
        for path, headers, body in self.requests:
            assert path == "/v1/traces" and headers["Content-Type"] == "application/json", (path, headers)
            document = json.loads(body)
            for scope in (s for r in document["resourceSpans"] for s in r["scopeSpans"]):
                for span in scope["spans"]:
                    # OTLP has ids in hexadecimal where protobuf's own mapping has base 64.
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in span:
                            span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
            message = json_format.ParseDict(document, trace_service_pb2.ExportTraceServiceRequest())
            for resource in message.resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                assert names["service.name"] == "recserver", names
                spans += [s for scope in resource.scope_spans for s in scope.spans]
        return spans

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def attributes(span: Any) -> dict[str, Any]:
    values = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        if kind == "array_value":
            value = [v.string_value for v in value.values]
        values[attribute.key] = value
    return values


class AccessLog(harness.Case):
    def test_every_request_is_a_line_without_secrets(self) -> None:
        path = file("access")
        daemon = self.start("--access-log", str(path), "--state-dir", str(file("state")))
        secret = "s3cr3t-" + uuid.uuid4().hex
        user = "user-" + uuid.uuid4().hex
        daemon.post(
            {"user_id": user, "n": 1, "deadline_ms": 10_000},
            X_Request_Id="mine-1",
            Authorization=f"Bearer {secret}",
            User_Agent='tester/1 "\\\u00e9' + "x" * 1000,
            **SAMPLED,
        )
        daemon.events({"user_id": user, "item_id": "film-00001", "action": "watch"}, X_Request_Id="mine-2")
        daemon.get(f"/users/{user}?token={secret}", X_Request_Id="mine-3")
        daemon.get(f"/nowhere/{user}", X_Request_Id="mine-4")
        daemon.get(f"/%75sers/{user}/x", X_Request_Id="mine-5")
        daemon.raw(b"GET / HTTP/1.1\r\n" + b"Host: a\r\nHost: b\r\n\r\n")
        daemon.stop(self)
        text = path.read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        of = {line["request_id"]: line for line in lines if "route" in line}
        self.assertNotIn(secret, text)
        self.assertNotIn(user, text)
        first = of["mine-1"]
        self.assertRegex(first["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            (first["method"], first["route"], first["path"], first["status"], first["peer"]),
            ("POST", "/recommend", "/recommend", 200, "127.0.0.1"),
        )
        self.assertEqual((first["trace_id"], first["protocol"]), (TRACE, "HTTP/1.1"))
        self.assertGreater(first["response_bytes"], 100)
        self.assertGreater(first["request_bytes"], 10)
        self.assertGreater(first["seconds"], first["queue_seconds"])
        self.assertLessEqual(len(first["user_agent"]), 257)
        self.assertTrue(first["user_agent"].startswith('tester/1 "\\'))
        self.assertEqual(of["mine-2"]["route"], "/events")
        self.assertEqual(of["mine-3"]["path"], "/users/{user_id}")
        self.assertEqual((of["mine-4"]["path"], of["mine-4"]["status"]), ("/nowhere/…", 404))
        self.assertEqual(of["mine-5"]["path"], "/%75sers/…")
        # What was no request has a line all the same.
        self.assertIn(400, [line["status"] for line in lines if "route" not in line])

    def test_a_share_is_logged_and_errors_always(self) -> None:
        path = file("access")
        daemon = self.start("--access-log", str(path), "--access-log-percent", "0", "--bundle", str(harness.DEMO))
        daemon.get("/livez", X_Request_Id="fine")
        # 501: nothing is kept of users.
        self.assertEqual(daemon.get("/users/u", X_Request_Id="broken").status, 501)
        daemon.stop(self)
        ids = [json.loads(line)["request_id"] for line in path.read_text().splitlines()]
        self.assertIn("broken", ids)
        self.assertNotIn("fine", ids)

    def test_it_is_opened_again_on_sigusr1(self) -> None:
        path = file("access")
        old = Path(str(path) + ".1")
        daemon = self.start("--access-log", str(path))
        daemon.get("/livez", X_Request_Id="before")
        until(lambda: path.exists() and "before" in path.read_text())
        path.rename(old)
        daemon.process.send_signal(signal.SIGUSR1)
        until(path.exists)
        daemon.get("/livez", X_Request_Id="after")
        until(lambda: "after" in path.read_text())
        self.assertNotIn('"after"', old.read_text())

    def test_a_disk_that_fails_costs_lines_and_nothing_else(self) -> None:
        daemon = self.start("--access-log", "/dev/full")
        for _ in range(5):
            self.assertEqual(daemon.get("/livez").status, 200)
        until(lambda: re.search(rb"recserver_access_log_errors_total [1-9]", daemon.get("/metrics").body))

    def test_names_of_keys_are_there_and_keys_are_not(self) -> None:
        made = harness.run("key", "new", "shop", "--roles", "read").stdout
        key = re.search(r"\S{30,}", made.splitlines()[0])[0]
        entry = json.loads(made[made.index("{") :])
        keys = file("keys.json")
        keys.write_text(json.dumps(entry if "keys" in entry else {"keys": [entry]}))
        path = file("access")
        collector = Collector()
        self.addCleanup(collector.close)
        daemon = self.start(
            "--access-log", str(path), "--keys-file", str(keys), "--log-level", "debug",
            "--otlp-endpoint", collector.endpoint, "--otlp-percent", "100",
        )  # fmt: skip
        ask = {"n": 1, "deadline_ms": 10_000}
        answer = daemon.post(ask, Authorization=f"Bearer {key}", X_Request_Id="known")
        self.assertEqual(answer.status, 200, answer.body)
        wrong = "rk_" + uuid.uuid4().hex
        self.assertEqual(daemon.post(ask, X_Api_Key=wrong).status, 401)
        metrics = daemon.get("/metrics").body.decode()
        daemon.stop(self)
        log = Path(daemon.log.name).read_text()
        spans = b"".join(body for _, _, body in collector.requests).decode()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual([line["key"] for line in lines if line["request_id"] == "known"], ["shop"])
        self.assertIn("known", spans)
        for text in (path.read_text(), metrics, log, spans):
            for word in (key, wrong, "Bearer"):
                self.assertNotIn(word, text)


class Spans(harness.Case):
    def setUp(self) -> None:
        self.collector = Collector()
        self.addCleanup(self.collector.close)

    def test_a_callers_trace_goes_on_with_the_stages_as_children(self) -> None:
        daemon = self.start("--otlp-endpoint", self.collector.endpoint, "--otlp-percent", "0")
        body = {"user_id": "demo-scifi-1", "n": 3, "now": harness.NOW, "deadline_ms": 10_000}
        before = time.time_ns()
        daemon.post(body, X_Request_Id="mine", tracestate="a=1,b=2", **SAMPLED)
        daemon.post(body, traceparent=f"00-{TRACE}-{PARENT}-00")
        daemon.post(body)
        daemon.get("/nowhere/x", traceparent=f"00-{TRACE[::-1]}-{PARENT}-01")
        daemon.stop(self)
        spans = self.collector.spans()
        ours = [s for s in spans if s.trace_id.hex() == TRACE]
        root = next(s for s in ours if s.kind == s.SPAN_KIND_SERVER)
        children = [s for s in ours if s is not root]
        self.assertEqual(len([s for s in spans if s.kind == s.SPAN_KIND_SERVER]), 2)
        self.assertEqual((root.name, root.parent_span_id.hex(), root.trace_state), ("POST /recommend", PARENT, "a=1,b=2"))
        self.assertNotEqual(root.span_id.hex(), PARENT)
        self.assertLessEqual({"queue", "decode", "retrieve", "rank", "slate", "encode"}, {s.name for s in children})
        self.assertEqual({s.parent_span_id for s in children}, {root.span_id})
        self.assertEqual(len({s.span_id for s in ours}), len(ours))
        end = before
        for span in sorted(children, key=lambda s: s.start_time_unix_nano):
            self.assertGreaterEqual(span.start_time_unix_nano, end - 1000)
            end = span.end_time_unix_nano
        self.assertLess(before, root.start_time_unix_nano)
        self.assertLessEqual(end, root.end_time_unix_nano)
        named = attributes(root)
        self.assertEqual(named["http.request.method"], "POST")
        self.assertEqual(named["http.route"], "/recommend")
        self.assertEqual(named["http.response.status_code"], 200)
        self.assertEqual(named["recserver.request_id"], "mine")
        self.assertEqual(named["recserver.model_version"], daemon_model())
        self.assertIn(named["recserver.cache"], ("miss", "none", "hit", "extended"))
        missing = next(s for s in spans if s.trace_id.hex() == TRACE[::-1])
        self.assertEqual((missing.name, attributes(missing)["url.path"]), ("GET", "/nowhere/…"))

    def test_a_share_of_other_requests_begins_a_trace(self) -> None:
        daemon = self.start("--otlp-endpoint", self.collector.endpoint, "--otlp-percent", "100")
        for _ in range(20):
            daemon.get("/livez")
        daemon.stop(self)
        traces = {s.trace_id for s in self.collector.spans() if s.name == "GET /livez"}
        self.assertEqual(len(traces), 20)

    def test_a_collector_that_refuses_is_asked_again_and_one_that_is_not_there_costs_nothing(self) -> None:
        self.collector.statuses = [503]
        daemon = self.start("--otlp-endpoint", self.collector.endpoint, "--otlp-percent", "0")
        daemon.get("/livez", **SAMPLED)
        until(lambda: len(self.collector.requests) >= 2)
        self.assertEqual(self.collector.requests[0][2], self.collector.requests[1][2])
        until(lambda: b'recserver_spans_total{result="sent"} 1' in daemon.get("/metrics").body)
        self.collector.statuses = [400]
        daemon.get("/livez", **SAMPLED)
        until(lambda: b'recserver_spans_total{result="dropped"} 1' in daemon.get("/metrics").body)
        gone = self.start("--otlp-endpoint", "http://127.0.0.1:1", "--otlp-percent", "100")
        self.assertEqual(gone.get("/livez").status, 200)
        until(lambda: re.search(rb"recserver_span_errors_total [1-9]", gone.get("/metrics").body))

    def test_only_plain_http_is_an_endpoint(self) -> None:
        for endpoint in ("https://127.0.0.1:4318", "127.0.0.1:4318", "http://", "http://h:0", "http://h:x"):
            done = harness.run("serve", "--bundle", str(harness.DEMO), "--port", "0", "--otlp-endpoint", endpoint)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("otlp_endpoint", done.stderr)


class Exemplars(harness.Case):
    def test_buckets_name_a_recorded_trace_in_openmetrics_alone(self) -> None:
        from prometheus_client.openmetrics import parser

        self.daemon.post({"n": 1, "deadline_ms": 10_000}, **SAMPLED)
        self.daemon.post({"n": 1, "deadline_ms": 10_000}, traceparent=f"00-{TRACE[::-1]}-{PARENT}-00")

        def found() -> set[str]:
            text = self.daemon.get("/metrics", **OPEN_METRICS).body.decode()
            names = set()
            for family in parser.text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.exemplar:
                        self.assertEqual(sample.exemplar.labels, {"trace_id": TRACE})
                        self.assertLessEqual(sample.exemplar.value, float(sample.labels["le"]))
                        self.assertLess(abs(float(sample.exemplar.timestamp) - time.time()), 3600)
                        names.add(family.name)
            return names

        # A request is counted once its answer is on its way.
        until(lambda: found() == {"recserver_request_seconds", "recserver_stage_seconds"})
        self.assertNotIn("trace_id", self.daemon.get("/metrics").body.decode())


def daemon_model() -> str:
    return json.loads((harness.DEMO / "manifest.json").read_text())["model_version"]
