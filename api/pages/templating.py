"""How is a page made? From a Jinja template that escapes everything, under a policy that lets nothing else run."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.pages.static_files import address

FOLDER = Path(__file__).parent / "templates"

# Nothing from elsewhere, no inline script or style, no frame around us. `data:` is for nobody; `blob:` is how a canvas
# hands back a corrected mask.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of the rail."""

    name: str
    href: str
    icon: str
    role: str = "reviewer"  # the least role on any platform that sees it


NAVIGATION = (
    Item("Queue", "/", "queue"),
    Item("Review", "/review", "review"),
    Item("Screenings", "/screenings", "search"),
    Item("Quality", "/quality", "quality", "lead"),
    Item("Audit", "/audit", "audit", "lead"),
    Item("Policy", "/policy", "policy", "admin"),
    Item("Webhooks", "/webhooks", "webhooks", "admin"),
    Item("Settings", "/settings", "settings"),
)


def ago(value: datetime | None, now: datetime | None = None) -> str:
    """A time as people say it: "18 min ago", "in 2 h"."""
    if value is None:
        return "–"
    seconds = ((now or datetime.now(UTC)) - value).total_seconds()
    size = abs(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if size >= length:
            text = f"{int(size // length)} {unit}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return "just now" if seconds >= 0 else "in a moment"


def since(value: str | None) -> str:
    """`ago` for a time as the API writes it (RFC 3339)."""
    return ago(None if value is None else datetime.fromisoformat(value))


def due(value: str | None) -> str:
    """A due time: "in 2 h", or "18 min late"."""
    said = since(value)
    return f"{said.removesuffix(' ago')} late" if said.endswith(" ago") else said


def percent(value: float | None, digits: int = 0) -> str:
    """0.123 as "12 %"; a dash for nothing."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def moment(value: datetime | None) -> str:
    """An exact time in UTC."""
    return "–" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@cache
def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.globals["static"] = address
    made.filters.update(ago=ago, since=since, due=due, percent=percent, moment=moment)
    return made


def render(template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page, or a part of one, with its security headers."""
    return HTMLResponse(_environment().get_template(template).render(context), status, headers=HEADERS)


def navigation(path: str, roles: frozenset[str]) -> list[dict[str, Any]]:
    """The rail for somebody with these roles, the present page marked."""
    rank = ("reviewer", "lead", "admin")
    highest = max((rank.index(role) for role in roles), default=-1)
    return [
        {"name": item.name, "href": item.href, "icon": item.icon, "current": _is_current(item.href, path)}
        for item in NAVIGATION
        if rank.index(item.role) <= highest
    ]


def _is_current(href: str, path: str) -> bool:
    return path == href if href == "/" else path == href or path.startswith(f"{href}/")
