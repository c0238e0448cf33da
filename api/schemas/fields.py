"""Which fields do several nouns share? Text that the database can keep, metadata under its limit, times."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_METADATA_BYTES = 4096


def _storable(value: str) -> str:
    """PostgreSQL keeps neither NUL nor half of a surrogate pair."""
    if "\0" in value:
        raise ValueError("Text may not hold the NUL character.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("Text must be valid Unicode.") from None
    return value


def _small_object(value: dict[str, Any]) -> dict[str, Any]:
    """What JSONB can keep, and no more of it than the contract allows."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (ValueError, RecursionError):
        raise ValueError("Numbers must be finite and text valid Unicode.") from None
    if "\\u0000" in text:
        raise ValueError("Text may not hold the NUL character.")
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"At most {MAX_METADATA_BYTES} bytes as compact JSON; this has {size}.")
    return value


Text = Annotated[str, AfterValidator(_storable)]
"""Any text that comes from outside and goes to the database."""

ClientRef = Annotated[Text, Field(min_length=1, max_length=255, examples=["post-991"])]
Metadata = Annotated[dict[str, Any], AfterValidator(_small_object)]


class Body(BaseModel):
    """The root of request bodies: a field that nobody knows is a typing mistake, and said so."""

    model_config = ConfigDict(extra="forbid")
