"""Who acts on reviews and policies, and where may they?

An actor is a reviewer or an API key. What it may do hangs on the platform: without a grant there, everything of that
platform does not exist for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from screening.errors import AssayError


class Role(StrEnum):
    """Each role includes the one before it."""

    REVIEWER = "reviewer"  # decides
    LEAD = "lead"  # decides what others passed on, reverses, sees quality and the audit trail
    ADMIN = "admin"  # sets the policy

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what the other may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class NotGrantedError(AssayError):
    """There is nothing here for this actor: no such thing, or no grant on its platform. The two look alike."""


class RoleTooSmallError(AssayError):
    """The actor's role on this platform does not suffice."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A role on one platform, under a name that means nothing anywhere else."""

    role: Role
    alias: str  # rvr_... of this grant, or key_...


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody with grants by platform."""

    id: UUID
    grants: Mapping[UUID, Grant]

    def grant(self, platform_id: UUID, role: Role = Role.REVIEWER) -> Grant:
        """The grant on a platform. Raises NotGrantedError without one, RoleTooSmallError with a smaller role."""
        grant = self.grants.get(platform_id)
        if grant is None:
            raise NotGrantedError("There is nothing here under this id.")
        if not grant.role.includes(role):
            raise RoleTooSmallError(f"This needs the role {role} on the platform; you are {grant.role}.")
        return grant

    def platforms(self, role: Role = Role.REVIEWER) -> list[UUID]:
        """The platforms on which the actor has at least this role."""
        return [platform_id for platform_id, grant in self.grants.items() if grant.role.includes(role)]
