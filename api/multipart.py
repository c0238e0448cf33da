"""How does a form with one file arrive without lying in memory? Part by part, the file straight into its spool."""

from dataclasses import dataclass, field
from typing import NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from api.problems import MALFORMED, Problem, invalid
from api.spool import Spool

FILE = "image"
FIELDS = ("client_ref", "metadata", "priority")
MAX_FIELD_BYTES = 16 * 1024  # the contract's own limits are lower, and say so field by field
MAX_PARTS = len(FIELDS) + 1


@dataclass(slots=True)
class Form:
    """What a form held: its text fields, and whether the file was among them."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    has_file: bool = False


async def read(request: Request, spool: Spool) -> Form:
    """Read a multipart/form-data body (RFC 7578). Raises Problem 400, 413 or 422."""
    reader = _Reader(_boundary(request), spool)
    async for chunk in request.stream():
        reader.feed(chunk)
        await spool.flush()
    await spool.flush(all=True)
    return reader.finish()


def _boundary(request: Request) -> bytes:
    _, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Problem(MALFORMED, "The Content-Type of a form must name its boundary.")
    return boundary


class _Reader:
    """The parser's callbacks: which part we are in, and where its bytes go."""

    def __init__(self, boundary: bytes, spool: Spool) -> None:
        self.form = Form()
        self._spool = spool
        self._parts = 0
        self._ended = False
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._name = ""
        self._text = bytearray()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            _malformed()

    def feed(self, chunk: bytes) -> None:
        """Parse some bytes."""
        if not chunk:
            return
        try:
            self._parser.write(chunk)
        except FormParserError:
            _malformed()

    def finish(self) -> Form:
        """The form, once its closing boundary has been seen."""
        if not self._ended:
            raise Problem(MALFORMED, "The form ends before its closing boundary: it was cut off, or is empty.")
        return self.form

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Problem(MALFORMED, f"A form may have at most {MAX_PARTS} parts.")
        self._disposition = b""
        self._text = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == FILE:
            self._begin_file(options.get(b"filename"))
        elif self._name not in FIELDS:
            raise invalid("", f"A form has the parts {FILE}, {', '.join(FIELDS)}, and no others.")
        elif self._name in self.form.fields:
            raise invalid(f"/{self._name}", "This part is given twice.")

    def _begin_file(self, filename: bytes | None) -> None:
        if self.form.has_file:
            raise invalid(f"/{FILE}", "One image a request.")
        self.form.has_file = True
        self.form.filename = None if filename is None else filename.decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE:
            self._spool.add(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise invalid(f"/{self._name}", f"At most {MAX_FIELD_BYTES} bytes.")

    def _part_end(self) -> None:
        if self._name == FILE:
            return
        try:
            self.form.fields[self._name] = self._text.decode("utf-8")
        except UnicodeDecodeError:
            raise invalid(f"/{self._name}", "Not valid UTF-8.") from None

    def _end(self) -> None:
        self._ended = True


def _malformed() -> NoReturn:
    raise Problem(MALFORMED, "The body is not a well-formed multipart form.") from None
