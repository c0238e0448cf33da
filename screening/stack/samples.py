"""Does it work? The bundled samples are screened at start, and the newcomer sees what came out."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from screening.errors import AssayError

FOLDER = Path(__file__).parents[1] / "samples"
ENDED = ("succeeded", "failed")


class SamplesDidNotEndError(AssayError):
    """The samples were accepted but have not all ended in time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A bundled image with what is known of it."""

    path: Path
    label: str  # authentic | fake

    @property
    def client_ref(self) -> str:
        """How a later start recognises it."""
        return f"assay-{self.path.stem}"


def bundled() -> list[Sample]:
    """The samples of the package, or none where it carries none."""
    listing = FOLDER / "samples.json"
    if not listing.exists():
        return []
    return [Sample(FOLDER / row["image"], row["label"]) for row in json.loads(listing.read_text())["samples"]]


def submit(client: httpx.Client, sample: Sample) -> str:
    """Upload one; its id."""
    answer = client.post(
        "/v1/screenings",
        files={"image": (sample.path.name, sample.path.read_bytes())},
        data={"client_ref": sample.client_ref},
    )
    answer.raise_for_status()
    return str(answer.json()["id"])


def screened(client: httpx.Client, sample: Sample) -> dict[str, Any] | None:
    """What an earlier start found, or None."""
    answer = client.get("/v1/screenings", params={"client_ref": sample.client_ref, "limit": 1})
    rows = answer.raise_for_status().json()["data"]
    return rows[0] if rows else None


def wait(
    client: httpx.Client, ids: list[str], seconds: float, between: Callable[[], object]
) -> Iterator[dict[str, Any]]:
    """Each screening as it ends. Raises SamplesDidNotEndError when time runs out."""
    open_ids, deadline = list(ids), time.monotonic() + seconds
    while open_ids:
        for screening_id in list(open_ids):
            row = client.get(f"/v1/screenings/{screening_id}").raise_for_status().json()
            if row["state"] in ENDED:
                open_ids.remove(screening_id)
                yield row
        if open_ids and time.monotonic() > deadline:
            raise SamplesDidNotEndError(
                f"{len(open_ids)} of {len(ids)} samples have not ended after {seconds:.0f} s; see the log screen.log."
            )
        between()
        time.sleep(0.2)
