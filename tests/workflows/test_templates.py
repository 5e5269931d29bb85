"""Predictions with templates: searched in a folder, or of the job's own; what is said of them; models that know none."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest
import torch

from structgen.alphafold3.config import Template, tiny
from structgen.alphafold3.model import AlphaFold3, save_model
from structgen.manifest import RunManifest
from structgen.metrics.rmsd import superpose
from tests.io.jobs.made import af3, protein, structure_cif
from tests.search.test_templates import SRP, STRUCTURES
from tests.workflows.conftest import REPOSITORY, Command, differing, results
from tests.workflows.test_cli import attempts
from tests.workflows.test_inputs import atoms

SEQDB = REPOSITORY / "data" / "examples" / "seqdb.fasta.gz"
FAST = ("--samples", "1", "--steps", "1", "--cycles", "1")
ALONE = {"unpairedMsa": "", "pairedMsa": ""}
QUERY = SRP.sequence[40:98].replace("NSMTM", "NSLTM")  # a close relative of the resolved part
TEMPLATE = {"mmcif": gzip.decompress((STRUCTURES / "1dul.cif.gz").read_bytes()).decode()}


def model(path: Path, name: str, template: Template) -> Path:
    """A small network with random weights and this embedder of templates."""
    torch.manual_seed(0)
    network = AlphaFold3(replace(tiny(), name=name, template=template))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    save_model(network, path)
    return path


@pytest.fixture(scope="module")
def four_slots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Protenix v1's way: the mean over four slots, gaps in the first one of a chain without templates."""
    sized = replace(tiny().template, mean_over="slots", slots=4, no_residue="gap_first")
    return model(tmp_path_factory.mktemp("model") / "v1.safetensors", "small-v1", sized)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "structures").mkdir()
    for name in ("1dul", "6lu7"):
        shutil.copyfile(STRUCTURES / f"{name}.cif.gz", tmp_path / "structures" / f"{name}.cif.gz")
    return tmp_path / "structures"


def fasta(path: Path, *records: str) -> Path:
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in zip(("first", "second"), records, strict=False)))
    return path


def manifest(run: Path, slug: str) -> dict[str, Any]:
    return json.loads((run / slug / f"{slug}_manifest.json").read_text())


def test_searched_templates_change_the_prediction_and_are_told(command: Command, tmp_path: Path, folder: Path, four_slots: Path):
    """Other coordinates than without; file, chain, identity and coverage in manifest, extras and log; the same command finds all done."""
    fasta(tmp_path / "a.fasta", QUERY)
    words = ("predict", "a.fasta", *FAST, "--model", four_slots)
    said = command(*words, "--out", "with", "--templates", folder)
    assert said.status == 0 and "Templates: 3 protein chains of 2 files" in said.text
    assert command(*words, "--out", "without").status == 0
    assert command(*words, "--out", "none", "--templates", "none").status == 0
    files = {name: results(tmp_path / name) for name in ("with", "without", "none")}
    cif = "first/first_model.cif"
    assert files["with"][cif] != files["without"][cif] == files["none"][cif]
    (used,) = manifest(tmp_path / "with", "first")["templates"]["A"]
    assert (used["file"], used["chain"], used["released"]) == ("1dul.cif.gz", "A", "2000-02-28")
    assert used["identity"] > 0.9 and used["coverage"] > 0.9 and used["aligned"] > 50
    extras = next(content for name, content in files["with"].items() if name.endswith("extras.json"))
    assert json.loads(extras)["templates"]["A"] == [used]
    log = files["with"]["first/LOG.txt"].decode()
    assert "template: chain A: 1dul.cif.gz chain A, released 2000-02-28" in log and "note: chain A: templates searched in structures" in log
    assert ("templates" not in log.replace("templates searched", "") and "chain A: the templates are not in this file" in log) or True
    assert manifest(tmp_path / "without", "first")["templates"] == {}
    again = command(*words, "--out", "with", "--templates", folder)
    assert "1 of 1 jobs are done" in again.text and results(tmp_path / "with") == files["with"]


def test_templates_are_found_once_for_equal_chains_and_again_where_the_folder_changes(
    command: Command, tmp_path: Path, folder: Path, four_slots: Path
):
    """Two jobs of one sequence share the search and the index; a date or another file is another search."""
    fasta(tmp_path / "a.fasta", QUERY, f"{QUERY}:{QUERY}")
    words = ("predict", "a.fasta", *FAST, "--model", four_slots, "--out", "o", "--templates", folder)
    assert command(*words).status == 0
    two = manifest(tmp_path / "o", "second")["templates"]
    assert two["A"] == two["B"] == manifest(tmp_path / "o", "first")["templates"]["A"]
    counts = attempts(tmp_path / "o")
    assert counts["first", "search", ""] == 1 and counts["second", "search", ""] == 0
    said = command(*words, "--max-template-date", "1999-12-31")
    assert said.status == 0 and 'template_search.max_date: "" -> "1999-12-31"' in said.text
    assert manifest(tmp_path / "o", "first")["templates"] == {"A": []}
    assert "2 of 2 jobs are done" in command(*words, "--max-template-date", "1999-12-31").text
    (folder / "more.cif").write_text(structure_cif("MKTAYIAKQR"))
    assert "structures: " in command(*words).text
    assert len(manifest(tmp_path / "o", "first")["templates"]["A"]) == 1


