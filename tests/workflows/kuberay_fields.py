"""The fields of KubeRay's RayJob (ray.io/v1, operator 1.5) and of Kubernetes that a generated manifest may use, with their types.

Written from the API's types and from what the operator's validation refuses; a leaf is a type, `[x]` a list of x, `{}` a map of texts.
"""

from __future__ import annotations

import re
from typing import Any

MAP: dict[str, Any] = {}
AMOUNTS = {"cpu": str, "memory": str, "nvidia.com/gpu": int}
CONTAINER = {
    "name": str,
    "image": str,
    "env": [{"name": str, "value": str}],
    "envFrom": [{"secretRef": {"name": str}}],
    "resources": {"requests": AMOUNTS, "limits": AMOUNTS},
    "volumeMounts": [{"name": str, "mountPath": str}],
    "securityContext": {"allowPrivilegeEscalation": bool},
}
POD = {
    "metadata": {"labels": MAP},
    "spec": {
        "containers": [CONTAINER],
        "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str}}],
        "nodeSelector": MAP,
        "tolerations": [{"key": str, "operator": str, "effect": str}],
    },
}
GROUP = {"rayStartParams": MAP, "resources": MAP, "labels": MAP, "template": POD}
RAYJOB = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "namespace": str},
    "spec": {
        "entrypoint": str,
        "runtimeEnvYAML": str,
        "submissionMode": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "rayClusterSpec": {
            "rayVersion": str,
            "authOptions": {"mode": str},
            "headGroupSpec": GROUP,
            "workerGroupSpecs": [GROUP | {"groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int}],
        },
    },
}
LABEL = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?")


def problems(value: Any, shape: Any, path: str = "") -> list[str]:
    """Every field that is not known, and every value of another type."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{path}: no list"]
        return [text for item in value for text in problems(item, shape[0], f"{path}[]")]
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [f"{path}: no mapping"]
        if not shape:
            return [f"{path}.{name}: no text" for name, text in value.items() if not isinstance(text, str) or not LABEL.fullmatch(name)]
        unknown = [f"{path}.{name}: unknown" for name in value if name not in shape]
        return unknown + [text for name in value if name in shape for text in problems(value[name], shape[name], f"{path}.{name}")]
    return [] if type(value) is shape else [f"{path}: {value!r} is no {shape.__name__}"]
