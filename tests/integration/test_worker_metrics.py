"""A worker's own port: ready, moving, what came of its attempts, and the age of what waits."""

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from screening import deliveries, endpoints, events
from screening.embedded.process import free_port
from screening.webhook_secrets import SecretBox
from tests.receiver import Reply, receiving
from tests.running_line import RunningLine, picture, running_line, wait_for


@pytest.fixture(scope="module")
def line(run_folder: Path) -> Iterator[RunningLine]:
    with running_line(run_folder / "metrics") as running:
        yield running


def samples(port: int) -> dict[str, float]:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    return {
        ",".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_worker_tells_whether_it_is_ready_and_what_it_did(line: RunningLine, rng: random.Random) -> None:
    waiting = line.accept([picture(rng)], ring=False)
    port = free_port()
    worker = line.start("worker", "screen", ASSAY_METRICS_PORT=str(port))
    wait_for("the metrics are served", lambda: worker.said("metrics.served"), 120)
    assert samples(port)["assay_oldest_due_seconds"] > 0
    assert samples(port)["assay_worker_ready"] == 0
    wait_for("the detector is loaded", lambda: worker.said("detector.ready"), 120)
    assert samples(port)["assay_worker_ready"] == 1
    ids = [*waiting, *line.accept([picture(rng), b"no image"])]
    line.wait_ended(ids)
    wait_for("both are counted", lambda: samples(port).get("assay_screenings_ended_total,succeeded") == 2)
    seen = samples(port)
    assert seen["assay_failures_total,unsupported_format"] == 1
    assert seen["assay_batch_images_count"] >= 1
    assert {"fetch", "decode", "hash", "preprocess", "infer", "finish", "encode", "upload", "commit"} <= {
        name.split(",")[1] for name in seen if name.startswith("assay_stage_seconds_sum,")
    }
    assert seen["assay_oldest_due_seconds"] == 0
    assert seen["assay_worker_progress_timestamp_seconds"] > 0
    worker.children()[0].kill()
    wait_for("the dead child is no longer counted", lambda: samples(port)["assay_worker_ready"] == 0)
    wait_for("its replacement is ready", lambda: samples(port)["assay_worker_ready"] == 1, 120)
    worker.stop()


def test_an_io_worker_counts_what_came_of_its_attempts_uses_no_proxy_and_logs_no_secret(line: RunningLine) -> None:
    port = free_port()
    environment = {
        "ASSAY_METRICS_PORT": str(port), "ASSAY_SECRET_KEYS": "key", "ASSAY_WEBHOOK_ALLOWED_RANGES": "127.0.0.0/8",
        "ASSAY_LOG_LEVEL": "DEBUG",
    }  # fmt: skip
    # A proxy would connect for us to whatever address it likes. Nobody listens on this port.
    environment |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    environment |= {"NO_PROXY": "", "no_proxy": ""}
    with receiving() as receiver:
        urls = [receiver.url("/fine"), receiver.at("/broken", Reply(503)), f"http://127.0.0.1:{free_port()}/"]
        with line.sessions.begin() as session:
            secrets = [endpoints.create(session, SecretBox(["key"]), line.platform, url)[1] for url in urls]
            for number in range(3):
                events.emit(session, platform_id=line.platform, type="t", data={"n": number})
        worker = line.start("worker", "io", **environment)
        wait_for("the metrics are served", lambda: worker.said("metrics.served"), 120)
        with line.sessions() as session:
            assert deliveries.any_due(session, deliveries.Limits(8, 32))
        assert samples(port)["assay_delivery_oldest_due_seconds"] > 0
        line.doorbell.ring_deliveries()
        wait_for("all are tried", lambda: samples(port).get("assay_delivery_attempt_seconds_count") == 9)
        seen = samples(port)
        assert {n.split(",")[1]: v for n, v in seen.items() if n.startswith("assay_delivery_attempts_total,")} == {
            "delivered": 3, "5xx": 3, "connect": 3,
        }  # fmt: skip
        wait_for("nothing is due", lambda: samples(port)["assay_delivery_oldest_due_seconds"] == 0)
        assert samples(port)["assay_dead_letters"] == 0
    worker.stop()
    logged = worker.log.read_text()
    assert "deliver.drained" in logged
    for secret in (*secrets, *(request.headers["webhook-signature"] for request in receiver.requests)):
        assert secret.removeprefix("whsec_") not in logged