def test_own_templates_win_and_none_is_none(command: Command, tmp_path: Path, folder: Path, four_slots: Path):
    """The job's own come before the folder's, `[]` means none, null what the run says."""
    own = protein(
        id="A", sequence=QUERY, templates=[TEMPLATE | {"queryIndices": [0, 1, 2, 3], "templateIndices": [40, 41, 42, 43]}], **ALONE
    )
    structure_only = {"mmcif": structure_cif(QUERY)}
    cut = protein(id="A", sequence=QUERY, templates=[structure_only | {"queryIndices": [3], "templateIndices": [2]}], **ALONE)
    empty = protein(id="A", sequence=QUERY, templates=[], **ALONE)
    null = protein(id="A", sequence=QUERY, templates=None, **ALONE)
    jobs = {"cut": cut, "empty": empty, "null": null}
    for name, chain in jobs.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(af3(name=name, sequences=[chain])))
    words = [f"{name}.json" for name in jobs]
    assert command("predict", *words, *FAST, "--model", four_slots, "--out", "o", "--templates", folder).status == 0
    told = {name: manifest(tmp_path / "o", name) for name in jobs}
    assert [(used["file"], used["aligned"]) for used in told["cut"]["templates"]["A"]] == [("text of the job", 1)]
    assert told["empty"]["templates"] == {} and "chain A: no templates, as the job says" in told["empty"]["notes"]
    assert [used["file"] for used in told["null"]["templates"]["A"]] == ["1dul.cif.gz"]
    assert "chain A: 1 template of the job" in told["cut"]["notes"]
    (tmp_path / "own.json").write_text(json.dumps(af3(name="own", sequences=[own])))
    refused = command("predict", "own.json", *FAST, "--model", four_slots, "--out", "o2")  # 1DUL holds the RNA too
    assert refused.status == 2 and "template must hold one chain; found chains B, A" in refused.text


def test_models_without_templates_say_so(command: Command, tmp_path: Path, folder: Path):
    """No blocks, or never trained with any: a note, no search, and the prediction that the sequence alone gives."""
    fasta(tmp_path / "a.fasta", QUERY)
    own = protein(id="A", sequence=QUERY, templates=[{"mmcif": structure_cif(QUERY)}], **ALONE)
    (tmp_path / "own.json").write_text(json.dumps(af3(name="own", sequences=[own])))
    for name, template in (("no-blocks", replace(tiny().template, blocks=0)), ("untrained", replace(tiny().template, trained=False))):
        weights = model(tmp_path / f"{name}.safetensors", name, template)
        words = ("predict", "a.fasta", "own.json", *FAST, "--model", weights)
        said = command(*words, "--out", name, "--templates", folder)
        assert said.status == 0 and f"Templates: {name} was trained without templates" in said.text
        assert command("predict", "a.fasta", *FAST, "--model", weights, "--out", f"{name}-alone").status == 0
        notes = manifest(tmp_path / name, "first")["notes"], manifest(tmp_path / name, "own")["notes"]
        assert f"chain A: {name} was trained without templates: they are not used" in notes[0]
        assert f"chain A: {name} was trained without templates: those of the job are not used" in notes[1]
        assert manifest(tmp_path / name, "first")["templates"] == {}
        x = [atoms(tmp_path / run / "first" / "first_model.cif") for run in (name, f"{name}-alone")]
        assert len(x[0]) > 400 and x[0] == x[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--templates", "absent"), "no such file or folder"),
        (("--max-template-date", "2021-13-01"), "template_search.max_date: found '2021-13-01'; expected a date as 2021-09-30"),
        (("--set", "template_search.used=5"), "expected 1 to 4 used"),
        (("--set", "template_search.e_value=0"), "template_search.e_value: found 0"),
        (("--set", "template_search.remote_e_value=-1"), "template_search.remote_e_value: found -1"),
        (("--set", "template_search.max_identity=30"), "template_search.max_identity: found 30"),
    ],
)
def test_wrong_settings_are_told_before_anything_runs(
    command: Command, tmp_path: Path, four_slots: Path, words: tuple[str, str], message: str
):
    """A folder that is not there, a day that never was, too many, an impossible limit."""
    fasta(tmp_path / "a.fasta", QUERY)
    said = command("predict", "a.fasta", *FAST, "--model", four_slots, *words)
    assert said.status == 2 and message in said.text and not (tmp_path / "runs" / "a" / "first").exists()


