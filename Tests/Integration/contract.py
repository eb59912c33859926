"""openapi.yaml as an oracle: which answers it allows."""

import re
from functools import cache
from typing import Any

import jsonschema
import yaml

from harness import ROOT, Answer

PATH = ROOT / "openapi.yaml"


@cache
def document() -> dict[str, Any]:
    return yaml.safe_load(PATH.read_text())


def resolve(value: Any) -> Any:
    """What a `$ref` of this document stands for."""
    while isinstance(value, dict) and "$ref" in value:
        found: Any = document()
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def check(schema: Any, value: Any) -> None:
    """Raises where `value` is not of `schema`."""
    whole = {"components": document()["components"], "allOf": [schema]}
    jsonschema.Draft202012Validator(whole).validate(value)


def response(path: str, method: str, status: int) -> Any:
    """The response object of a documented operation; an undocumented status is an error."""
    responses = document()["paths"][path][method.lower()]["responses"]
    found = responses.get(str(status), responses.get("default"))
    if found is None:
        raise AssertionError(f"{method} {path} does not document {status}")
    return resolve(found)


def check_answer(path: str, method: str, answer: Answer) -> None:
    """Raises where the contract does not allow this answer of an operation."""
    allowed = response(path, method, answer.status)
    for name, header in allowed.get("headers", {}).items():
        header = resolve(header)
        value = answer.headers.get(name.lower())
        if value is None:
            if header.get("required"):
                raise AssertionError(f"{answer.status} without {name}")
            continue
        check(header["schema"], int(value) if header["schema"].get("type") == "integer" else value)
    if "content" not in allowed and not answer.body:
        return
    essence = re.split(r"[; ]", answer.headers.get("content-type", ""))[0]
    media = allowed.get("content", {}).get(essence)
    if media is None:
        raise AssertionError(f"{answer.status} with Content-Type {essence!r}")
    if essence.endswith("json") and essence != "application/x-ndjson":
        check(media["schema"], answer.json)
        if answer.status >= 400 and answer.json["status"] != answer.status:
            raise AssertionError(f"status {answer.status} but the problem says {answer.json['status']}")


def check_problem(answer: Answer | None, kind: str, status: int) -> None:
    """Raises where this is not the problem `kind`."""
    if answer is None:
        raise AssertionError(f"closed without an answer, expected {kind}")
    if answer.headers.get("content-type") != "application/problem+json":
        raise AssertionError(
            f"{answer.status} {answer.headers.get('content-type')} {answer.body[:300]!r}, expected {kind}"
        )
    check({"$ref": "#/components/schemas/Problem"}, answer.json)
    if (answer.status, answer.json["status"], answer.kind) != (status, status, kind):
        raise AssertionError(f"{answer.status} {answer.body[:300]!r}, expected {status} {kind}")


def examples(media: Any) -> dict[str, Any]:
    """The examples of a media type or parameter, by name."""
    named = {name: example["value"] for name, example in media.get("examples", {}).items()}
    return named | ({"example": media["example"]} if "example" in media else {})
