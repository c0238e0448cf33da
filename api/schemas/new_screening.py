"""What may a platform send to be screened?"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag, ValidationError
from pydantic_core import from_json

from api.problems import INVALID, MALFORMED, MAX_ERRORS, Problem, invalid, pointer
from api.schemas.fields import Body, ClientRef, Metadata, Text
from screening.tables import Priority

M = TypeVar("M", bound=BaseModel)

TAGS = ("UrlSource", "ObjectSource")  # the union's own names, which are no part of the body
OBJECT = re.compile(r"s3://([a-z0-9][a-z0-9.\-]{1,61}[a-z0-9])/(.{1,1024})", re.DOTALL)


def _fetchable(value: str) -> str:
    """Whether the worker could fetch it at all; whether it may, the address filter decides when it connects."""
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        raise ValueError("Not a valid URL.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("An absolute http or https URL.")
    if parts.username is not None or parts.password is not None:
        raise ValueError("A URL without user name and password.")
    if any(character <= " " or character == "\x7f" for character in value):
        raise ValueError("A URL holds no spaces or control characters.")
    return value


def _object(value: str) -> str:
    if OBJECT.fullmatch(value) is None:
        raise ValueError("An object is named s3://bucket/key.")
    return value


class UrlSource(Body):
    """An image behind a URL, which the worker fetches."""

    url: Annotated[
        Text,
        AfterValidator(_fetchable),
        Field(min_length=8, max_length=2048, examples=["https://example.com/cat.jpg"]),
    ]


class ObjectSource(Body):
    """An object in a bucket that the platform is allowed."""

    object: Annotated[
        Text, AfterValidator(_object), Field(max_length=1100, examples=["s3://acme-uploads/2026/cat.jpg"])
    ]

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.object.removeprefix("s3://").partition("/")[0]


def _which(value: Any) -> str | None:
    if isinstance(value, BaseModel):
        return type(value).__name__
    if not isinstance(value, Mapping):
        return None
    return next((tag for key, tag in (("url", "UrlSource"), ("object", "ObjectSource")) if key in value), None)


Source = Annotated[
    Annotated[UrlSource, Tag("UrlSource")] | Annotated[ObjectSource, Tag("ObjectSource")],
    Discriminator(_which, custom_error_type="source", custom_error_message="A source has either `url` or `object`."),
]


class Details(Body):
    """What goes along with the image."""

    client_ref: ClientRef | None = Field(default=None, description="Your own name for it; lists can be filtered by it.")
    metadata: Metadata = Field(default_factory=dict, description="Any JSON object, at most 4 kB; policies can read it.")
    priority: Priority = Priority.NORMAL


class NewScreening(Details):
    """A screening of an image that the worker fetches."""

    source: Source


def parse(model: type[M], data: Any) -> M:
    """Validate what was sent. Raises Problem 422 with a pointer for each mistake."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _problem(error) from None


def _problem(error: ValidationError) -> Problem:
    found = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_ERRORS]
    errors = [
        {
            "detail": item["msg"].removeprefix("Value error, "),
            "pointer": pointer(("body", *(part for part in item["loc"] if part not in TAGS))),
        }
        for item in found
    ]
    return Problem(INVALID, "See errors.", errors=errors)


def from_fields(fields: Mapping[str, str]) -> Details:
    """The details of a form, whose `metadata` is JSON in a text field; an empty field is an absent one."""
    given: dict[str, Any] = {name: value for name, value in fields.items() if value}
    if "metadata" in given:
        given["metadata"] = _json(given["metadata"].encode(), Problem(INVALID, "See errors.", errors=[_NOT_JSON]))
    return parse(Details, given)


_NOT_JSON = {"detail": "Not valid JSON.", "pointer": "#/metadata"}


def from_body(raw: bytes) -> NewScreening:
    """The screening that a JSON body asks for."""
    return parse(NewScreening, _json(raw, Problem(MALFORMED, "The body is not valid JSON.")))


def _json(raw: bytes, otherwise: Problem) -> Any:
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise otherwise from None


def canonical(value: Any) -> bytes:
    """JSON in one spelling, for fingerprints."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def missing_file() -> Problem:
    """A form without its image."""
    return invalid("/image", "A form needs the part `image`, a file.")
