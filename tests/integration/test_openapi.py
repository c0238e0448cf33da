"""Is what the API says of itself true?"""

import json
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi import FastAPI
from openapi_spec_validator import validate
from sqlalchemy.orm import Session, sessionmaker

from api import openapi, webhook_reference
from screening.blobs import open_store
from screening.event_types import EventType
from screening.settings import Settings
from tests import outcomes, pictures

URL = "/v1/screenings"


@pytest.fixture
def described(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def test_the_committed_document_is_the_codes(app: FastAPI) -> None:
    assert openapi.FILE.read_text() == openapi.text(app), "Run `assay openapi` and commit what it wrote."


def test_the_document_is_valid_openapi(described: dict[str, Any]) -> None:
    validate(described)
    assert described["openapi"].startswith("3.1")


def test_every_event_is_described_with_an_example(described: dict[str, Any]) -> None:
    assert set(described["webhooks"]) == {type.value for type in EventType} == set(webhook_reference.EXAMPLES)
    for name, item in described["webhooks"].items():
        body = item["post"]["requestBody"]["content"]["application/json"]
        check(described, body["schema"], body["examples"][name]["value"])


def test_every_operation_has_a_name_of_its_own_and_its_errors(described: dict[str, Any]) -> None:
    operations = [operation for item in described["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    for operation in operations:
        for status, answer in operation["responses"].items():
            if status == "default" or int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in json.dumps(described)


def check(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    """Hold a value to a schema of the document, formats included."""
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(
        {**schema, "components": document["components"]}, format_checker=checker
    ).validate(value)  # fmt: skip


def strict(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema, refusing what it does not name: what we answer must be described."""
    closed: dict[str, Any] = json.loads(json.dumps(document))
    for schema in closed["components"]["schemas"].values():
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return {"$ref": f"#/components/schemas/{name}", "components": closed["components"]}


async def test_answers_are_what_is_described_and_nothing_is_left_out(
    client: httpx.AsyncClient, described: dict[str, Any], sessions: sessionmaker[Session], settings: Settings
) -> None:
    sent = (await client.post(URL, files={"image": ("a.jpg", pictures.jpeg())}, data={"metadata": '{"a": 1}'})).json()
    source = (await client.post(URL, json={"source": {"url": "https://example.com/a"}})).json()
    [held, _] = sorted(outcomes.claim(sessions), key=lambda claim: claim.created_at)
    region = {"bbox": [8, 8, 24, 16], "area_fraction": 0.125, "mean": 0.7, "max": 0.7}
    outcomes.succeed(sessions, open_store(settings.blob_url), held, regions=[region])
    await client.delete(f"{URL}/{source['id']}")
    finished = (await client.get(f"{URL}/{sent['id']}")).json()
    page = (await client.get(URL)).json()
    feedback = (await client.post(f"{URL}/{sent['id']}/feedback", json={"truth": "fake"})).json()
    missing = (await client.get(f"{URL}/scr_0")).json()
    assert finished["verdict"] is not None
    for value, name in (
        (sent, "ScreeningObject"), (source, "ScreeningObject"), (finished, "ScreeningObject"), (page, "ScreeningPage"),
        (feedback, "FeedbackObject"), (missing, "ProblemDocument"),
    ):  # fmt: skip
        jsonschema.Draft202012Validator(strict(described, name)).validate(value)


async def test_the_document_is_served(client: httpx.AsyncClient) -> None:
    answer = await client.get("/openapi.json")
    assert (answer.status_code, answer.json()["info"]["title"]) == (200, "Assay")
