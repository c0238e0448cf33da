"""Are the compose files and manifests what Compose and Kubernetes take? By the schemas that two packages carry.

No package carries those of KEDA and of the Prometheus operator: test_docker.py checks the fields that they require.
"""

import copy
import json
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.unit.test_docker import KINDS, compose, manifests

COMPOSE = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"
VERSIONS = ("1.29", kubernetes_validate.latest_version())
THEIRS = {"ScaledObject", "TriggerAuthentication", "PrometheusRule"}
OURS = [m for m in manifests() if m["kind"] not in THEIRS]


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(Path(str(distribution("check-jsonschema").locate_file(COMPOSE))).read_text())
    found = jsonschema.validators.validator_for(schema)
    found.check_schema(schema)
    made: jsonschema.Draft202012Validator = found(schema)
    return made


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_a_compose_file_is_one_by_the_compose_specification(name: str) -> None:
    assert list(validator().iter_errors(compose(name))) == []


def test_the_compose_specification_would_notice() -> None:
    wrong = compose()
    wrong["services"]["api"]["comand"] = ["api"]
    wrong["services"]["io"]["read_only"] = "perhaps"
    assert {error.json_path for error in validator().iter_errors(wrong)} >= {"$.services.api"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", OURS, ids=[f"{m['kind']} {m['metadata']['name']}" for m in OURS])
def test_a_manifest_is_one_by_the_schema_of_kubernetes(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schema_of_kubernetes_would_notice() -> None:
    wrong = copy.deepcopy(next(m for m in OURS if m["kind"] == "Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_only_kinds_of_others_have_no_schema_here() -> None:
    assert {m["kind"] for m in manifests()} - {m["kind"] for m in OURS} == THEIRS
    assert set(KINDS) >= THEIRS
