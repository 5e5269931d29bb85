"""Training without a sequence: the network of structure prediction learns what backbones there are.

Every chain is shown as glycines without evidence, so what is left of the input is a length. Residues keep N, CA, C and O, the atoms that a
glycine has. The same trunk, head, loss and sampler serve: a trained model draws backbones (`structgen sample backbone`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from structgen.alphafold3.training import LossTerms
from structgen.features.chains import ChainRecord
from structgen.features.examples import Crops
from structgen.tasks.crops import HeldOut, Selection
from structgen.tasks.structure import StructureTask, StructureTraining
from structgen.tasks.task import Context

HIDDEN = "G"
ATOMS = 4  # N, CA, C, O


@dataclass(frozen=True)
class BackboneTraining:
    """What `task:` of `kind: backbone` holds: that of `kind: structure`, whose chains lose their sequences."""

    preset: Literal["small", "tiny", "af3", ""] = ""
    model: dict = field(default_factory=dict)
    chains: Selection = field(default_factory=Selection)
    crops: Crops = field(default_factory=Crops)
    loss: LossTerms = field(default_factory=LossTerms)
    held_out: HeldOut = field(default_factory=HeldOut)

    def build(self, context: Context) -> StructureTask:
        return StructureTask(StructureTraining(**vars(self)), context, shown=hidden)


def hidden(record: ChainRecord) -> ChainRecord:
    """The backbone alone, as glycines."""
    mask = record.mask.copy()
    mask[:, ATOMS:] = False
    return replace(record, sequence=HIDDEN * len(record.sequence), mask=mask, profile=None)
