"""Requests that nobody would think of, made from both OpenAPI documents, and strings that would harm elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

#: Where each document is, and in front of which path its routes are.
DOCUMENTS = {"/docs.json": "", "/v1/openapi.json": "/v1"}
CHECKS = "not_a_server_error,status_code_conformance"
INJECTIONS = (
    "'; DROP TABLE users; --",
    "1 OR 1=1",
    "\" OR \"\"=\"",
    "<script>alert(1)</script>",
    "${jndi:ldap://127.0.0.1:9/x}",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "../../../../etc/passwd",
    "$(touch /tmp/harmed)",
    "`id`; id | id",
    "a\r\nSet-Cookie: harmed=1",
    "\x00\x1f\x7f",
    "\u202e\ufeff\uffff",
    "%00%0d%0a%s%n",
    "*)(uid=*))(|(uid=*",
    "𝕬\U0001f600" * 40,
    "x" * 100_000,
)  # fmt: skip


@dataclass
class Fuzzed:
    """How many requests were made, and what came that must not."""

    cases: int = 0
    wrong: list[str] = field(default_factory=list)


def fuzz(url: str, folder: Path, *, max_examples: int, seed: int, phases: str = "examples,coverage,fuzzing") -> Fuzzed:
    """Have schemathesis make requests to every route, right and wrong ones, up to ``max_examples`` drawn a route."""
    done = Fuzzed()
    for document, prefix in DOCUMENTS.items():
        report = folder / f"{document.strip('/').replace('/', '-')}.ndjson"
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{url}{document}", "--url", f"{url}{prefix}",
            "--checks", CHECKS, "--phases", phases, "--mode", "all", "--seed", str(seed),
            "--max-examples", str(max_examples), "--continue-on-failure", "--request-timeout", "60",
            "--suppress-health-check", "all", "--report", "ndjson", "--report-ndjson-path", str(report),
        ]  # fmt: skip
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        made = re.findall(r"([\d,]+) generated", ran.stdout)
        done.cases += sum(int(number.replace(",", "")) for number in made[-1:])
        if ran.returncode != 0 or not made:
            done.wrong.append(f"{document}: exit {ran.returncode}\n{ran.stdout[-6000:]}{ran.stderr[-2000:]}")
    return done


def inject(url: str, every: int = 1) -> Fuzzed:
    """Send every string of ``INJECTIONS`` in every text field and parameter of every route.

    Or only one of ``every`` such requests.
    """
    done = Fuzzed()
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        for document, prefix in DOCUMENTS.items():
            told = http.get(document).json()
            for path, methods in told["paths"].items():
                for method, operation in methods.items():
                    for request in islice(_requests(told, path, operation), 0, None, every):
                        answer = http.request(method, prefix + request.pop("path"), **request)
                        done.cases += 1
                        known = {str(status) for status in operation["responses"]}
                        # A path that holds a slash or nothing is another route's, or none.
                        if answer.status_code >= 500 or not {str(answer.status_code), "404", "405"} & known | (
                            {"404", "405"} & {str(answer.status_code)}
                        ):
                            done.wrong.append(f"{method} {path} {request}: {answer.status_code} {answer.text[:300]}")
                        if "harmed" in answer.headers.get("set-cookie", ""):
                            done.wrong.append(f"{method} {path}: a header was injected")
        if http.get("/v1/users/11").status_code not in (200, 404) or http.get("/readyz").status_code != 200:
            done.wrong.append("the service does not work any more")
    return done


def _requests(document: dict[str, Any], path: str, operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One request a text field and string, everything else as an example has it."""
    parameters = operation.get("parameters", [])
    places = {p["name"]: _example(document, p["schema"]) for p in parameters if p["in"] == "path"}
    query = {p["name"]: _example(document, p["schema"]) for p in parameters if p["in"] == "query" and p.get("required")}
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    body = None if content is None else _example(document, content["schema"])
    for text in INJECTIONS:
        for parameter in parameters:
            where, name = parameter["in"], parameter["name"]
            if where == "path":
                yield {"path": _filled(path, {**places, name: text}), "params": query, "json": body}
            elif where == "query":
                yield {"path": _filled(path, places), "params": {**query, name: text[:4_000]}, "json": body}
            elif where == "header":
                # What cannot be sent in a header at all is no case.
                sent = re.sub(r"[^\x21-\x7e]", "", text)[:4_000]
                yield {"path": _filled(path, places), "params": query, "json": body, "headers": {name: sent}}
        for changed in _with_text(document, content["schema"], body, text) if content else ():
            yield {"path": _filled(path, places), "params": query, "json": changed}


def _filled(path: str, values: dict[str, Any]) -> str:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", quote(str(value)[:4_000], safe=""))
    return path


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _example(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    schema = _resolved(document, schema)
    if "example" in schema or "default" in schema:
        return json.loads(json.dumps(schema.get("example", schema.get("default"))))
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema or "const" in schema:
        return schema.get("enum", [schema.get("const")])[0]
    for way in ("anyOf", "oneOf", "allOf"):
        if way in schema:
            return _example(document, schema[way][0])
    kind = schema.get("type")
    if kind == "object":
        wanted = schema.get("required", [])
        return {name: _example(document, part) for name, part in schema["properties"].items() if name in wanted}
    return {"integer": 11, "number": 3.0, "boolean": True, "array": [], "string": "0" * 16}.get(str(kind))


def _with_text(document: dict[str, Any], schema: dict[str, Any], body: Any, text: str) -> Iterator[Any]:
    """Yield the body with the text in each field in turn, whatever its type, and as a field's name; then the text."""
    for name in _resolved(document, schema).get("properties", {}):
        yield {**body, name: text}
        yield {**body, name: [text]}
    yield {**body, text: text}
    yield text