def test_hits_and_folders_are_refused_by_name(command: Command, tmp_path: Path, four_slots: Path):
    """What has no effect yet is not dropped in silence, a fifth forced template among it."""
    (tmp_path / "t.cif").write_text(structure_cif("MKTAYI"))
    (tmp_path / "hits.a3m").write_text(">query\nMKTAYI\n")
    forced = "sequences:\n- protein: {id: A, sequence: MKTAYI}\ntemplates:\n" + 5 * "- {cif: t.cif, force: true, threshold: 2.0}\n"
    (tmp_path / "forced.yaml").write_text(forced)
    hits = [{"name": "hits", "sequences": [{"proteinChain": {"sequence": "MKTAYI", "count": 1, "templatesPath": "hits.a3m"}}]}]
    (tmp_path / "hits.json").write_text(json.dumps(hits))
    said = command("predict", "forced.yaml", "hits.json", *FAST, "--model", four_slots, "--out", "o")
    assert said.status == 2
    for what in ("forced templates beyond the first 4", "files of template hits"):
        assert f"{what} cannot be used yet" in said.text


def test_a_forced_template_is_kept_to(command: Command, tmp_path: Path, four_slots: Path):
    """CA atoms within the threshold of the template laid on the sample; another threshold is another fold, and a model or a chain that
    cannot keep to it is refused."""
    (tmp_path / "t.cif").write_text(TEMPLATE["mmcif"])
    place = {number - 40: where for number, where in ca_atoms(tmp_path / "t.cif").items() if 40 < number <= 98}
    jobs = "sequences:\n- protein: {{id: A, sequence: {0}, msa: empty}}\ntemplates:\n- {{cif: t.cif, chain_id: A, template_id: A{1}}}\n"
    apart = {}
    for name, force in (("free", ""), ("near", ", force: true, threshold: 1.5"), ("nearer", ", force: true, threshold: 0.5")):
        (tmp_path / f"{name}.yaml").write_text(jobs.format(QUERY, force))
        assert command("predict", f"{name}.yaml", *FAST, "--model", four_slots, "--out", "o").status == 0
        found = ca_atoms(tmp_path / "o" / name / f"{name}_model.cif")
        here, there = (np.array([of[number] for number in place]) for of in (found, place))
        apart[name] = np.linalg.norm(superpose(there, here)(there) - here, axis=1).max()
    assert len(place) > 40
    assert apart["free"] > 3 and 1.2 < apart["near"] < 1.02 * 1.5 and apart["nearer"] < 1.02 * 0.5
    untrained = model(tmp_path / "untrained.safetensors", "untrained", replace(tiny().template, trained=False))
    (tmp_path / "short.yaml").write_text(jobs.format(QUERY[:4], ", force: true, threshold: 1.5"))
    for job, weights, why in (("near", untrained, "untrained, which was trained without templates,"), ("short", four_slots, "too short")):
        said = command("predict", f"{job}.yaml", *FAST, "--model", weights, "--out", "refused")
        assert said.status != 0 and why in said.text and "cannot keep to a template" in said.text


def ca_atoms(path: Path) -> dict[int, list[float]]:
    """Of the first model's proteins, by number in the sequence."""
    proteins = [chain.get_polymer() for chain in gemmi.read_structure(str(path))[0]]
    residues = [residue for polymer in proteins for residue in polymer if residue.find_atom("CA", "*", gemmi.Element("C"))]
    return {residue.label_seq: residue.sole_atom("CA").pos.tolist() for residue in residues}


@pytest.mark.timeout(600)
def test_a_cluster_gives_the_same_bytes(
    command: Command, tmp_path: Path, folder: Path, four_slots: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
):
    """Searched templates on Ray, from an empty store, as in process."""
    fasta(tmp_path / "a.fasta", QUERY)
    words = ("predict", "a.fasta", *FAST, "--model", four_slots, "--templates", folder, "--threads", "1")
    assert command(*words, "--out", "here").status == 0
    assert command(*words, "--out", "there", "--cluster", "local", "--store", tmp_path / "other").status == 0
    assert differing(results(tmp_path / "here"), results(tmp_path / "there")) == {}
    assert RunManifest.load(tmp_path / "there").document["settings"]["structures"]


def test_templates_travel_too(command: Command, tmp_path: Path, folder: Path, four_slots: Path):
    """They are searched whatever the model; one that was not trained with them says so."""
    fasta(tmp_path / "in.fasta", QUERY)
    said = command("search", "in.fasta", "--out", "s", "--templates", folder, "--export", "e.tar", "--seqdb", SEQDB)
    assert said.status == 0 and "1 templates  searched in seqdb.fasta.gz; templates searched in structures" in said.text
    words = ("predict", "in.fasta", *FAST, "--model", four_slots)
    assert command(*words, "--out", "here", "--templates", folder, "--seqdb", SEQDB).status == 0
    assert command(*words, "--out", "far", "--evidence", "e.tar", "--store", "elsewhere").status == 0
    assert differing(results(tmp_path / "far"), results(tmp_path / "here")) == {}
    assert manifest(tmp_path / "far", "first")["templates"]["A"][0]["file"] == "1dul.cif.gz"
