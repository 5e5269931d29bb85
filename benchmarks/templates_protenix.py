"""Template features of the same chains of the same files by structgen and by Protenix's own package, array by array.

Run from the root of the repository, in an environment that has both (docs/fidelity.md says how to make it), with a folder of entries of
the PDB as mmCIF:

    PYTHONPATH=. peer-protenix/bin/python -m benchmarks.templates_protenix ENTRIES

Every protein chain is laid on a query of its own sequence without every seventh residue; what Protenix makes of the file by its parser,
and of the atoms by its features, is compared with ours. Printed: a row an array, in how many chains it is equal, and where it is not.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from structgen.features.templates import Templates, Used, lay
from structgen.io.structures import Polymer, read_entry
from structgen.io.textfile import read_text_bytes

CLOSE = 1e-4


def theirs(mmcif: Any, chain: str, query: str, own: list[int], other: list[int]) -> dict[str, np.ndarray]:
    """Protenix's arrays of one template: class, atoms N, CA, C, and pseudo-beta with their masks."""
    from protenix.data.template.template_featurizer import Templates as Peer
    from protenix.data.template.template_utils import TemplateFeatures, TemplateHitProcessor

    processor = TemplateHitProcessor("")
    mapping, sequence = dict(zip(own, other, strict=True)), mmcif.chain_to_seqres[chain]
    hit, _ = processor._extract_template_features(mmcif, "x", mapping, sequence, query, chain, _zero_center=False)
    hit["template_release_date"] = np.array(b"2000-01-01", dtype=object)
    fixed = TemplateFeatures.fix_template_features(TemplateFeatures.package_template_features(hit_features=[hit]), len(query))
    made = Peer(fixed["template_aatype"], fixed["template_atom_positions"], fixed["template_atom_mask"].astype(bool))
    pairs = made.as_protenix_dict()
    frame, beta = (np.diagonal(pairs[f"template_{name}_mask"][0]) > 0 for name in ("backbone_frame", "pseudo_beta"))
    positions, _ = TemplateFeatures.pseudo_beta_fn(made.aatype[0], made.atom_positions[0], made.atom_mask[0])
    return {
        "restype": made.aatype[0],
        "frame_mask": frame,
        "frame": made.atom_positions[0, :, :3] * frame[:, None, None],
        "pseudo_beta_mask": beta,
        "pseudo_beta": positions * beta[:, None],
    }


def chains(path: Path) -> Iterator[tuple[str, Polymer, Any]]:
    """The protein chains of a file with what Protenix's parser makes of it."""
    from protenix.data.template.template_parser import TemplateParser

    data = read_text_bytes(path)
    parsed = TemplateParser.parse(file_id="x", mmcif_string=data.decode()).mmcif_object
    for polymer in read_entry(data, str(path)).proteins:
        if len(polymer.sequence) >= 5 and parsed is not None:
            yield f"{path.name.partition('.')[0]} {polymer.name}", polymer, parsed


def ours(polymer: Polymer, query: str, own: list[int], other: list[int]) -> Templates:
    return lay(polymer.backbone(), query, own, other, Used("x", polymer.name, "", "", 0, 0.0, 0.0))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("entries", type=Path)
    differences: dict[str, list[str]] = {}
    compared: list[str] = []
    for path in sorted(arguments.parse_args().entries.glob("*.cif.gz")):
        for name, polymer, parsed in chains(path):
            other = [k for k in range(len(polymer.sequence)) if k % 7]
            query, own = "".join(polymer.sequence[k] for k in other), list(range(len(other)))
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    peer = theirs(parsed, polymer.name, query, own, other)
            except Exception as error:
                print(f"{name}: refused by Protenix: {type(error).__name__}: {error}")
                continue
            compared.append(name)
            mine = ours(polymer, query, own, other)
            for array, value in peer.items():
                wrong = np.abs(getattr(mine, array)[0].astype(float) - value.astype(float)).reshape(len(query), -1).max(1) > CLOSE
                places = [other[k] + 1 for k in np.flatnonzero(wrong)]
                names = sorted({polymer.names[k - 1] for k in places})
                differences.setdefault(array, []).extend([f"{name}: {len(places)} ({', '.join(names)})"] if places else [])
    for array, found in differences.items():
        print(f"| {array} | equal in {len(compared) - len(found)} of {len(compared)} | {'; '.join(found)} |")


if __name__ == "__main__":
    main()
