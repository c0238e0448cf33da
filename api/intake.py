"""How does an upload become a promise? Spooled, read, stored, committed, announced, in that order.

The blob is written before the transaction, so a committed row always has its bytes. Where the transaction does not
commit the blob is removed again; where nobody can say whether it did, the database is asked, and while it cannot be
asked the blob stays: an orphan costs storage, a missing image costs a screening.
"""

from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api import header, multipart, screenings
from api.auth import Admission
from api.idempotency import answer_once
from api.problems import (
    KEY_REUSED,
    MALFORMED,
    OBJECT_FORBIDDEN,
    QUOTA_REACHED,
    TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
)
from api.schemas import new_screening
from api.schemas.new_screening import Details, NewScreening, ObjectSource
from api.services import Services
from api.spool import Spool
from screening import blobs, document, idempotency, jobs, progress
from screening.errors import BlobStoreError
from screening.header import Header
from screening.ids import Prefix, encode, uuid7
from screening.settings import Settings
from screening.tables import Image, Screening

logger = structlog.get_logger(__name__)

MAX_JSON_BYTES = 64 * 1024
MAX_FILENAME = 255
POLL_SECONDS = 2  # what a 202 suggests: a queue that keeps up answers within it
QUOTA_RETRY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a client sent, read and checked. `spool` and `header` are None for a source."""

    details: Details
    spool: Spool | None = None
    header: Header | None = None
    filename: str | None = None

    @property
    def source(self) -> dict[str, str] | None:
        """The source as it is stored."""
        return self.details.source.model_dump() if isinstance(self.details, NewScreening) else None

    @property
    def fingerprint(self) -> bytes:
        """What makes two submissions the same: the bytes and the details, not the form's boundary."""
        content = b"" if self.spool is None else self.spool.sha256
        return idempotency.fingerprint(content, new_screening.canonical(self.details.model_dump(mode="json")))


async def read(request: Request, services: Services, spool: Spool) -> Submitted:
    """Read a form or a JSON body. Raises Problem."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request, services, spool)
    if kind == "application/json":
        return Submitted(new_screening.from_body(await _read_json(request)))
    raise Problem(UNSUPPORTED_MEDIA_TYPE, "Send multipart/form-data with an `image`, or application/json.")


async def _read_form(request: Request, services: Services, spool: Spool) -> Submitted:
    form = await multipart.read(request, spool)
    if not form.has_file:
        raise new_screening.missing_file()
    details = new_screening.from_fields(form.fields)
    async with services.header_places.for_(spool.file):
        found = await run_in_threadpool(header.read, spool.file, spool.size, services.settings)
    filename = None if form.filename is None else form.filename.replace("\0", "")[:MAX_FILENAME]
    return Submitted(details, spool, found, filename)


async def _read_json(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise Problem(TOO_LARGE, f"A JSON body may have at most {MAX_JSON_BYTES} bytes.")
    if not body:
        raise Problem(MALFORMED, "The body is empty.")
    return bytes(body)


async def accept(
    services: Services,
    admission: Admission,
    submitted: Submitted,
    keyed: idempotency.Request | None,
    traceparent: str | None,
) -> idempotency.Answer:
    """Store and commit. The answer is 202, or the first one's of a replayed request. Raises Problem."""
    _check_bucket(admission, submitted.details)
    if keyed is not None or admission.platform.max_queued is not None:
        known = await services.database.run(_check, admission, keyed)
        if known is not None:
            return known
    await services.backpressure.check()
    screening_id = uuid7()
    intake = await _store(services, admission, submitted, screening_id, traceparent)
    try:
        answer = await services.database.run(_record, intake, keyed, services.settings)
    except DBAPIError:
        committed = await _look_again(services, intake)
        if committed is None:
            raise
        answer = committed
    except BaseException:
        await _remove(services, intake)
        raise
    if answer.replayed:
        await _remove(services, intake)
    else:
        services.doorbell.ring(lambda bell: bell.ring_screening(screening_id))
    return answer


