"""openapi.yaml: valid, served, and kept."""

import json
import re
from urllib.parse import quote, urlencode

from openapi_spec_validator import validate

import contract
import harness


class Contract(harness.Case):
    def test_the_document_is_valid_openapi(self) -> None:
        validate(contract.document())

    def test_the_served_document_is_the_file(self) -> None:
        answer = self.daemon.get("/openapi.yaml")
        self.assertEqual(answer.body, contract.PATH.read_bytes())

    def test_every_example_fits_its_own_schema(self) -> None:
        def walk(value: object, path: str) -> int:
            value = contract.resolve(value)
            count = 0
            if isinstance(value, dict):
                for media in value.get("content", {}).values():
                    for name, example in contract.examples(media).items():
                        with self.subTest(path=path, name=name):
                            contract.check(media["schema"], example)
                        count += 1
                if "in" in value and "schema" in value:
                    for name, example in contract.examples(value).items():
                        with self.subTest(path=path, name=name):
                            contract.check(value["schema"], example)
                        count += 1
            children = (
                value.items()
                if isinstance(value, dict)
                else enumerate(value)
                if isinstance(value, list)
                else []
            )
            return count + sum(
                walk(v, f"{path}/{k}") for k, v in children if k not in ("examples", "schema", "schemas")
            )

        self.assertGreater(walk(contract.document()["paths"], ""), 60)

    def test_every_example_request_is_answered_as_documented(self) -> None:
        media = contract.document()["paths"]["/recommend"]["post"]["requestBody"]["content"][
            "application/json"
        ]
        for name, example in contract.examples(media).items():
            with self.subTest(example=name):
                answer = self.daemon.post(example)
                contract.check_answer("/recommend", "POST", answer)
                if "cursor" in example:
                    # Of a slate that nobody holds.
                    contract.check_problem(answer, "cursor-expired", 410)
                    continue
                self.assertEqual(answer.status, 200, answer.body[:300])
                self.assertEqual(answer.headers["content-type"], "application/json")

    def test_every_get_is_answered_as_documented_and_head_like_it(self) -> None:
        for path, operations in contract.document()["paths"].items():
            if "get" not in operations:
                continue
            target, pairs = path, []
            for parameter in map(contract.resolve, operations["get"]["parameters"]):
                if "content" in parameter:
                    pairs += [
                        (parameter["name"], json.dumps(parameter["content"]["application/json"]["example"]))
                    ]
                elif "example" in parameter and parameter["in"] == "path":
                    target = target.replace("{%s}" % parameter["name"], quote(parameter["example"], safe=""))
                elif "example" in parameter:
                    values = parameter["example"]
                    pairs += [
                        (parameter["name"], v) for v in (values if isinstance(values, list) else [values])
                    ]
                elif parameter.get("allowEmptyValue"):
                    pairs += [(parameter["name"], "")]
            for query in {"", "?" + urlencode(pairs)} if pairs else {""}:
                with self.subTest(path=path, query=query):
                    if "/users/" in target:
                        self.daemon.send("PUT", target, {})
                    answer = self.daemon.get(target + query)
                    self.assertEqual(answer.status, 200, answer.body[:300])
                    contract.check_answer(path, "GET", answer)
                    head = self.daemon.request("HEAD", target + query)
                    self.assertEqual((head.status, head.body), (200, b""))
                    self.assertEqual(head.headers["content-type"], answer.headers["content-type"])
                    self.assertIn("content-length", head.headers)

    def test_unknown_routes_are_404(self) -> None:
        for path in [
            "/",
            "/recommen",
            "/recommend/",
            "/recommend/x",
            "/similar",
            "/similar/",
            "/similar/a/b",
            "/Livez",
            "/livez/",
            "/metrics/x",
            "/admin",
            "/%2e%2e/livez",
            "//livez",
            "/users",
            "/users/",
            "/users/x/",
            "/users/x/events",
            "/users/x/events/",
            "/users/x/likes/y",
            "/events/x",
            "/items",
        ]:
            for method in ["GET", "POST", "DELETE"]:
                with self.subTest(path=path, method=method):
                    contract.check_problem(self.daemon.request(method, path), "not-found", 404)

    def test_wrong_methods_are_405_with_allow(self) -> None:
        for path, operations in contract.document()["paths"].items():
            allowed = {method.upper() for method in operations} | {"OPTIONS"}
            if "GET" in allowed:
                allowed.add("HEAD")
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]:
                with self.subTest(path=path, method=method):
                    if method in allowed:
                        continue
                    answer = self.daemon.request(method, re.sub("{[^}]*}", "film-00001", path))
                    self.assertEqual(answer.status, 405)
                    self.assertEqual({m.strip() for m in answer.headers["allow"].split(",")}, allowed)
                    if method != "HEAD":
                        contract.check_problem(answer, "method-not-allowed", 405)

    def test_a_request_id_is_echoed_where_it_is_plain_and_made_where_it_is_not(self) -> None:
        self.assertEqual(self.daemon.post({}, X_Request_Id="abc-123-Z").json["request_id"], "abc-123-Z")
        self.assertEqual(self.daemon.get("/livez", X_Request_Id="x" * 64).headers["x-request-id"], "x" * 64)
        made = set()
        for offered in ["", "x" * 65, "a b", 'a"b', "é", "a_b", "a;b"]:
            answer = self.daemon.get("/livez", X_Request_Id=offered)
            self.assertRegex(answer.headers["x-request-id"], "^[0-9a-f]{32}$")
            made.add(answer.headers["x-request-id"])
        self.assertEqual(len(made), 7)


