"""What a newcomer types works: one command, the README's own lines, Ctrl-C, and everything is there the next time."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from screening.embedded.process import free_port
from screening.stack.samples import FOLDER, bundled

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
READY = "Assay is ready"


class Stack:
    """`assay up` in a terminal of its own, as the Makefile runs it, from a folder where nothing is yet."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.out = folder / "out.txt"
        command = [str(Path(sys.executable).with_name("assay")), "up", *options]
        with self.out.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )

    @property
    def said(self) -> str:
        return self.out.read_text(errors="replace")

    def ready(self, seconds: float = 240) -> "Stack":
        deadline = time.monotonic() + seconds
        while READY not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.2)
        return self

    def family(self) -> list[psutil.Process]:
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def interrupt(self) -> None:
        """Ctrl-C, which a terminal sends to the whole group; nothing that was started is left."""
        family = self.family()
        os.killpg(self.process.pid, signal.SIGINT)
        assert self.process.wait(90) == 0, self.said
        _, alive = psutil.wait_procs(family, timeout=10)
        assert alive == []


@pytest.fixture(scope="module")
def folder(run_folder: Path) -> Iterator[Path]:
    made = run_folder / "newcomer"
    made.mkdir()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    """With a data directory, because as root the usual one for a database lies in /var/lib."""
    made = Stack(folder, "--data-dir", ".assay")
    try:
        yield made.ready()
    finally:
        if made.process.poll() is None:
            made.interrupt()


def credentials(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / ".assay" / "demo.json").read_text())
    return found


def client(folder: Path) -> httpx.Client:
    known = credentials(folder)
    return httpx.Client(base_url=known["url"], headers={"Authorization": f"Bearer {known['api_key']}"}, timeout=60)


def screenings(folder: Path) -> dict[str, dict[str, Any]]:
    with client(folder) as http:
        rows = http.get("/v1/screenings", params={"limit": 200}).raise_for_status().json()["data"]
    return {row["client_ref"]: row for row in rows}


def blocks_with(word: str) -> list[str]:
    """The README's code blocks in which a word stands."""
    return [block for block in re.findall(r"^```\n(.*?)^```", README, re.M | re.S) if word in block]


def test_the_samples_have_succeeded_and_are_shown(stack: Stack, folder: Path) -> None:
    found = screenings(folder)
    assert set(found) >= {sample.client_ref for sample in bundled()}
    assert {row["state"] for row in found.values()} == {"succeeded"}
    for sample in bundled():
        assert re.search(rf"{sample.client_ref}\s+{sample.label}\s+(authentic|fake|inconclusive)", stack.said)


def test_secrets_are_its_owners_alone(stack: Stack, folder: Path) -> None:
    for name in ("demo.json", "secrets.json"):
        assert (folder / ".assay" / name).stat().st_mode & 0o777 == 0o600
    assert credentials(folder)["api_key"] not in stack.said
    logs = "".join(path.read_text(errors="replace") for path in (folder / ".assay" / "logs").glob("*.log"))
    for secret in (credentials(folder)["api_key"], credentials(folder)["webhook_secret"]):
        assert secret not in logs


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_lines_of_the_readme_give_a_finding_with_an_upright_mask(
    stack: Stack, folder: Path, orientation: int
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    with Image.open(FOLDER / "sample-2.jpg") as photo:
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.save(folder / "photo.jpg", exif=exif)
        upright = photo.size if orientation == 1 else photo.size[::-1]
    sending, fetching = blocks_with("curl")
    answer = json.loads(shell(folder, sending))
    assert (answer["state"], answer["client_ref"]) == ("succeeded", "post-991")
    assert (answer["image"]["width"], answer["image"]["height"]) == upright
    names = "\n".join(line for line in sending.splitlines() if line.startswith("export "))
    shell(folder, names + "\n" + fetching.replace("scr_...", answer["id"]))
    for name in ("mask.png", "overlay.jpg"):
        with Image.open(folder / name) as drawn:
            assert drawn.size == upright, name


def shell(folder: Path, lines: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("KEY", "URL")}
    ran = subprocess.run(
        ["bash", "-euc", lines], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_dashboard_and_the_description_answer(stack: Stack, folder: Path) -> None:
    with client(folder) as http:
        assert http.get("/", follow_redirects=True).status_code == 200
        assert http.get("/openapi.json").json()["openapi"].startswith("3.1")


def test_the_receiver_has_verified_what_it_heard(stack: Stack, folder: Path) -> None:
    log = folder / ".assay" / "logs" / "receiver.log"
    ids = [row["id"] for row in screenings(folder).values()]
    deadline = time.monotonic() + 60
    while not all(id in log.read_text() for id in ids):
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


@pytest.mark.parametrize("options", [("--data-dir", ".assay"), ("--data-dir", "elsewhere", "--port", "PORT")])
def test_a_second_one_says_what_is_in_its_way(stack: Stack, folder: Path, options: tuple[str, ...]) -> None:
    port = credentials(folder)["url"].rpartition(":")[2]
    other = Stack(folder, *(port if option == "PORT" else option for option in options))
    assert other.process.wait(60) == 1
    said = other.said.rpartition("Error: ")[2]
    assert ("already runs" in said) or (f"Port {port} is taken" in said)
    assert "Traceback" not in other.said


def test_ctrl_c_leaves_no_process_and_the_next_start_finds_its_data(stack: Stack, folder: Path) -> None:
    before, known = screenings(folder), credentials(folder)
    stack.interrupt()
    assert "Stopped." in stack.said
    stack.out.write_text("")
    again = Stack(folder, "--data-dir", ".assay")
    try:
        again.ready()
        assert {ref: row["id"] for ref, row in screenings(folder).items()} == {
            ref: row["id"] for ref, row in before.items()
        }
        assert {**credentials(folder), "url": ""} == {**known, "url": ""}
    finally:
        again.interrupt()


def test_what_cannot_start_says_why_and_leaves_nothing(folder: Path) -> None:
    (folder / "a-file").write_text("")
    cases = {
        ("--data-dir", "a-file/below"): "cannot be written to",
        ("--data-dir", "odd", "--port", "1"): "ends again and again",
    }
    if os.geteuid() == 0:
        del cases["--data-dir", "odd", "--port", "1"]  # which root may listen on
    for options, words in cases.items():
        other = Stack(folder, *options)
        assert other.process.wait(120) == 1
        assert words in other.said
        assert "Traceback (most recent call last)" not in other.said.partition("Error: ")[0]


def test_weights_that_are_not_there_are_named_before_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_WEIGHTS", "/nowhere/at/all")
    other = Stack(folder, "--data-dir", "weightless", "--port", str(free_port()))
    assert other.process.wait(240) == 1
    assert "/nowhere/at/all" in other.said
    assert "ends again and again" in other.said
