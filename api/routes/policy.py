"""The policy of a platform: read it, replace it, watch another one, test one on the past, stop all blocking."""

import re
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from sqlalchemy.orm import Session

from api.dependencies import Using
from api.problems import MALFORMED, PRECONDITION_REQUIRED, Problem, not_found
from api.reviewer_auth import Acting, PlatformQuery, one_platform
from api.schemas.fields import Body, Text
from screening import backtest, policies, shadow
from screening.actors import Role
from screening.document import timestamp
from screening.ids import Prefix, encode
from screening.rules import Document
from screening.tables import KillSwitch, Policy

router = APIRouter(tags=["policy"])

VERSION = re.compile(r'(?:W/)?"(\d{1,9})"')


class BacktestRequest(Body):
    """Which policy to try, on which part of the past."""

    document: Document
    limit: Annotated[int, Field(ge=1, le=backtest.MOST)] = 1_000
    after: datetime | None = None
    before: datetime | None = None


class KillSwitchRequest(Body):
    """Whether blocks become reviews, and why."""

    engaged: bool
    reason: Annotated[Text, Field(max_length=500)] | None = None


@router.get("/v1/policy")
async def get_policy(viewer: Acting, services: Using, platform: PlatformQuery = None) -> Response:
    """The policy that judges now. Its version is the ETag that a PUT must name."""
    platform_id = one_platform(viewer, platform)
    body = await services.database.run(_current, platform_id, viewer.platforms[platform_id])
    return JSONResponse(body, headers=_etag(body["version"]))


