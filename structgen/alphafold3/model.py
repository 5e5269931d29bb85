"""The network as one object: trunk, denoiser, distogram and confidence; made from a configuration or read from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

from structgen.alphafold3.confidence import ConfidenceHead
from structgen.alphafold3.config import Config
from structgen.alphafold3.diffusion import DiffusionModule
from structgen.alphafold3.trunk import DistogramHead, Trunk, TrunkOutput
from structgen.errors import CheckpointError, ConfigError
from structgen.features.batch import Batch
from structgen.generative import Denoiser, Linear, Preconditioned, UnitVelocity, VarianceExploding
from structgen.io.checkpoint import read_checkpoint, write_checkpoint
from structgen.precision import Precision
from structgen.typing import Float, Tensor

WEIGHTS = Path(__file__).parent.parent / "weights"
DEFAULT_MODEL = "structgen-base"


class StructureNetwork(Protocol):
    """What moves atoms: a `Network` of the generative core that makes its own condition. SI Algorithm 20 is one."""

    def condition(self, batch: Batch, trunk: TrunkOutput) -> Any:
        """Everything that depends on neither noise level nor sample."""

    def __call__(self, r: Float[Tensor, "samples atoms 3"], times: Float[Tensor, "samples 1"], cond: Any) -> Tensor: ...


class AlphaFold3(nn.Module):
    """SI Algorithm 1 without its sampling loop: the parts that `predict.fold` and the training losses put together.

    `head` replaces SI Algorithm 20 where the configuration names another network; `structgen.heads` knows which.
    """

    def __init__(self, config: Config, head: nn.Module | None = None) -> None:
        super().__init__()
        if head is None and config.head.network != "transformer":
            raise ConfigError(f"head.network: {config.head.network!r} is not built here; take `structgen.heads.build` and `heads.load`")
        self.config = config
        self.trunk = Trunk(config)
        self.denoiser: Denoiser[Any] = _denoiser(DiffusionModule(config) if head is None else head, config)
        self.distogram = DistogramHead(config)
        self.confidence = ConfidenceHead(config)

    @property
    def diffusion(self) -> StructureNetwork:
        """The denoiser's network."""
        return cast(StructureNetwork, self.denoiser.network)

    def to_precision(self, precision: Precision) -> AlphaFold3:
        """Hold the trunk, the diffusion module and the confidence head's stack in `precision`; what makes numbers for the user of
        them, distances and logits, stays in float32."""
        dtype = getattr(torch, precision)
        for part in (self.trunk, self.denoiser, self.confidence.stack):
            part.to(dtype)
        return self


def _denoiser(network: nn.Module, config: Config) -> Denoiser[Any]:
    """Paths in angstrom: for flow matching the straight one from data to noise of the data's own width."""
    sigma_data = config.diffusion.sigma_data
    if config.head.objective == "flow":
        return Denoiser(network, Linear(scale=sigma_data), UnitVelocity(sigma_data))
    return Denoiser(network, VarianceExploding(), Preconditioned(sigma_data))


@dataclass(frozen=True)
class Model:
    """A network ready to predict, and what is written about it into every result."""

    network: AlphaFold3
    digest: str  # sha256 of the checkpoint file
    card: str  # one paragraph: what it was trained on and what it reached; empty for an unknown checkpoint
    terms: str = ""  # under which the weights and what they make may be used
    library: Path | None = None  # structures that it is run with where the user names none

    @property
    def config(self) -> Config:
        return self.network.config

    @property
    def name(self) -> str:
        return self.config.name


def list_models() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def load_model(
    name_or_path: str = DEFAULT_MODEL, *, precision: Precision = "float32", build: Callable[[Config], AlphaFold3] = AlphaFold3
) -> Model:
    """A shipped model by name, or a safetensors checkpoint by path. `heads.load` is this with every head there is for `build`.

    Raises `ConfigError` for a name that does not exist, `CheckpointError` for a file that is not a structgen checkpoint or whose
    tensors are not exactly the network's.
    """
    path = WEIGHTS / f"{name_or_path}.safetensors" if name_or_path in list_models() else Path(name_or_path)
    if not path.is_file():
        raise ConfigError(f"model {name_or_path!r} is neither a shipped model ({', '.join(list_models())}) nor a file")
    tensors, metadata, digest = read_checkpoint(path)
    with torch.device("meta"):
        network = build(Config.from_json(metadata["config"]))
    _assign(network, tensors, path)
    network.eval().requires_grad_(False).to_precision(precision)
    return Model(network, digest, metadata.get("card", ""), metadata.get("terms", ""), _library(path, metadata.get("library", "")))


def _library(path: Path, name: str) -> Path | None:
    """The library of structures that lies beside a model. Raises `CheckpointError` where the model names one that is not there."""
    if not name:
        return None
    library = path.parent / Path(name).name
    if not library.is_file():
        raise CheckpointError(f"{path}: its structure library {library.name} is not beside it; copy it there")
    return library


def save_model(
    network: AlphaFold3, path: Path, *, card: str = "", terms: str = "", library: str = "", dtype: torch.dtype = torch.float32
) -> None:
    """Write weights in `dtype`, buffers (the Fourier features) as they are, and the configuration into one safetensors file.

    `library`: name of a structure library beside the file that predictions search where the user names no templates.
    """
    parameters = dict(network.named_parameters())
    tensors = {
        name: (tensor.detach().to(dtype) if name in parameters else tensor).contiguous() for name, tensor in network.state_dict().items()
    }
    named = {"library": library} if library else {}
    write_checkpoint(path, tensors, {"config": network.config.to_json(), "card": card, "terms": terms} | named)


def _assign(network: AlphaFold3, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Put every tensor in its place: each one used exactly once, with its shape."""
    expected = network.state_dict()
    missing, surplus = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or surplus:
        raise CheckpointError(f"{path}: lacks {missing[:3]} and holds unknown {surplus[:3]} ({len(missing)} and {len(surplus)} tensors)")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(f"{path}: {name} has shape {tuple(tensor.shape)}; the configuration needs {tuple(expected[name].shape)}")
    floating = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    network.load_state_dict(floating, assign=True)
