"""What does an error look like? RFC 9457, on every 4xx and 5xx."""

from pydantic import BaseModel, Field


class FieldError(BaseModel):
    """One mistake in what was sent."""

    detail: str
    pointer: str = Field(description="A JSON Pointer as a URI fragment.", examples=["#/source/url"])


class ProblemDocument(BaseModel):
    """What went wrong, and what to do. Branch on `code`; codes may grow."""

    type: str = Field(examples=["urn:assay:problem:not_found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(ge=400, le=599, examples=[404])
    detail: str = Field(examples=["There is nothing here under this id."])
    instance: str = Field(examples=["/v1/screenings/scr_0"])
    code: str = Field(examples=["not_found"])
    request_id: str = Field(examples=["req_01a208cb10607e799deb14f927e1bcd4"])
    errors: list[FieldError] | None = Field(default=None, description="For a request whose fields are not valid.")
