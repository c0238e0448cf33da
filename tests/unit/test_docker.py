"""Do the images, the compose files and the manifests say what the code does?

Every command, port, variable, image, metric and path is held against the code. test_docker_schemas.py holds the files
against the schemas that packages carry; the fields of those kinds for which there is none are checked here.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions, entry_points
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

import api.metrics
import worker.metrics
from screening.backlog import Backlog
from screening.settings import Settings

DOCKER = Path(__file__).parents[2] / "docker"
IMAGES = {"assay-api": "api", "assay-worker": "worker", "assay-worker-gpu": "worker"}
KINDS = {
    "ConfigMap": "v1", "Service": "v1", "Job": "batch/v1", "Deployment": "apps/v1",
    "ScaledObject": "keda.sh/v1alpha1", "TriggerAuthentication": "keda.sh/v1alpha1",
    "PrometheusRule": "monitoring.coreos.com/v1",
}  # fmt: skip


def instructions(image: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions in order, continued lines joined."""
    text = (DOCKER / f"{image}.Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


def final(image: str) -> list[tuple[str, str]]:
    """The instructions of the last stage."""
    found = instructions(image)
    return found[max(n for n, (name, _) in enumerate(found) if name == "FROM") :]


def environment(image: str) -> dict[str, str]:
    pairs = [value for name, value in final(image) if name == "ENV"]
    return dict(pair.split("=", 1) for value in pairs for pair in value.split())


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / name).read_text())
    return loaded


def manifests() -> list[dict[str, Any]]:
    return [d for path in sorted((DOCKER / "k8s").glob("*.yaml")) for d in yaml.safe_load_all(path.read_text())]


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for manifest in manifests():
        if manifest["kind"] in ("Deployment", "Job"):
            pod = manifest["spec"]["template"]["spec"]
            yield from ((pod, container) for container in pod["containers"])


def commands() -> list[list[str]]:
    """Every command line of `assay` in the files."""
    found = [s["command"] for s in compose()["services"].values() if s["image"] in IMAGES]
    found += [container["args"] for _, container in containers()]
    return found + [json.loads(v) for image in ("api", "worker") for name, v in final(image) if name == "CMD"]


@pytest.mark.parametrize("line", commands(), ids=" ".join)
def test_every_command_is_one_that_assay_understands(line: list[str]) -> None:
    [point] = entry_points(group="assay.commands", name=line[0])
    command: click.Command = point.load()
    arguments = line[1:]
    while isinstance(command, click.Group):
        command = command.commands[arguments[0]]
        arguments = arguments[1:]
    command.make_context("assay", list(arguments))  # raises for an option or a value that is none


@pytest.mark.parametrize("image", ["api", "worker"])
def test_an_image_is_multi_stage_unprivileged_and_checked(image: str) -> None:
    assert [name for name, _ in instructions(image)].count("FROM") == 2
    last = dict(final(image))
    assert last["USER"] == "10001:10001"
    assert json.loads(last["ENTRYPOINT"]) == ["assay"]
    port = "8000" if image == "api" else environment(image)["ASSAY_METRICS_PORT"]
    assert f"http://127.0.0.1:{port}/" in last["HEALTHCHECK"]
    assert port in last["EXPOSE"].split()
    assert environment(image)["ASSAY_METRICS_PORT"] in last["EXPOSE"].split()
    installed = " ".join(value for name, value in final(image) if name in ("RUN", "COPY"))
    assert "pip" not in installed


@pytest.mark.parametrize("image", ["api", "worker"])
def test_what_an_image_copies_exists_and_is_in_the_build_context(image: str) -> None:
    ignored = (DOCKER.parent / ".dockerignore").read_text().splitlines()
    for name, value in instructions(image):
        if name == "COPY" and not value.startswith("--from"):
            for source in value.split()[:-1]:
                found = DOCKER.parent / source.rstrip("/")
                assert found.is_file() if "." in source else found.exists() or list(DOCKER.parent.glob(source)), source
                assert any(f"!{part}" in ignored for part in (source, source.rstrip("/"))) or "docker/" in source, (
                    source
                )


def test_the_api_image_knows_no_worker_and_no_torch() -> None:
    copied = " ".join(value for name, value in instructions("api") if name == "COPY")
    assert "worker" not in copied
    listed = (DOCKER / "api-requirements.txt").read_text()
    for name in ("torch", "transformers", "sam2", "opencv", "scipy"):
        assert not re.search(rf"^{name}", listed, re.MULTILINE), name


