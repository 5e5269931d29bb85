"""`structgen submit`: predictions on clusters that are elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from structgen.errors import ConfigError
from workflows.options import console, exit_status

AddressOption = Annotated[str, typer.Option(metavar="http://HOST:8265", envvar="RAY_API_SERVER_ADDRESS", help="Dashboard of the head.")]


def submit(
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="[CONFIG|INPUT...]", help="Inputs, or one YAML file with a `submit` section.")
    ] = None,
    address: AddressOption = "",
    config: Annotated[Path | None, typer.Option(metavar="YAML", help="Settings of the prediction and the `submit` section.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, also submit.name=x.")] = None,
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the results, on storage that every node sees.")] = "",
    store: Annotated[str, typer.Option(metavar="DIR|s3://BUCKET/PREFIX", help="Where artifacts are kept, as every node sees it.")] = "",
    in_place: Annotated[bool, typer.Option("--in-place", help="The inputs are on storage that the cluster sees.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow the job.")] = False,
    logs: Annotated[str, typer.Option(metavar="ID", help="Follow a job that was submitted.")] = "",
    cancel: Annotated[str, typer.Option(metavar="ID", help="End a job that was submitted.")] = "",
    kuberay: Annotated[Path | None, typer.Option(metavar="OUT.yaml", help="Write a RayJob for KubeRay instead.")] = None,
    slurm: Annotated[Path | None, typer.Option(metavar="OUT.sh", help="Write a batch script for SLURM instead.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Submit to a cluster that asks for no token.")] = False,
) -> None:
    """Run a prediction on a Ray cluster, by its job API; or write what KubeRay or SLURM need for it."""
    with exit_status():
        if logs or cancel:
            raise typer.Exit(_look_after(address, logs=logs, cancel=cancel, insecure=insecure))
        work, files = _work(tuple(inputs or ()), config, set_ or [], out=out, store=store, written=bool(kuberay or slurm))
        if kuberay or slurm:
            _write(work, kuberay, slurm)
            raise typer.Exit(0)
        jobs = _jobs(address, insecure)
        job = jobs.submit(work, files, in_place=in_place, console=console())
        raise typer.Exit(0 if detach else jobs.follow(job, console()))


def _look_after(address: str, *, logs: str, cancel: str, insecure: bool) -> int:
    jobs = _jobs(address, insecure)
    return jobs.cancel(cancel, console()) if cancel else jobs.follow(logs, console())


def _jobs(address: str, insecure: bool) -> Any:
    """The job API, once it is certain that nobody else can use it. Ray is imported after it knows about tokens."""
    from workflows import authentication

    authentication.require_token(address, insecure=insecure)
    from workflows.submit import Jobs

    return Jobs(address.rstrip("/"))


def _work(
    inputs: tuple[Path, ...], config: Path | None, assignments: list[str], *, out: str, store: str, written: bool
) -> tuple[Any, tuple[Path, ...]]:
    """What is asked for, and the inputs that are here. Those that are written down are paths of the cluster."""
    from structgen.settings import merge, parse_assignments, read_yaml
    from workflows.submission import read_work, stem

    if config is None and len(inputs) == 1 and _is_config(inputs[0]):
        config, inputs = inputs[0], ()
    choices = merge(read_yaml(config) if config else {}, parse_assignments(assignments))
    named = (choices.get("submit") or {}).get("name") if isinstance(choices.get("submit"), dict) else None
    given: dict[str, Any] = {"name": "" if named else stem(inputs), "out": out, "store": store}
    given |= {"inputs": [str(path.absolute()) for path in inputs]} if written and inputs else {}
    return read_work(choices, **given), inputs


def _is_config(path: Path) -> bool:
    from structgen.settings import read_yaml

    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    try:
        return "submit" in read_yaml(path)
    except ConfigError:
        return False


def _write(work: Any, kuberay: Path | None, slurm: Path | None) -> None:
    from structgen.store import replace_file
    from workflows.kuberay import rayjob
    from workflows.slurm import script

    for path, make, then in ((kuberay, rayjob, "kubectl apply -f"), (slurm, script, "sbatch")):
        if path is not None:
            replace_file(path, make(work).encode())
            console().print(f"{path}: {then} {path}", markup=False, highlight=False, soft_wrap=True)
