"""The dashboard's routes, one module a page."""

from fastapi import APIRouter

from api.pages import static_files
from api.pages.routes import audit, board, policy, quality, review, screenings, settings, sign_in, webhooks

ROUTERS: tuple[APIRouter, ...] = (
    static_files.router,
    sign_in.router,
    board.router,
    review.router,
    screenings.router,
    quality.router,
    audit.router,
    policy.router,
    webhooks.router,
    settings.router,
)
