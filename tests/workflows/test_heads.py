"""The four pairs of head and objective: does each learn at all?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.heads import PAIRS, judged, run_of, trained
from structgen.io.structures import read_entry
from structgen.io.textfile import read_text_bytes
from tests.archive import Made, write_archive
from tests.workflows.conftest import REPOSITORY

FILE = REPOSITORY / "data" / "examples" / "structures" / "6lu7.cif.gz"
LENGTH, APART = 20, 36  # residues of a piece, and from the start of one to the next


def pieces(folder: Path) -> Path:
    """Eight stretches of a protease as chains of their own, backbones alone."""
    whole = read_entry(read_text_bytes(FILE), FILE.name).proteins[0].backbone()
    parts = [slice(start, start + LENGTH) for start in range(0, 8 * APART, APART)]
    assert all(whole.frame_mask[part].all() for part in parts)
    made = [Made(f"piece{k}_A", whole.sequence[part], tier="bb", backbone=whole.frame[part]) for k, part in enumerate(parts)]
    return write_archive(folder, made, np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.timeout(4800)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_pair_learns_eight_chains_by_heart(pair: tuple[str, str], tmp_path: Path, one_thread: None) -> None:
    """`configs/train_heads.yaml` with either network and either objective: samples of each of eight chains have an lDDT-CA above 0.95."""
    run = run_of(pair, pieces(tmp_path / "chains"))
    step, _ = trained(run, tmp_path / "run", 40.0)
    scores = judged(run, tmp_path / "run" / "model.safetensors", 3)
    assert step > 100 and len(scores) == 24
    assert float(np.array([one.lddt for one in scores]).reshape(8, 3).mean(1).min()) > 0.95
