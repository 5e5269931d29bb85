"""The bytes of artifacts: templates, features and predictions as safetensors. Equal values give equal bytes; nothing is unpickled."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

from structgen.features.batch import Batch
from structgen.features.templates import Templates, Used
from structgen.prediction import Prediction, Summary

_SCORES = [f.name for f in dataclasses.fields(Summary)]
_ARRAYS = [f.name for f in dataclasses.fields(Prediction) if f.name not in ("seed", "sample", "summary")]


def batch_to_bytes(batch: Batch) -> bytes:
    """Features as one safetensors file without metadata; classes of an alphabet take one byte a residue instead of eight."""
    return safetensors.torch.save(
        {name: _narrow(tensor).clone(memory_format=torch.contiguous_format) for name, tensor in batch.tensors().items()}
    )


def batch_from_bytes(content: bytes) -> Batch:
    """Inverse of `batch_to_bytes`."""
    return Batch(**{name: _wide(tensor) for name, tensor in safetensors.torch.load(content).items()})


def templates_to_bytes(templates: Templates) -> bytes:
    """The templates of a chain as one safetensors file; what they are is JSON among the arrays."""
    arrays = {f.name: getattr(templates, f.name) for f in dataclasses.fields(Templates) if f.name != "used"}
    used = json.dumps([dataclasses.asdict(one) for one in templates.used], sort_keys=True).encode()
    return safetensors.numpy.save(arrays | {"used": np.frombuffer(used, np.uint8)})


def templates_from_bytes(content: bytes) -> Templates:
    """Inverse of `templates_to_bytes`."""
    arrays = safetensors.numpy.load(content)
    used = json.loads(arrays.pop("used").tobytes())
    return Templates(**arrays, used=tuple(Used(**one) for one in used))


def predictions_to_bytes(predictions: Sequence[Prediction]) -> bytes:
    """The samples of a job as one safetensors file: every field of `Prediction` and `Summary` with a leading dimension of samples."""
    numbers = {name: np.array([getattr(p, name) for p in predictions], np.int64) for name in ("seed", "sample")}
    arrays = {name: np.stack([getattr(p, name) for p in predictions]) for name in _ARRAYS}
    scores = {f"summary.{name}": np.stack([np.asarray(getattr(p.summary, name)) for p in predictions]) for name in _SCORES}
    return safetensors.numpy.save(numbers | arrays | scores)


def predictions_from_bytes(content: bytes) -> list[Prediction]:
    """Inverse of `predictions_to_bytes`."""
    values = safetensors.numpy.load(content)
    return [_prediction(values, k) for k in range(len(values["seed"]))]


def _prediction(values: dict[str, np.ndarray], k: int) -> Prediction:
    summary = Summary(**{name: _plain(values[f"summary.{name}"][k]) for name in _SCORES})
    arrays = {name: values[name][k] for name in _ARRAYS}
    return Prediction(seed=int(values["seed"][k]), sample=int(values["sample"][k]), summary=summary, **arrays)


def _plain(value: Any) -> Any:
    """A Python number for a score that is one."""
    return value if isinstance(value, np.ndarray) else value.item()


def _narrow(tensor: torch.Tensor) -> torch.Tensor:
    fits = tensor.dtype == torch.int64 and (not tensor.numel() or (int(tensor.min()) >= 0 and int(tensor.max()) < 256))
    return tensor.to(torch.uint8) if fits else tensor


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.int64) if tensor.dtype == torch.uint8 else tensor
