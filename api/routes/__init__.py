"""Which routes are there? One module a noun, each with a `router`; add yours to ROUTERS."""

from fastapi import APIRouter

from api.routes import feedback, health, legal_hold, screening_files, screenings

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    screenings.router,
    screening_files.router,
    feedback.router,
    legal_hold.router,
)
