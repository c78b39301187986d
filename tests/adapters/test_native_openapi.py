"""The description of the native face says what is served, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from node.adapters.http.native_openapi import DOCUMENT
from node.adapters.http.office_native import PREFIX, NativeFace
from tests.adapters.test_office_vxp import settings


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (each for name, each in value.items() if name == "$ref")
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_operation_is_described_and_nothing_else() -> None:
    face = NativeFace(None, settings())  # type: ignore[arg-type]
    served = {(PREFIX + each.path, each.method.lower(), each.name) for each in face.operations}
    told = {(path, method, call["operationId"]) for path, calls in DOCUMENT["paths"].items() for method, call in calls.items()}
    assert told == served


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        place: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


def test_it_is_plain_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
