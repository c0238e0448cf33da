"""The policy page: the rules as sentences, the document to edit, what it would have changed, and the kill switch."""

import json
from typing import Any
from uuid import UUID

from fastapi import Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from api.dependencies import Using
from api.pages import frame
from api.pages.frame import Viewing
from api.problems import not_found
from api.reviewer_auth import one_platform
from screening import policies, shadow
from screening.actors import Role
from screening.document import timestamp
from screening.ids import Prefix, encode
from screening.rules import Document, Rule

router = frame.router()

WORDS = {"<": "below", "<=": "at most", ">": "above", ">=": "at least", "==": "is", "!=": "is not", "in": "is one of",
         "not_in": "is none of", "exists": "is given"}  # fmt: skip


@router.get("/policy")
async def show(request: Request, viewer: Viewing, services: Using, platform: str | None = None) -> Response:
    """The policy of one platform that the viewer administers."""
    names = frame.platforms(viewer, Role.ADMIN)
    chosen = platform or frame.first(names)
    platform_id = one_platform(viewer, chosen, Role.ADMIN)
    state = await services.database.run(_state, platform_id)
    return frame.page(request, viewer, "policy.html", names=names, chosen=chosen, **state)


def _state(session: Session, platform_id: UUID) -> dict[str, Any]:
    now = policies.standing(session, platform_id)
    current = policies.document(session, platform_id, now.version)
    switches = policies.kill_switches(session, platform_id)
    own, everywhere = switches.get(platform_id), switches.get(policies.EVERY_PLATFORM)
    return {
        "version": now.version,
        "shadow": now.shadow_version,
        "watched": shadow.report(session, platform_id),
        "document": json.dumps(current.model_dump(mode="json"), indent=2),
        "rules": [{"name": r.name, "outcome": r.outcome, "queue": r.queue, "when": sentence(r)} for r in current.rules],
        "otherwise": current.otherwise,
        "sample": current.sample,
        "suspended": own is not None and own.engaged,
        "suspended_everywhere": everywhere is not None and everywhere.engaged,
        "versions": [
            {"version": row.version, "at": timestamp(row.created_at), "by": row.actor}
            for row in policies.versions(session, platform_id, limit=10)
        ],
    }


def sentence(rule: Rule) -> str:
    """A rule's conditions as one reads them aloud."""
    if not rule.when:
        return "always"
    return " and ".join(_condition(condition.field, condition.op, condition.value) for condition in rule.when)


def _condition(field: str, op: str, value: object) -> str:
    if op == "exists":
        return f"{field} {'is given' if value else 'is not given'}"
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple | frozenset) else str(value)
    return f"{field.replace('_', ' ')} {WORDS[op]} {shown}"


@router.get("/policy/versions/{version}")
async def one_version(
    request: Request, viewer: Viewing, services: Using, version: int, platform: str | None = None
) -> Response:
    """One version as it was written."""
    names = frame.platforms(viewer, Role.ADMIN)
    platform_id = one_platform(viewer, platform or frame.first(names), Role.ADMIN)
    content = await services.database.run(_content, platform_id, version)
    name = viewer.platforms[platform_id]
    context = {
        "version": version,
        "document": content,
        "platform": name,
        "chosen": encode(Prefix.PLATFORM, platform_id),
    }
    return frame.page(request, viewer, "policy_version.html", **context)


def _content(session: Session, platform_id: UUID, version: int) -> str:
    try:
        found: Document = policies.document(session, platform_id, version)
    except policies.UnknownPolicyError:
        raise not_found() from None
    return json.dumps(found.model_dump(mode="json"), indent=2)
