"""What does a route work with? One object an app, made from the settings, closed with it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import Session

from api.backpressure import Backpressure
from api.cursors import Cursors
from api.doorbell import BackgroundBell
from api.header import Places
from api.neighbours import Neighbours
from api.oidc import IdentityProvider
from api.waiting import Waiting
from screening import header
from screening.blobs import BlobStore, open_store
from screening.broker import Doorbell
from screening.database import async_engine
from screening.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """Runs kernel functions, which are written for a plain Session, on the API's event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def run(self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One transaction: committed once `work` has returned, rolled back if it raises.

        Nothing may be promised to a client before this returns.
        """
        async with self._sessions.begin() as session:
            return await session.run_sync(work, *args, **kwargs)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that outlives a request."""

    settings: Settings
    database: Database
    blobs: BlobStore
    doorbell: BackgroundBell
    cursors: Cursors
    backpressure: Backpressure
    waiting: Waiting
    header_places: Places
    neighbours: Neighbours
    identity_provider: IdentityProvider  # used only with an issuer configured
    drawing: asyncio.Semaphore  # overlays drawn at once, each in a process of its own

    @classmethod
    def open(cls, settings: Settings) -> "Services":
        """Make everything; nothing connects before its first use. Raises ConfigurationError for wrong settings."""
        header.configure(settings)
        database = Database(async_engine(settings.database_url))
        return cls(
            settings=settings,
            database=database,
            blobs=open_store(settings.blob_url, settings.s3_endpoint_url),
            doorbell=BackgroundBell(Doorbell(settings.redis_url)),
            cursors=Cursors(settings.keys),
            backpressure=Backpressure(database.run, settings.backpressure_seconds),
            waiting=Waiting(database.run),
            header_places=Places(),
            neighbours=Neighbours(database.run),
            identity_provider=IdentityProvider(settings),
            drawing=asyncio.Semaphore(2),
        )

    async def close(self) -> None:
        """Let go of connections and threads."""
        await self.waiting.close()
        self.doorbell.close()
        await self.database.engine.dispose()
