"""The folds of a run before it begins: what each will take, how many samples are denoised at once, and which do not fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from structgen.alphafold3.config import Config
from structgen.cost.calibration import Calibration, Estimate
from structgen.cost.counts import MIB
from structgen.cost.measured import status_mib
from structgen.cost.work import Work, smaller_parts, work_of
from structgen.errors import InputError
from structgen.features.atoms import build_atoms
from structgen.features.job import Job, Kind
from structgen.features.tokens import tokenise
from structgen.io.textfile import read_text_bytes
from structgen.search.given import GivenAlignments, own_alignment
from structgen.settings import Settings

GUESS = 1.5  # an estimate that was not calibrated refuses a job only where it is that much above the memory that is there


@dataclass(frozen=True)
class Planned:
    """One job of a run: each of its seeds is a fold of this work."""

    job: Job
    work: Work
    estimate: Estimate
    featurise: float  # seconds
    seeds: int
    refused: InputError | None = None  # why it cannot run here

    @property
    def seconds(self) -> float:
        """Of all its seeds."""
        return self.featurise + self.seeds * self.estimate.seconds


@dataclass(frozen=True)
class Planner:
    """What the estimates of a run rest on. `weights` and `memory` are in MiB; `memory` 0 leaves nothing out."""

    settings: Settings
    config: Config
    calibration: Calibration
    weights: float
    memory: float = 0.0
    given: GivenAlignments | None = None

    def plan(self, job: Job) -> Planned:
        """The job with all samples at once if it fits so, else with as many as fit, else refused. Raises `InputError` for a bad job."""
        work = work_of(tokenise(build_atoms(job)), self.settings.sampling, rows=self.rows(job), templates=self._templates(job))
        seeds = len(job.seeds or self.settings.seeds)
        featurise = self.calibration.featurising(work)
        tried = [(replace(work, at_once=n if n < work.samples else 0), n) for n in smaller_parts(work.samples)]
        planned = [Planned(job, part, self._estimate(part), featurise, seeds) for part, _ in tried]
        limit = self.memory if self.calibration.measured else GUESS * self.memory
        fitting = next((one for one in planned if not limit or one.estimate.peak <= limit), None)
        return fitting or replace(planned[-1], refused=self._refusal(planned[-1]))

    @property
    def searches(self) -> bool:
        """Whether the alignments of proteins that came with none are yet to be found."""
        settings = self.settings
        return bool(settings.seqdb or settings.mmseqs_db or settings.msa_server or settings.evidence)

    def rows(self, job: Job) -> int:
        """Rows of the job's alignment, or the most there can be where it has yet to be searched."""
        most = max((self._rows_of(job, index) for index in range(len(job.chains))), default=1)
        return min(most, self.settings.alignment.rows)

    def _rows_of(self, job: Job, index: int) -> int:
        chain = job.chains[index]
        if chain.msa is not None:
            own = own_alignment(chain)
            return len(own.rows) if own else 1
        if chain.kind is not Kind.PROTEIN:
            return 1
        files = self.given.files_of(chain.sequence) if self.given else ()
        if files:
            return sum(_records(file) for file in files)
        return self.settings.alignment.rows if self.searches else 1

    def _templates(self, job: Job) -> int:
        searched = self.settings.template_search.used if self.settings.structures else 0
        return max((len(chain.templates or ()) or searched for chain in job.chains), default=0)

    def _estimate(self, work: Work) -> Estimate:
        return self.calibration.estimate(self.config, work, self.weights)

    def _refusal(self, planned: Planned) -> InputError:
        work, rest = planned.work, "" if self.calibration.measured else " (not calibrated here: `structgen calibrate` makes it exact)"
        found = f"about {planned.estimate.peak:,.0f} MiB for {work.tokens:,} tokens, {work.rows:,} rows, one sample at once{rest}"
        remedy = "predict fewer chains or domains, use a machine with more memory, or give another limit with --memory"
        expected = f"at most {self.memory:,.0f} MiB"
        return InputError("job does not fit the memory", where=planned.job.source, found=found, expected=expected, remedy=remedy)


def plan_all(planner: Planner, jobs: Sequence[Job]) -> tuple[list[Planned], list[InputError]]:
    """Every job that can be planned, and the errors of the others."""
    planned, errors = [], []
    for job in jobs:
        try:
            planned.append(planner.plan(job))
        except InputError as error:
            errors.append(error)
    return planned, errors


def memory_here() -> float:
    """MiB that this process may have in all: what it has, and what the machine or its control group has left. 0 where neither says."""
    free = [amount for amount in (_meminfo(), _control_group()) if amount > 0]
    return min(free) + status_mib("VmRSS") if free else 0.0


def _records(file: Path) -> int:
    """Rows of an alignment file, counted without reading them."""
    lines = read_text_bytes(file).splitlines()
    if headers := sum(line.startswith(b">") for line in lines):
        return headers
    return len({line.split()[0] for line in lines if line.strip() and not line.startswith((b"#", b"//"))})  # Stockholm


def _meminfo(path: Path = Path("/proc/meminfo")) -> float:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / MIB
    return next((int(line.split()[1]) * 1024 / MIB for line in lines if line.startswith("MemAvailable:")), 0.0)


def _control_group(root: Path = Path("/sys/fs/cgroup")) -> float:
    """What the group's limit leaves; files that the kernel keeps in memory only while nobody needs it do not count as used."""
    try:
        limit, used = (int((root / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (root / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # no limit ("max"), or no such file
        return 0.0
    return max(1.0, (limit - used + int(stat.get("inactive_file", 0))) / MIB)
