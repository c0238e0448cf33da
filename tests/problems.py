"""Is an answer a problem document as the contract says?"""

import httpx

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id"}


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    """RFC 9457 with our members, and nothing that tells how we work."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body.keys() >= MEMBERS
    assert body["request_id"] == answer.headers["x-request-id"]
    for leak in ("Traceback", "sqlalchemy", "psycopg", "SELECT", "/api/"):
        assert leak not in answer.text
