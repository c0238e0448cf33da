"""Which routes are there? One module a noun, each with a `router`; add yours to ROUTERS."""

from fastapi import APIRouter

from api.routes import (
    clusters,
    deliveries,
    evidence,
    feedback,
    goldens,
    health,
    legal_hold,
    oidc,
    policy,
    quality,
    review_files,
    reviews,
    screening_files,
    screenings,
    session,
    webhook_endpoints,
)

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    screenings.router,
    screening_files.router,
    feedback.router,
    legal_hold.router,
    session.router,
    oidc.router,
    reviews.router,
    clusters.router,
    evidence.router,
    goldens.router,
    quality.router,
    review_files.router,
    policy.router,
    webhook_endpoints.router,
    deliveries.router,
)
