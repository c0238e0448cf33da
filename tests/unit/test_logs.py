"""What of that which libraries say reaches the log, and what does not."""

import json
import subprocess
import sys

# In a process of its own: logging is set up once for a whole process.
COMPLAINING = """
import contextlib, logging
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from screening import logs
from screening.settings import Settings

logs.configure(Settings())
with contextlib.suppress(FormParserError):
    MultipartParser(b"x").write(b"--x\\r\\nContent[: a\\r\\n")
logging.getLogger(MultipartParser.__module__).error("a disk is full")
logging.getLogger("another.library").warning("a certificate ends soon")
"""


def test_a_form_that_a_client_broke_is_no_warning_to_the_operator_and_all_else_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", COMPLAINING], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("error", "a disk is full"), ("warning", "a certificate ends soon"),
    ]  # fmt: skip
