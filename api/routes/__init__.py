"""Which routes are there? One module a noun, each with a `router`; add yours to ROUTERS."""

from fastapi import APIRouter

from api.routes import feedback, health, legal_hold, policy, reviews, screening_files, screenings, session

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    screenings.router,
    screening_files.router,
    feedback.router,
    legal_hold.router,
    session.router,
    reviews.router,
    policy.router,
)
