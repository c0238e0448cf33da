"""After erasing, no row repeats what was sent, what the file said of itself, or what people wrote of it."""

from datetime import timedelta

import httpx
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from screening import corrections, decisions, endpoints, jobs, reviews
from screening.actors import Role
from screening.settings import Settings
from screening.tables import Base, Platform, Review, Screening
from screening.webhook_secrets import SecretBox
from tests import pictures, reviewing
from tests.findings import finding

Sessions = sessionmaker[Session]
MARK = "m4rk3d"

# Tables with rows about one screening. A new one has to be written to by the test below, and emptied by erasure.py.
ABOUT_A_SCREENING = {
    "submissions", "images", "attempts", "findings", "feedback", "reviews", "decisions", "passings", "corrections",
    "exposures", "goldens", "provenances", "events", "deliveries", "delivery_attempts", "shadow_rulings",
}  # fmt: skip


def rows_with(sessions: Sessions, mark: str) -> dict[str, list[str]]:
    """Every row of the database that holds the mark, by table."""
    found: dict[str, list[str]] = {}
    with sessions() as session:
        for table in Base.metadata.sorted_tables:
            asked = text(f"SELECT t::text FROM {table.name} t WHERE t::text LIKE :mark")
            if rows := list(session.scalars(asked, {"mark": f"%{mark}%"})):
                found[table.name] = rows
    return found


def test_every_table_about_a_screening_is_known_here() -> None:
    about = {"screenings"}
    while True:
        more = {
            table.name
            for table in Base.metadata.sorted_tables
            if {key.column.table.name for key in table.foreign_keys} & about
        }
        if more <= about:
            break
        about |= more
    assert about - {"screenings"} == ABOUT_A_SCREENING


async def test_nothing_that_was_sent_read_or_written_of_an_image_outlasts_its_erasure(
    client: httpx.AsyncClient, sessions: Sessions, settings: Settings, platform: Platform
) -> None:
    with sessions.begin() as session:
        endpoints.create(session, SecretBox(settings.keys), platform.id, "https://example.com/hook")
    reviewing.policy(sessions, platform)
    answer = await client.post(
        "/v1/screenings",
        files={"image": (f"{MARK}.jpg", pictures.jpeg())},
        data={"client_ref": f"ref-{MARK}", "metadata": f'{{"who": "{MARK}"}}'},
        headers={"Idempotency-Key": "once"},
    )
    assert answer.status_code == 202
    public_id = answer.json()["id"]
    said = {
        "c2pa": {"generator": MARK}, "exif": [{"name": "Artist", "value": MARK}], "conflicts": [],
        "gps": {"latitude": 51.4779, "longitude": -0.0015, "near": MARK}, "jpeg": None, "thumbnail": None,
    }  # fmt: skip
    with sessions.begin() as session:
        [claim] = jobs.claim(session, limit=1, worker="w", lease=timedelta(seconds=60))
        row = finding(claim, regions=[{"bbox": [1, 2, 3, 4], "note": MARK}])
        assert jobs.complete(session, claim, row, provenance=said)
    note = await client.post(f"/v1/screenings/{public_id}/feedback", json={"truth": "fake", "note": MARK},
                             headers={"Idempotency-Key": "twice"})  # fmt: skip
    assert note.status_code == 201
    judge(sessions, platform)
    full = rows_with(sessions, MARK)
    assert set(full) == {
        "screenings", "submissions", "findings", "feedback", "provenances", "passings", "decisions", "events",
        "idempotency_records",
    }  # fmt: skip

    assert (await client.delete(f"/v1/screenings/{public_id}")).status_code == 204
    assert rows_with(sessions, MARK) == {}
    with sessions() as session:
        stub = session.query(Screening).one()
        assert (stub.state, stub.client_ref) == ("succeeded", None)
        assert stub.erased_at is not None
    assert rows_with(sessions, "51.4779") == {}


def judge(sessions: Sessions, platform: Platform) -> None:
    """Somebody escalates with words; a lead corrects the mask and decides with a note."""
    person, lead = reviewing.actor(platform), reviewing.actor(platform, role=Role.LEAD)
    with sessions.begin() as session:
        id = session.query(Review).one().id
        token = reviews.token(reviews.claim_this(session, person, id))
        reviews.escalate(session, person, id, token, f"Who is {MARK}?")
    with sessions.begin() as session:
        token = reviews.token(reviews.claim_this(session, lead, id))
        review, _ = corrections.begin(session, lead, id, token)
        key = corrections.key(review)
        corrections.add(session, lead, id, token, blob_key=key, sha256=bytes(32), iou=0.5)
        decisions.decide(session, lead, id, token, decisions.Choice("fake", note=f"It shows {MARK}."))
    with sessions.begin() as session:
        session.execute(text("SELECT set_config('assay.clock_offset', '1 minute', true)"))
        assert decisions.tend(session) == 1
