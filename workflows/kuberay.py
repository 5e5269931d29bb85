"""A submission as a RayJob of KubeRay 1.5 or newer (ray.io/v1): a cluster of its own that ends with the job.

Kubernetes keeps the token: with `authOptions` the operator makes one for the cluster, and no pod takes work without it.
"""

from __future__ import annotations

from typing import Any

import yaml

from structgen.errors import ConfigError
from workflows.submission import Group, Work, shell

RAY = "2.60.0"  # of the image
GPU = "nvidia.com/gpu"
KEPT = 600  # seconds that a cluster stays after its job, to be looked at


def rayjob(work: Work) -> str:
    """The YAML for `kubectl apply -f`. Raises `ConfigError` where there is no image or no shared storage."""
    submission = work.submission
    if not submission.image:
        raise ConfigError("submit.image: found none; expected a container image with structgen (see docs/cluster.md)")
    if not submission.inputs:
        raise ConfigError("submit.inputs: found none; expected paths on a volume of the cluster")
    if not any(submission.out.startswith(path.rstrip("/") + "/") for path in submission.volumes.values()):
        raise ConfigError(f"submit.out: found {submission.out!r}; expected a folder on one of submit.volumes, which every pod sees")
    work.require_served()
    spec: dict[str, Any] = {
        "entrypoint": shell(work.command(submission.inputs, "auto")),
        "submissionMode": "K8sJobMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEPT,
        "activeDeadlineSeconds": round(submission.hours * 3600),
        "backoffLimit": submission.retries,
        "rayClusterSpec": _cluster(work),
    }
    if submission.runtime_env:
        spec["runtimeEnvYAML"] = yaml.safe_dump(submission.runtime_env, sort_keys=True)
    metadata = {"name": submission.name} | ({"namespace": submission.namespace} if submission.namespace else {})
    document = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}
    return yaml.safe_dump(document, sort_keys=False, width=1000)


def _cluster(work: Work) -> dict[str, Any]:
    head = work.submission.head
    return {
        "rayVersion": RAY,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {},
            "resources": {"CPU": "0"},  # it holds the cluster together, and the driver
            **({"labels": head.labels} if head.labels else {}),
            "template": _pod(work, "ray-head", head),
        },
        "workerGroupSpecs": [_workers(work, name, group) for name, group in work.submission.groups.items()],
    }


def _workers(work: Work, name: str, group: Group) -> dict[str, Any]:
    amounts = {"CPU": group.cpus, "GPU": group.gpus, **group.custom}
    return {
        "groupName": name,
        "replicas": group.nodes,
        "minReplicas": group.nodes,
        "maxReplicas": group.nodes,
        "rayStartParams": {},
        "resources": {resource: f"{amount:g}" for resource, amount in amounts.items() if amount},
        **({"labels": group.labels} if group.labels else {}),
        "template": _pod(work, "ray-worker", group),
    }


def _pod(work: Work, container: str, group: Group) -> dict[str, Any]:
    submission = work.submission
    amounts: dict[str, Any] = {"cpu": str(group.cpus), "memory": f"{group.memory}Gi"} | ({GPU: group.gpus} if group.gpus else {})
    main: dict[str, Any] = {
        "name": container,
        "image": submission.image,
        "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "volumeMounts": [{"name": claim, "mountPath": path} for claim, path in submission.volumes.items()],
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    if submission.secrets:
        main["envFrom"] = [{"secretRef": {"name": name}} for name in submission.secrets]
    pod: dict[str, Any] = {
        "containers": [main],
        "volumes": [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in submission.volumes],
    }
    if group.node_selector:
        pod["nodeSelector"] = group.node_selector
    if group.gpus:
        pod["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    return {"spec": pod}
