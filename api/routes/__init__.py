"""Which routes are there? One module a noun, each with a `router`; add yours to ROUTERS."""

from fastapi import APIRouter

from api.routes import health, screenings

ROUTERS: tuple[APIRouter, ...] = (health.router, screenings.router)