@pytest.mark.parametrize("image", ["api", "worker"])
def test_an_images_requirements_are_the_locks_part_that_its_extra_needs(image: str) -> None:
    made = subprocess.run(
        [sys.executable, str(DOCKER / "requirements.py"), image], check=True, capture_output=True, text=True
    )
    assert (DOCKER / f"{image}-requirements.txt").read_text() == made.stdout, "run docker/requirements.py again"


BLOCK = """
import sys, importlib.metadata as m
from importlib.machinery import PathFinder
kept = set({kept!r})
names = {{top for top, dists in m.packages_distributions().items()
          if not any(d.lower().replace('_', '-').replace('.', '-') in kept for d in dists)}}
class Image(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition('.')[0] in names else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Image
import {modules}
"""


@pytest.mark.parametrize(
    ("image", "modules"),
    [
        ("api", "api.app, api.cli, screening.commands.admin"),
        ("worker", "worker.tasks.deliver, worker.tasks.purge, worker.tasks.screen, worker.child, worker.sweeper, "
                   "worker.commands.worker, worker.commands.sweeper"),
    ],
)  # fmt: skip
def test_an_image_has_every_package_that_its_processes_import(image: str, modules: str) -> None:
    listed = (DOCKER / f"{image}-requirements.txt").read_text()
    kept = {re.sub(r"[_.]", "-", name.lower()) for name in re.findall(r"^([A-Za-z0-9_.-]+)==", listed, re.MULTILINE)}
    kept |= {"assay-screening"} | (with_torch() if image == "worker" else set())
    program = BLOCK.format(kept=sorted(kept), modules=modules)
    secret = {"ASSAY_SECRET_KEYS": "x", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=secret, cwd=DOCKER.parent, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def with_torch() -> set[str]:
    """Torch and what pip brings along with it."""
    by_name = {re.sub(r"[_.]", "-", d.metadata["Name"].lower()): d for d in distributions()}
    found: set[str] = set()
    waiting = ["torch"]
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in found:
            found.add(name)
            needed = (by_name[name].requires or []) if "extra ==" not in name else []
            waiting += [re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() for line in needed if "extra ==" not in line]
    return found


def variables() -> Iterator[str]:
    for service in [*compose()["services"].values(), *compose("compose.gpu.yaml")["services"].values()]:
        yield from service.get("environment", {})
    for manifest in manifests():
        yield from manifest.get("data", {})
    for _, container in containers():
        yield from (entry["name"] for entry in container.get("env", []))
    for image in ("api", "worker"):
        yield from environment(image)


def test_every_variable_is_a_setting() -> None:
    known = {f"ASSAY_{name.upper()}" for name in Settings.model_fields}
    ours = {name for name in variables() if name.startswith("ASSAY_")}
    assert len(ours) >= 8
    assert ours - known == set()


def test_what_compose_needs_is_in_the_example_environment() -> None:
    asked = set(re.findall(r"\$\{([A-Z0-9_]+)", (DOCKER / "compose.yaml").read_text()))
    given = set(re.findall(r"^([A-Z0-9_]+)=", (DOCKER / "example.env").read_text(), re.MULTILINE))
    assert asked == given


def test_compose_has_every_process_and_server_locked_down_and_waited_for() -> None:
    services = compose()["services"]
    assert set(services) == {
        "postgres", "redis", "s3", "bucket", "migrate", "api", "screen", "io", "sweeper",
    }  # fmt: skip
    for name, service in services.items():
        assert set(service) >= {"image"}
        for other, condition in service.get("depends_on", {}).items():
            assert other in services
            healthy = condition["condition"] == "service_healthy"
            assert not healthy or "test" in services[other]["healthcheck"]
        if service["image"] in IMAGES:
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
            assert service["tmpfs"]
            assert service["build"]["dockerfile"] == f"docker/{IMAGES[service['image']]}.Dockerfile"
            assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert services["postgres"]["image"] == "postgres:16"
    assert services["redis"]["image"].startswith("redis:7")
    redis = services["redis"]["command"]
    assert redis[redis.index("--appendonly") + 1] == "yes"
    assert redis[redis.index("--maxmemory-policy") + 1] == "noeviction"
    assert services["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert services["api"]["command"][services["api"]["command"].index("--port") + 1] == "8000"
    mounted = {v.partition(":")[0] for s in services.values() for v in s.get("volumes", [])}
    assert mounted == set(compose()["volumes"])


def test_the_gpu_overlay_changes_the_screen_worker_alone() -> None:
    overlay = compose("compose.gpu.yaml")["services"]
    assert set(overlay) == {"screen"}
    [device] = overlay["screen"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    taken = {value.partition("=")[0] for name, value in instructions("worker") if name == "ARG"}
    assert set(overlay["screen"]["build"]["args"]) <= taken


def test_manifests_have_the_fields_that_kubernetes_requires() -> None:
    for manifest in manifests():
        assert manifest["apiVersion"] == KINDS[manifest["kind"]]
        assert re.fullmatch(r"[a-z0-9-]+", manifest["metadata"]["name"])
        if manifest["kind"] == "Deployment":
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            assert manifest["spec"]["selector"]["matchLabels"].items() <= labels.items()
        if manifest["kind"] == "Job":
            assert manifest["spec"]["template"]["spec"]["restartPolicy"] in ("OnFailure", "Never")


def test_pods_run_our_images_unprivileged_with_known_ports_and_volumes() -> None:
    for pod, container in containers():
        image = IMAGES[container["image"]]
        context = container["securityContext"]
        assert context["runAsNonRoot"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert str(context["runAsUser"]) == dict(final(image))["USER"].partition(":")[0]
        ports = {p["name"]: str(p["containerPort"]) for p in container.get("ports", [])}
        assert set(ports.values()) <= set(dict(final(image))["EXPOSE"].split())
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container.get(probe, {"httpGet": {"port": None}})["httpGet"]["port"] in {None, *ports}
        assert {m["name"] for m in container["volumeMounts"]} <= {v["name"] for v in pod["volumes"]}
        assert {next(iter(source)) for source in container["envFrom"]} == {"configMapRef", "secretRef"}
    [service] = [m for m in manifests() if m["kind"] == "Service"]
    deployments = {m["metadata"]["name"]: m for m in manifests() if m["kind"] == "Deployment"}
    assert service["spec"]["selector"] == deployments["assay-api"]["spec"]["selector"]["matchLabels"]


def test_keda_scales_a_deployment_that_exists_and_authenticates() -> None:
    by_kind = {m["kind"]: m for m in manifests()}
    scaled = by_kind["ScaledObject"]["spec"]
    names = {m["metadata"]["name"] for m in manifests() if m["kind"] == "Deployment"}
    assert scaled["scaleTargetRef"]["name"] in names
    [trigger] = scaled["triggers"]
    assert trigger["type"] == "postgresql"
    assert trigger["authenticationRef"]["name"] == by_kind["TriggerAuthentication"]["metadata"]["name"]
    assert float(trigger["metadata"]["targetQueryValue"]) > 0
    [reference] = by_kind["TriggerAuthentication"]["spec"]["secretTargetRef"]
    assert reference["key"] == "ASSAY_DATABASE_URL"


def exported() -> set[str]:
    """Every name under which our processes expose a figure."""
    found = {metric.name for metric in Backlog(Settings()).describe()}
    for module in (api.metrics, worker.metrics):
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                [family] = metric.describe()
                suffixes = {"counter": ["_total"], "histogram": ["_count", "_sum", "_bucket"]}.get(family.type, [""])
                found |= {family.name + suffix for suffix in suffixes}
    return found


def test_every_metric_that_the_files_name_is_one_that_we_export() -> None:
    names = exported()
    assert {"assay_batch_images_bucket", "assay_api_problems_total"} <= names
    rules = [
        rule for m in manifests() if m["kind"] == "PrometheusRule" for g in m["spec"]["groups"] for rule in g["rules"]
    ]
    assert rules
    for rule in rules:
        named = set(re.findall(r"\bassay_[a-z_]+", rule["expr"]))
        assert named, rule["alert"]
        assert named <= names, rule["alert"]
        assert rule["annotations"]["summary"]
    for path in [p for p in DOCKER.rglob("*") if p.suffix in (".yaml", ".Dockerfile")]:
        text = path.read_text()
        named = set(re.findall(r"\bassay_[a-z_]+_(?:seconds|total|letters)\b", text))
        assert named <= names, path.name
