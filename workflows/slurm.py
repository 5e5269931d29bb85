"""A submission as a batch script of SLURM: a Ray cluster inside the allocation, with a token of its own, that ends with the job.

Every kind of node is a component of one heterogeneous job. The script asks to be told two minutes before its time is up, so that the run
is left on record, and may be queued again: the same command goes on where it stopped.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from structgen.errors import ConfigError
from workflows.submission import Group, Work, shell

WARNING = 120  # seconds before the end

_START = r"""
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')  # of this cluster alone, and in no file
export RAY_AUTH_TOKEN

head=$(hostname -i)
case $head in 127.*) head=$(hostname -I) ;; esac  # some name themselves by an address that no other node can reach
head=${head%% *}
port=$((20000 + SLURM_JOB_ID % 20000))
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT

ray start --head --node-ip-address="$head" --port="$port" --num-cpus=0 --num-gpus=0 --object-store-memory=200000000 \
  --ray-client-server-port=$((port + 1)) --include-dashboard=false --temp-dir="/tmp/ray-$SLURM_JOB_ID" --block >"$logs/head.log" 2>&1 &
for _ in $(seq 300); do
  if grep -q "Ray runtime started" "$logs/head.log"; then break; fi
  if ! kill -0 $! 2>/dev/null; then cat "$logs/head.log" >&2; exit 3; fi
  sleep 1
done
"""

_RUN = r"""
for _ in $(seq 300); do  # all nodes, or those that have come by then
  if [ "$(cat "$logs"/nodes-*.log | grep -c "Ray runtime started")" -ge {nodes} ]; then break; fi
  sleep 1
done

{command} &
run=$!
trap 'kill -TERM "$run"' TERM
wait "$run" || true  # ended by the run, or by the signal
status=0
wait "$run" || status=$?
exit "$status"
"""


def script(work: Work) -> str:
    """The text for `sbatch`. Raises `ConfigError` where there are no inputs, or a line of the setup is none."""
    submission = work.submission
    if not submission.inputs:
        raise ConfigError("submit.inputs: found none; expected paths on storage that every node sees")
    if any("\n" in line for line in submission.setup):
        raise ConfigError("submit.setup: found a text of several lines; expected a list of lines")
    work.require_served()
    groups = list(submission.groups.values())
    strict = "set -eo pipefail  # not -u: modules and environments use what is not set"
    lines = ["#!/bin/bash", *_options(work, groups), "", strict, "umask 077"]
    lines += [*submission.setup, f"logs={shlex.quote(submission.out)}/slurm-$SLURM_JOB_ID", 'mkdir -p "$logs"', _START]
    lines += [_workers(number, group, alone=len(groups) == 1) for number, group in enumerate(groups)]
    words = work.command(submission.inputs, "$head:$port")
    command = shell(words).replace("'$head:$port'", '"$head:$port"')
    return "\n".join(lines) + _RUN.format(command=command, nodes=sum(group.nodes for group in groups))


def _options(work: Work, groups: Sequence[Group]) -> list[str]:
    submission = work.submission
    minutes = max(1, round(submission.hours * 60))
    every = [f"--time={minutes}", *([f"--account={submission.account}"] if submission.account else [])]
    common = [f"--job-name={submission.name}", "--output=%x-%j.log", f"--signal=B:TERM@{WARNING}", "--requeue", *every]
    lines = [f"#SBATCH {option}" for option in common]
    for number, group in enumerate(groups):
        lines += ["#SBATCH hetjob"] if number else []
        lines += [f"#SBATCH {option}" for option in _allocation(group)]
        lines += [f"#SBATCH {option}" for option in every] if number else []
    return lines


def _allocation(group: Group) -> list[str]:
    options = [f"--nodes={group.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={group.cpus}", f"--mem={group.memory}G"]
    options += [f"--gpus-per-node={_gpus(group)}"] if group.gpus else []
    options += [f"--partition={group.partition}"] if group.partition else []
    return options + ([f"--constraint={group.constraint}"] if group.constraint else [])


def _gpus(group: Group) -> str:
    return f"{group.gpu}:{group.gpus}" if group.gpu else str(group.gpus)


def _workers(number: int, group: Group, *, alone: bool) -> str:
    """One Ray node on every node of the group."""
    step = ["srun", *([] if alone else [f"--het-group={number}"]), f"--nodes={group.nodes}", f"--ntasks={group.nodes}"]
    step += ["--ntasks-per-node=1", f"--cpus-per-task={group.cpus}", *([f"--gpus-per-node={_gpus(group)}"] if group.gpus else [])]
    start = ["ray", "start", "--block", f"--num-cpus={group.cpus}", f"--num-gpus={group.gpus}"]
    start += [f"--labels={','.join(f'{name}={value}' for name, value in group.labels.items())}"] if group.labels else []
    start += [f"--resources={_json(group.custom)}"] if group.custom else []
    return f'{shell(step)} {shell(start)} --address="$head:$port" >"$logs/nodes-{number}.log" 2>&1 &'


def _json(amounts: dict[str, float]) -> str:
    return "{" + ", ".join(f'"{name}": {amount:g}' for name, amount in amounts.items()) + "}"
