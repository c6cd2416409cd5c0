"""Checks manifests against Kubernetes' own schemas, strictly, and custom resources against their operators' models.

Run with the Python of `.venv-charts`: `validate.py VERSION,VERSION FILE...`. Prints a line for each fault and what it
could not check as `unknown KIND`; exits with 1 if there is a fault. What stands in several files is checked once.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import kubernetes_validate
import yaml

MODELS = {
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}


def faults(item: dict[str, Any], version: str) -> list[str]:
    if item["apiVersion"] in MODELS:
        models = importlib.import_module(MODELS[item["apiVersion"]])
        return model_faults(getattr(models, item["kind"]), item)
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{list(error.path)}: {error.message[:300]}"]
    except kubernetes_validate.SchemaNotFoundError:
        return [f"unknown {item['apiVersion']} {item['kind']}"]
    return []


def model_faults(model: Any, item: dict[str, Any]) -> list[str]:
    try:
        read = model.model_validate(item)
    except ValueError as error:
        return [str(error)]
    # The models leave out what they do not know.
    known = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return lost(item["spec"], known["spec"], "spec")


def lost(given: Any, known: Any, path: str) -> list[str]:
    if isinstance(given, dict) and isinstance(known, dict):
        unknown = [f"{path}.{name} is not known" for name in given.keys() - known.keys()]
        return unknown + [
            fault
            for name in given.keys() & known.keys()
            for fault in lost(given[name], known[name], f"{path}.{name}")
        ]
    if isinstance(given, list) and isinstance(known, list):
        return [fault for pair in zip(given, known, strict=True) for fault in lost(*pair, path + "[]")]
    return []


def main(versions: list[str], files: list[str]) -> int:
    found = 0
    checked: set[str] = set()
    for file in files:
        with open(file, encoding="utf-8") as stream:
            items = [item for item in yaml.load_all(stream, yaml.CSafeLoader) if item]
        for item in items:
            if (text := json.dumps(item, sort_keys=True)) in checked:
                continue
            checked.add(text)
            # A custom resource is the operator's, whatever the cluster's version.
            for version in versions[:1] if item["apiVersion"] in MODELS else versions:
                for fault in faults(item, version):
                    found += not fault.startswith("unknown")
                    print(f"{file}: {item['kind']}/{item['metadata']['name']}: {version}: {fault}")
    print("checked", *versions)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].split(","), sys.argv[2:]))
