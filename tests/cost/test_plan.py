"""Plans of runs: what fits, with how many samples at once, and what is said of the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from structgen import predict
from structgen.alphafold3.config import Sampling, small, tiny
from structgen.alphafold3.model import AlphaFold3, Model
from structgen.cost import calibration
from structgen.cost.calibration import Calibration, Subject, calibrated, load, save
from structgen.cost.counts import PHASES, memory, operations
from structgen.cost.fit import value
from structgen.cost.measured import Measurement, Phase, made_job
from structgen.cost.plan import GUESS, Planner, plan_all
from structgen.cost.work import Work
from structgen.errors import ConfigError
from structgen.features.atoms import build_atoms
from structgen.features.featurise import featurise
from structgen.features.job import Chain, Job, Kind
from structgen.features.tokens import tokenise
from structgen.search.given import find_alignments
from structgen.settings import Settings

HERE = Subject("a machine", "cpu", "d" * 64, "float32", 1)
SETTINGS = Settings("m", Sampling(cycles=1, samples=8, steps=20), seeds=(1, 2))


def planner(memory: float = 0.0) -> Planner:
    return Planner(SETTINGS, small(), calibration.reference(), weights=20.0, memory=memory)


def test_calibration_finds_the_coefficients_that_made_its_measurements(tmp_path: Path):
    """Folds made up of known coefficients give these estimates again, also from the file; another model or machine gets the reference."""
    true = calibration.reference()
    sizes_of = [(32, 1, 5, 1), (64, 9, 2, 1), (96, 50, 5, 2), (200, 8, 1, 1), (300, 2, 3, 1)]
    works = [Work(n, 8 * n + rows, rows, 0, samples, 10, cycles) for n, rows, samples, cycles in sizes_of]
    times, sizes = [operations(small(), w) for w in works], [memory(small(), w, "float32") for w in works]
    measured = [
        Measurement(
            w,
            {phase: Phase(value(true.seconds[phase], t[phase]), 9.0, value(true.mib[phase], m[phase])) for phase in PHASES},
            resident=350.0,
            weights=20.0,
            featurise=Phase(0.01),
        )
        for w, t, m in zip(works, times, sizes, strict=True)
    ]
    assert [Measurement.from_json(json.loads(json.dumps(m.to_json()))) for m in measured] == measured
    found = calibrated(HERE, small(), measured)
    new = Work(150, 1250, 20, 0, 4, 30, 1)
    for phase in PHASES:
        assert found.estimate(small(), new, 20.0).phases[phase] == pytest.approx(true.estimate(small(), new, 20.0).phases[phase], rel=0.02)
    assert found.resident == 330.0 and found.measured
    save(found, tmp_path)
    assert load(HERE, tmp_path) == found
    for other in (replace(HERE, threads=2), replace(HERE, model="e"), replace(HERE, machine="b"), replace(HERE, precision="bfloat16")):
        elsewhere = load(other, tmp_path)
        assert not elsewhere.measured and elsewhere.seconds == true.seconds and elsewhere.subject == other


def test_damaged_calibration_is_named(tmp_path: Path):
    (tmp_path / f"{HERE.key}.json").write_text('{"schema": 9}')
    with pytest.raises(ConfigError, match=r"is not a calibration .*structgen calibrate"):
        load(HERE, tmp_path)


def test_job_that_does_not_fit_takes_fewer_samples_at_once_or_is_refused_with_the_numbers():
    """All at once where memory allows, else the most that fit, else an error that says what was needed and what is there."""
    job = replace(made_job(700, Kind.PROTEIN), source="jobs.fasta: record 3")
    whole = planner().plan(job)
    assert whole.refused is None and whole.work.at_once == 0 and whole.seeds == 2
    assert whole.seconds == pytest.approx(whole.featurise + 2 * whole.estimate.seconds)
    peaks = {n: calibration.reference().estimate(small(), whole.work.in_parts(n), 20.0).peak for n in (8, 4, 2, 1)}
    assert peaks[8] == whole.estimate.peak >= peaks[4] >= peaks[1]
    assert planner(peaks[1] - 1).plan(job).refused is None  # a guess alone does not refuse what nearly fits
    refused = planner(peaks[1] / GUESS - 1).plan(job).refused
    assert refused is not None
    numbers = f"about {peaks[1]:,.0f} MiB", f"at most {peaks[1] / GUESS - 1:,.0f} MiB"
    for part in ("record 3", "700 tokens", *numbers, "not calibrated here", "--memory"):
        assert part in str(refused)


def test_plan_chooses_the_most_samples_that_fit():
    """With coefficients by which only samples take memory, a limit between two sizes gives the smaller one."""
    mib = {phase: {"process": 1.0} for phase in PHASES} | {"steps": {"tokens": 1000.0}}
    reference = calibration.reference()
    by = Planner(SETTINGS, small(), Calibration(HERE, reference.seconds, mib, reference.featurise, 0.0, True), weights=0.0)
    peaks = {n: by.calibration.estimate(small(), by.plan(made_job(64, Kind.PROTEIN)).work.in_parts(n), 0.0).peak for n in (8, 4, 2, 1)}
    chosen = {n: replace(by, memory=peak + 1e-6).plan(made_job(64, Kind.PROTEIN)).work.together for n, peak in peaks.items()}
    assert chosen == {8: 8, 4: 4, 2: 2, 1: 1}


def test_rows_come_from_files_without_reading_them_and_else_from_the_limits(tmp_path: Path):
    """A given alignment counts its records, a chain to be searched the most rows that are taken, any other chain one."""
    sequence = made_job(30, Kind.PROTEIN).chains[0].sequence
    (tmp_path / "a.a3m").write_text(f">q\n{sequence}\n" + f">h\n{sequence}\n" * 6)
    (tmp_path / "b.sto").write_text(f"# STOCKHOLM 1.0\nq {sequence}\nh1 {sequence}\nh2 {sequence}\n//\n")
    job = made_job(30, Kind.PROTEIN)
    assert planner().rows(job) == 1
    assert replace(planner(), given=find_alignments(tmp_path / "a.a3m")).rows(job) == 7
    assert replace(planner(), given=find_alignments(tmp_path / "b.sto")).rows(job) == 3
    searched = replace(planner(), settings=replace(SETTINGS, seqdb=("db.fasta",)))
    assert searched.rows(job) == SETTINGS.alignment.rows
    assert searched.rows(Job("r", "r", (Chain("A", Kind.RNA, "ACGU"),))) == 1


def test_bad_job_is_an_error_of_its_own():
    bad = Job("bad", "bad", (Chain("A", Kind.LIGAND, residues=("NOSUCH",)),), source="x.json")
    planned, errors = plan_all(planner(), [made_job(20, Kind.PROTEIN), bad])
    assert [one.job.slug for one in planned] == ["calibration"] and len(errors) == 1


def test_samples_in_parts_are_the_samples_of_one_batch():
    """Denoised two at a time, five samples are those denoised together, to rounding; every step is reported once."""
    network = AlphaFold3(tiny()).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    tokens = tokenise(build_atoms(made_job(12, Kind.PROTEIN)))
    batch, sampling, steps = featurise(tokens, [None]), Sampling(cycles=1, samples=5, steps=3), list[tuple[int, int]]()
    whole = predict.fold(tokens, batch, Model(network, "d", ""), sampling, 1)
    parts = predict.fold(tokens, batch, Model(network, "d", ""), sampling, 1, at_once=2, on_step=lambda a, b: steps.append((a, b)))
    assert steps == [(n, 9) for n in range(1, 10)]
    for one, other in zip(whole, parts, strict=True):
        assert (one.seed, one.sample) == (other.seed, other.sample)
        assert abs(one.positions - other.positions).max() < 1e-3