class Problems(harness.Case):
    """Every kind of problem that a client can cause, except those that need a daemon in trouble (test_lifecycle)."""

    def test_of_the_body(self) -> None:
        event = {"item_id": "film-00001"}
        table = [
            (b"{", "malformed-json", 400),
            (b'{"n":1,"n":1}', "malformed-json", 400),
            (b'{"n":1,}', "malformed-json", 400),
            ({"usr_id": "x"}, "unknown-field", 400),
            ({"history": [event | {"item": "x"}]}, "unknown-field", 400),
            ({"filter": {"field": "year", "gte": 1, "almost": 2}}, "unknown-field", 400),
            ([], "wrong-type", 400),
            (b"null", "wrong-type", 400),
            (b"7", "wrong-type", 400),
            ({"n": "10"}, "wrong-type", 400),
            ({"n": 1.5}, "wrong-type", 400),
            ({"user_id": 7}, "wrong-type", 400),
            ({"history": {}}, "wrong-type", 400),
            ({"user": {"age": {"of": 1}}}, "wrong-type", 400),
            ({"user": {"age": [30]}}, "wrong-type", 400),
            ({"explain": 1}, "wrong-type", 400),
            ({"filter": {"field": "year", "in": [[]]}}, "wrong-type", 400),
            ({"n": 0}, "out-of-range", 400),
            ({"n": 501}, "out-of-range", 400),
            ({"n": -1}, "out-of-range", 400),
            ({"user_id": ""}, "out-of-range", 400),
            ({"user_id": "x" * 129}, "out-of-range", 400),
            ({"user_id": "é" * 65}, "out-of-range", 400),
            ({"history": [{}]}, "out-of-range", 400),
            ({"history": [event] * 4097}, "out-of-range", 400),
            ({"session": [event] * 257}, "out-of-range", 400),
            ({"exclude": ["x"] * 10_001}, "out-of-range", 400),
            ({"query_items": ["x"] * 257}, "out-of-range", 400),
            ({"candidates": [event] * 10_001}, "out-of-range", 400),
            ({"fields": ["x"] * 65}, "out-of-range", 400),
            ({"now": 1e12}, "out-of-range", 400),
            ({"diversity": 1.01}, "out-of-range", 400),
            ({"deadline_ms": 0}, "out-of-range", 400),
            ({"deadline_ms": 10_001}, "out-of-range", 400),
            ({"degrade": "maybe"}, "out-of-range", 400),
            ({"weights": {"watch": 1e7}}, "out-of-range", 400),
            ({"weights": {str(i): 1 for i in range(65)}}, "out-of-range", 400),
            ({"user": {str(i): 1 for i in range(257)}}, "out-of-range", 400),
            ({"user": {"x": ["y"] * 65}}, "out-of-range", 400),
            ({"filter": {}}, "out-of-range", 400),
            ({"filter": {"field": "year"}}, "out-of-range", 400),
            ({"filter": {"field": "year", "in": list(range(1025))}}, "out-of-range", 400),
            ({"filter": {"all": [{"field": "year", "gte": 1}] * 65}}, "out-of-range", 400),
            ({"filter": nested_not(9)}, "out-of-range", 400),
            ({"exclude_seen": {"within_s": -1}}, "out-of-range", 400),
            ({"history_offset": -1}, "out-of-range", 400),
            ({"user_id": "demo-scifi-1", "weights": {"buy": 1}}, "unknown-task", 422),
            ({"filter": {"field": "director", "in": ["x"]}}, "unknown-filter-field", 422),
            ({"filter": {"field": "title", "in": ["x"]}}, "unknown-filter-field", 422),
        ]
        for body, kind, status in table:
            with self.subTest(body=str(body)[:100]):
                answer = self.daemon.post(body)
                contract.check_problem(answer, kind, status)
                contract.check_answer("/recommend", "POST", answer)
                if kind not in ("malformed-json",):
                    self.assertTrue(answer.json["errors"], "no pointer")

    def test_errors_point_at_the_place(self) -> None:
        for body, pointer in [
            ({"usr/id~": 1}, "/usr~1id~0"),
            ({"history": [{"item_id": "a"}, {"item_id": 3}]}, "/history/1/item_id"),
            ({"candidates": [{"item_id": "a", "features": {"x": {}}}]}, "/candidates/0/features/x"),
            ({"filter": {"all": [{"any": [{"field": 3}]}]}}, "/filter/all/0/any/0/field"),
            ({"weights": {"a/b": "x"}}, "/weights/a~1b"),
        ]:
            with self.subTest(body=body):
                self.assertEqual([e["pointer"] for e in self.daemon.post(body).json["errors"]], [pointer])

    def test_limits_themselves_are_accepted(self) -> None:
        event = {"item_id": "film-00001"}
        for body in [
            {"n": 500},
            {"n": 1},
            {"user_id": "é" * 64},
            {"history": [event] * 4096},
            {"session": [event] * 256},
            {"exclude": ["x"] * 10_000},
            {"query_items": ["x"] * 256},
            {"candidates": [event] * 10_000, "n": 10_000},
            {"fields": ["x"] * 64},
            {"now": 1e11},
            {"now": -1e11},
            {"diversity": 1},
            {"deadline_ms": 10_000},
            {"filter": nested_not(8)},
            {"filter": {"field": "year", "in": list(range(1024))}},
            {"user": {"x": ["y"] * 64}},
            {"history_offset": 1_000_000_000},
            {"user_id": None, "n": None, "filter": None, "history": None, "degrade": None},
        ]:
            with self.subTest(body=str(body)[:60]):
                answer = self.daemon.post(body | ({"deadline_ms": 10_000} if "degrade" not in body else {}))
                self.assertEqual(answer.status, 200, answer.body[:300])
                contract.check_answer("/recommend", "POST", answer)

    def test_of_the_query(self) -> None:
        table = [
            ("/similar/no-such-film", "unknown-item", 404),
            ("/similar/film-00001?n=0", "out-of-range", 400),
            ("/similar/film-00001?n=501", "out-of-range", 400),
            ("/similar/film-00001?n=x", "wrong-type", 400),
            ("/similar/film-00001?n=1&n=2", "out-of-range", 400),
            ("/similar/film-00001?m=1", "unknown-field", 400),
            ("/similar/film-00001?filter=%7B", "wrong-type", 400),
            ("/similar/film-00001?filter=%5B%5D", "wrong-type", 400),
            ("/similar/film-00001?n=%zz", "bad-request", 400),
            ("/similar/%zz", "bad-request", 400),
            ("/similar/film-00001?n=99999999999999999999", "wrong-type", 400),
            ("/similar/" + "x" * 129, "out-of-range", 400),
            ("/similar/film%2F00001", "unknown-item", 404),
            ("/similar/film-00001?exclude=", "out-of-range", 400),
            (
                "/similar/film-00001?filter=" + quote('{"field":"title","in":["x"]}'),
                "unknown-filter-field",
                422,
            ),
        ]
        for path, kind, status in table:
            with self.subTest(path=path[:80]):
                answer = self.daemon.get(path)
                contract.check_problem(answer, kind, status)
                contract.check_answer("/similar/{item_id}", "GET", answer)

    def test_of_the_media_type(self) -> None:
        for value in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "", "json"]:
            with self.subTest(value=value):
                answer = self.daemon.request("POST", "/recommend", b"{}", {"Content-Type": value})
                contract.check_problem(answer, "unsupported-media-type", 415)
        for value in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON;charset=UTF-8",
        ]:
            with self.subTest(value=value):
                self.assertEqual(
                    self.daemon.request("POST", "/recommend", b"{}", {"Content-Type": value}).status, 200
                )
        self.assertEqual(self.daemon.request("POST", "/recommend", b"").status, 200)

    def test_of_routing_by_user(self) -> None:
        contract.check_problem(self.daemon.post({"user_id": "a"}, X_User_Id="b"), "bad-request", 400)
        self.assertEqual(self.daemon.post({"user_id": "a"}, X_User_Id="a").status, 200)
        self.assertEqual(self.daemon.post({}, X_User_Id="a").status, 200)


def nested_not(depth: int) -> dict:
    """A filter of `depth` levels."""
    return {"field": "year", "gte": 1} if depth == 1 else {"not": nested_not(depth - 1)}