@router.put("/v1/policy")
async def put_policy(
    new: Document,
    viewer: Acting,
    services: Using,
    platform: PlatformQuery = None,
    if_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Judge by a new version from now on."""
    platform_id = one_platform(viewer, platform, Role.ADMIN)
    alias = viewer.actor.grants[platform_id].alias
    body = await services.database.run(_put, platform_id, viewer.platforms[platform_id], new, _version(if_match), alias)
    return JSONResponse(body, headers=_etag(body["version"]))


def _etag(version: int) -> dict[str, str]:
    return {"ETag": f'"{version}"', "Cache-Control": "private, no-cache"}


def _version(if_match: str | None) -> int:
    if if_match is None:
        raise Problem(PRECONDITION_REQUIRED, "Send the ETag of the policy you have read as If-Match.")
    match = VERSION.fullmatch(if_match.strip())
    if match is None:
        raise Problem(MALFORMED, 'If-Match names one version, as "7".')
    return int(match[1])


def _put(session: Session, platform_id: UUID, name: str, new: Document, expected: int, actor: str) -> dict[str, Any]:
    policies.put(session, platform_id, new, expected_version=expected, actor=actor)
    return _current(session, platform_id, name)


def _current(session: Session, platform_id: UUID, name: str) -> dict[str, Any]:
    now = policies.standing(session, platform_id)
    row = session.get(Policy, (platform_id, now.version))
    return {
        "object": "policy",
        "platform": {"id": encode(Prefix.PLATFORM, platform_id), "name": name},
        "version": now.version,
        "built_in": now.version == policies.BUILT_IN,
        "document": policies.document(session, platform_id, now.version).model_dump(mode="json"),
        "shadow_version": now.shadow_version,
        "blocks_suspended": now.blocks_suspended,
        "created_at": None if row is None else timestamp(row.created_at),
    }


@router.get("/v1/policy/versions")
async def list_versions(viewer: Acting, services: Using, platform: PlatformQuery = None) -> Response:
    """The newest fifty versions, newest first."""
    platform_id = one_platform(viewer, platform)
    return JSONResponse({"data": await services.database.run(_versions, platform_id)})


def _versions(session: Session, platform_id: UUID) -> list[dict[str, Any]]:
    now = policies.standing(session, platform_id)
    return [
        {
            "version": row.version,
            "created_at": timestamp(row.created_at),
            "actor": row.actor,
            "active": row.version == now.version,
            "shadow": row.version == now.shadow_version,
        }
        for row in policies.versions(session, platform_id)
    ]


@router.get("/v1/policy/versions/{version}")
async def get_version(version: int, viewer: Acting, services: Using, platform: PlatformQuery = None) -> Response:
    """One version as it was written."""
    platform_id = one_platform(viewer, platform)
    return JSONResponse({"version": version, "document": await services.database.run(_document, platform_id, version)})


def _document(session: Session, platform_id: UUID, version: int) -> dict[str, Any]:
    if not 0 <= version < 2**31:
        raise not_found()
    try:
        return policies.document(session, platform_id, version).model_dump(mode="json")
    except policies.UnknownPolicyError:
        raise not_found() from None


@router.get("/v1/policy/shadow")
async def get_shadow(viewer: Acting, services: Using, platform: PlatformQuery = None) -> Response:
    """What the watching version would have done otherwise, over its last thousand findings."""
    platform_id = one_platform(viewer, platform)
    report = await services.database.run(shadow.report, platform_id)
    if report is None:
        raise not_found()
    return JSONResponse(report)


@router.put("/v1/policy/shadow")
async def put_shadow(new: Document, viewer: Acting, services: Using, platform: PlatformQuery = None) -> Response:
    """Let a version watch: it is evaluated and stored for every finding, and acts on nothing."""
    platform_id = one_platform(viewer, platform, Role.ADMIN)
    alias = viewer.actor.grants[platform_id].alias
    version = await services.database.run(policies.put_shadow, platform_id, new, actor=alias)
    return JSONResponse({"version": version})


@router.delete("/v1/policy/shadow", status_code=204)
async def delete_shadow(viewer: Acting, services: Using, platform: PlatformQuery = None) -> Response:
    """End the watch."""
    platform_id = one_platform(viewer, platform, Role.ADMIN)
    await services.database.run(
        policies.put_shadow, platform_id, None, actor=viewer.actor.grants[platform_id].alias
    )  # fmt: skip
    return Response(status_code=204)


@router.post("/v1/policy/backtest")
async def run_backtest(
    asked: BacktestRequest, viewer: Acting, services: Using, platform: PlatformQuery = None
) -> Response:
    """Judge past findings by another policy and say what would flip. Changes nothing, tells nobody."""
    platform_id = one_platform(viewer, platform, Role.ADMIN)
    return JSONResponse(await services.database.run(_backtest, platform_id, asked))


def _backtest(session: Session, platform_id: UUID, asked: BacktestRequest) -> dict[str, Any]:
    version = policies.standing(session, platform_id).version + 1
    result = backtest.run(
        session, platform_id, asked.document,
        version=version, limit=asked.limit, after=asked.after, before=asked.before,
    )  # fmt: skip
    return {
        "judged": result.judged,
        "truncated": result.truncated,
        "was": dict(result.was),
        "becomes": dict(result.becomes),
        "rules": dict(result.by_rule),
        "flips": [{"was": was, "becomes": becomes, "count": n} for (was, becomes), n in result.flips.most_common()],
        "examples": [
            {
                "screening_id": encode(Prefix.SCREENING, flip.screening_id),
                "was": flip.was,
                "becomes": flip.becomes,
                "rule": flip.rule,
            }
            for flip in result.examples
        ],
    }


@router.get("/v1/policy/kill-switch")
async def get_kill_switch(viewer: Acting, services: Using, platform: PlatformQuery = None) -> Response:
    """Whether blocks are being turned into reviews, on this platform or everywhere."""
    return JSONResponse(await services.database.run(_kill_switch, one_platform(viewer, platform)))


@router.put("/v1/policy/kill-switch")
async def put_kill_switch(
    wanted: KillSwitchRequest, viewer: Acting, services: Using, platform: PlatformQuery = None
) -> Response:
    """Turn every further block of this platform into a review, or stop doing so. Acts on the next finding."""
    platform_id = one_platform(viewer, platform, Role.ADMIN)
    return JSONResponse(
        await services.database.run(_switch, platform_id, wanted, viewer.actor.grants[platform_id].alias)
    )  # fmt: skip


def _switch(session: Session, platform_id: UUID, wanted: KillSwitchRequest, actor: str) -> dict[str, Any]:
    policies.switch_blocks(session, platform_id, suspended=wanted.engaged, actor=actor, reason=wanted.reason)
    return _kill_switch(session, platform_id)


def _kill_switch(session: Session, platform_id: UUID) -> dict[str, Any]:
    rows = policies.kill_switches(session, platform_id)
    everywhere = rows.get(policies.EVERY_PLATFORM)
    return {**_switch_state(rows.get(platform_id)), "global": _switch_state(everywhere)}


def _switch_state(row: KillSwitch | None) -> dict[str, Any]:
    if row is None:
        return {"engaged": False, "reason": None, "changed_at": None}
    return {"engaged": row.engaged, "reason": row.reason, "changed_at": timestamp(row.changed_at)}
