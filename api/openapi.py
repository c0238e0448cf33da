"""What does the API promise, for machines? OpenAPI 3.1 from the code, with problems, webhooks and examples.

The document is committed as `api/openapi.json`; `assay openapi` writes it anew, and a test holds it to the code.
"""

import json
import re
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from api import problems, webhook_reference
from api.schemas.new_screening import Details, NewScreening
from api.schemas.problem import ProblemDocument
from api.schemas.screening import QUEUED, SUCCEEDED

FILE = Path(__file__).with_name("openapi.json")
NAME = re.compile(r"_(v1|livez|readyz)_.*")  # what FastAPI puts behind a function's name: the path and the method
REF = "#/components/schemas/{model}"

DESCRIPTION = """Screens uploaded images for forgery. Send one with `POST /v1/screenings`; the answer is a screening,
which ends as `succeeded` or `failed`. Poll it, let the request wait with `Prefer: wait=30`, or listen with a webhook.

Errors are problem documents (RFC 9457). POSTs may carry an `Idempotency-Key`. Lists are paged by `cursor`. Enums and
objects may grow; readers ignore what they do not know."""

TAGS = {
    "screenings": "Send images, read what was found.",
    "webhooks": "Hear of it without asking.",
    "policy": "What follows from a finding.",
    "reviews": "People decide the doubtful ones.",
    "goldens": "Images whose truth is known, to measure reviewers.",
    "quality": "How good policy and people are.",
    "audit": "Who did what, and packs that prove it.",
    "session": "Reviewers signing in to the dashboard.",
    "operations": "Probes.",
}

# What may happen to any request of the kind; every other error is a problem document too (`default`).
ON_EVERY = (problems.RATE_LIMITED, problems.UNAVAILABLE)
ON_KEYS = (problems.UNAUTHENTICATED, problems.FORBIDDEN)

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key", "in": "header", "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "A request sent again with the same key and body gets the first one's answer, for 24 hours.",
}  # fmt: skip
INTAKE_HEADERS = [
    {
        "name": "Prefer", "in": "header", "required": False, "schema": {"type": "string"}, "example": "wait=30",
        "description": "Wait up to N seconds (at most 30) for the end, and answer 200 with the result.",
    },
    {
        "name": "traceparent", "in": "header", "required": False, "schema": {"type": "string"},
        "description": "W3C trace context; carried to the webhook.",
    },
]  # fmt: skip


def install(app: FastAPI) -> None:
    """Let the app describe itself as here."""
    webhook_reference.install(app)
    app.openapi = lambda: _cached(app)  # type: ignore[method-assign]


def _cached(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return app.openapi_schema


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(
        title="Assay",
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        webhooks=app.webhooks.routes,
        separate_input_output_schemas=False,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    made["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    _add_schemas(made)
    seen: set[str] = set()
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            _name(operation, seen)
            if method == "post":
                operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
            if (method, path) == ("post", "/v1/screenings"):
                operation["requestBody"] = _intake_body()
                operation["parameters"] += INTAKE_HEADERS
                # Here, because FastAPI drops every null from what routes bring along.
                operation["responses"]["202"]["content"]["application/json"]["example"] = QUEUED
                operation["responses"]["200"]["content"]["application/json"]["example"] = SUCCEEDED
            _add_problems(path, operation)
    for type, item in made["webhooks"].items():
        item["post"]["responses"].pop("422", None)
        body = item["post"]["requestBody"]["content"]["application/json"]
        body["examples"] = {type: {"value": webhook_reference.example(type)}}
    for leftover in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(leftover, None)
    made["components"]["securitySchemes"]["reviewerSession"] = {
        "type": "apiKey", "in": "cookie", "name": "assay_session", "description": "A signed-in reviewer.",
    }  # fmt: skip
    return made


def _add_schemas(made: dict[str, Any]) -> None:
    """Models that no route's signature names: bodies that are read as a stream, and problems."""
    models = [(ProblemDocument, "serialization"), (NewScreening, "validation"), (Details, "validation")]
    _, definitions = models_json_schema(models, ref_template=REF)  # type: ignore[arg-type]
    made["components"]["schemas"] |= definitions["$defs"]


def _name(operation: dict[str, Any], seen: set[str]) -> None:
    """The function's name, with its noun before it where two functions share one."""
    name = NAME.sub("", operation["operationId"])
    name = name if name not in seen else f"{operation['tags'][0]}_{name}"
    seen.add(name)
    operation["operationId"] = name


def _add_problems(path: str, operation: dict[str, Any]) -> None:
    """Each error that this operation can answer, and the shape of all others."""
    responses = operation["responses"]
    responses.pop("422", None)
    responses["default"] = _problem("Any other error.")
    if "security" in operation or "operations" not in operation["tags"]:
        for kind in (*ON_KEYS, *ON_EVERY):
            responses[str(kind.status)] = _problem(kind.title)
    for status in [status for status in responses if status.startswith(("4", "5"))]:
        responses[status] = _problem(responses[status]["description"])
    if "{" in path:
        responses["404"] = _problem(problems.NOT_FOUND.title)
    if operation.get("parameters") or "requestBody" in operation:
        responses["422"] = _problem(problems.INVALID.title)


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": REF.format(model="ProblemDocument")}
    return {"description": description, "content": {problems.MEDIA_TYPE: {"schema": schema}}}


def _intake_body() -> dict[str, Any]:
    """The two bodies of an intake, which the route reads by itself."""
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "binary", "description": "The file, at most 25 MB."},
                        "client_ref": {"type": "string", "minLength": 1, "maxLength": 255},
                        "metadata": {"type": "string", "description": "A JSON object of at most 4 kB."},
                        "priority": {"$ref": REF.format(model="Priority")},
                    },
                    "additionalProperties": False,
                },
                "encoding": {"image": {"contentType": "image/*"}, "metadata": {"contentType": "application/json"}},
            },
            "application/json": {
                "schema": {"$ref": REF.format(model="NewScreening")},
                "examples": {
                    "url": {"value": {"source": {"url": "https://example.com/cat.jpg"}, "client_ref": "post-991"}},
                    "object": {"value": {"source": {"object": "s3://acme-uploads/2026/cat.jpg"}, "priority": "bulk"}},
                },
            },
        },
    }


def text(app: FastAPI) -> str:
    """The document as it is committed."""
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