def _check(session: Session, admission: Admission, keyed: idempotency.Request | None) -> idempotency.Answer | None:
    """A replay if this is one; otherwise whether it may be queued at all."""
    try:
        known = None if keyed is None else idempotency.find(session, keyed)
    except idempotency.KeyReusedError as error:
        raise Problem(KEY_REUSED, str(error)) from None
    if known is None:
        _check_quota(session, admission)
    return known


def _check_bucket(admission: Admission, details: Details) -> None:
    source = details.source if isinstance(details, NewScreening) else None
    if isinstance(source, ObjectSource) and source.bucket not in admission.platform.buckets:
        raise Problem(OBJECT_FORBIDDEN, "Objects come only from buckets that the operator opened to the platform.")


def _check_quota(session: Session, admission: Admission) -> None:
    most = admission.platform.max_queued
    if most is not None and progress.queued(session, admission.platform.id, at_most=most) >= most:
        raise Problem(
            QUOTA_REACHED,
            f"At most {most} screenings of the platform may wait at a time.",
            headers={"Retry-After": str(QUOTA_RETRY_SECONDS)},
        )


async def _store(
    services: Services, admission: Admission, submitted: Submitted, screening_id: UUID, traceparent: str | None
) -> jobs.Intake:
    """Put the bytes under their key, and say what there is to enqueue."""
    image = None
    if submitted.spool is not None and submitted.header is not None:
        image = _image(admission.platform.id, screening_id, submitted.spool, submitted.header)
        submitted.spool.file.seek(0)
        await run_in_threadpool(
            services.blobs.put, image.blob_key, submitted.spool.file, f"image/{submitted.header.format}"
        )
    return jobs.Intake(
        platform_id=admission.platform.id,
        screening_id=screening_id,
        priority=submitted.details.priority,
        client_ref=submitted.details.client_ref,
        details=submitted.details.metadata,
        source=submitted.source,
        filename=submitted.filename,
        traceparent=traceparent,
        image=image,
    )


def _image(platform_id: UUID, screening_id: UUID, spool: Spool, found: Header) -> Image:
    return Image(
        id=uuid7(),
        screening_id=screening_id,
        platform_id=platform_id,
        blob_key=blobs.image_key(platform_id, screening_id),
        sha256=spool.sha256,
        size=spool.size,
        format=found.format,
        width=found.width,
        height=found.height,
        orientation_applied=found.turned,
    )


def _record(
    session: Session, intake: jobs.Intake, keyed: idempotency.Request | None, settings: Settings
) -> idempotency.Answer:
    return answer_once(session, keyed, lambda session: accepted(jobs.enqueue(session, intake), settings))


def accepted(row: Screening, settings: Settings) -> idempotency.Answer:
    """The 202 of a queued row."""
    body = document.screening(row, settings)
    return idempotency.Answer(202, {"Location": body["links"]["self"], "Retry-After": str(POLL_SECONDS)}, body)


async def _look_again(services: Services, intake: jobs.Intake) -> idempotency.Answer | None:
    """The answer of a transaction whose end was not heard of, if it did commit; else its blob is removed."""
    public_id = encode(Prefix.SCREENING, intake.screening_id)
    try:
        row = await services.database.run(screenings.load_erased, intake.platform_id, public_id)
    except DBAPIError:
        logger.warning("intake.outcome_unknown", screening=public_id)
        return None
    except Problem:
        await _remove(services, intake)
        return None
    return accepted(row, services.settings)


async def _remove(services: Services, intake: jobs.Intake) -> None:
    """Remove a blob that no row speaks of; what cannot be removed now is left to the sweep of orphans."""
    if intake.image is None:
        return
    try:
        await run_in_threadpool(services.blobs.delete, [intake.image.blob_key])
    except BlobStoreError as error:
        logger.warning("intake.orphan", key=intake.image.blob_key, error=type(error).__name__)
