"""The ModelCIF tables of a prediction: what was modelled, how, with which software, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from structgen.features.atoms import Structure
from structgen.features.job import Kind
from structgen.io.provenance import Provenance
from structgen.metrics.interfaces import residue_plddt
from structgen.prediction import Prediction

# the method: Abramson et al. 2024
CITATION = {
    "id": "1",
    "title": "Accurate structure prediction of biomolecular interactions with AlphaFold 3",
    "journal_abbrev": "Nature",
    "journal_volume": "630",
    "page_first": "493",
    "year": "2024",
    "pdbx_database_id_DOI": "10.1038/s41586-024-07487-w",
}


@dataclass(frozen=True)
class Table:
    """One mmCIF category: columns of equal length by item name; `.` and `?` have their meaning in CIF."""

    category: str
    columns: Mapping[str, Sequence[str]]

    @classmethod
    def of_rows(cls, category: str, rows: Sequence[Mapping[str, str]]) -> Table:
        """The same from rows with equal keys."""
        return cls(category, {name: [row[name] for row in rows] for name in (rows[0] if rows else ())})


def modelcif_tables(structure: Structure, prediction: Prediction, provenance: Provenance) -> list[Table]:
    """Every table of ModelCIF but those of the coordinates and sequences."""
    return [
        Table.of_rows("_struct", [_struct(prediction, provenance)]),
        Table.of_rows("_citation", [CITATION]),
        *_software(provenance),
        *_targets(structure),
        *_model(prediction, provenance),
        *_quality(structure, prediction),
    ]


def _struct(prediction: Prediction, provenance: Provenance) -> dict[str, str]:
    return {
        "title": f"predicted by structgen {provenance.software} with {provenance.model}",
        "pdbx_model_details": f"seed {prediction.seed}, sample {prediction.sample}; {provenance.settings_text}",
        "pdbx_structure_determination_methodology": "computational",
    }


def _software(provenance: Provenance) -> list[Table]:
    rows = [
        ("structgen", provenance.software, "package", "structure prediction"),
        (provenance.model, f"sha256 {provenance.model_sha256}", "other", "weights of the network"),
    ]
    columns = {
        "pdbx_ordinal": ["1", "2"],
        "name": [name for name, *_ in rows],
        "version": [version for _, version, *_ in rows],
        "type": [type for *_, type, _ in rows],
        "classification": ["model building"] * 2,
        "description": [description for *_, description in rows],
        "citation_id": ["1", "?"],
    }
    return [
        Table("_software", columns),
        Table("_ma_software_group", {"ordinal_id": ["1", "2"], "group_id": ["1", "1"], "software_id": ["1", "2"]}),
    ]


def _targets(structure: Structure) -> list[Table]:
    """The entities as data 1 to E, the model as data E + 1."""
    entities = [str(entity) for entity in np.unique(structure.chain_entity)]
    data = {
        "id": [*entities, str(len(entities) + 1)],
        "name": [*(f"target entity {entity}" for entity in entities), "model"],
        "content_type": ["target"] * len(entities) + ["model coordinates"],
    }
    instances = {
        "asym_id": structure.chain_ids,
        "entity_id": [str(entity) for entity in structure.chain_entity],
        "details": [f"copy {copy}" for copy in structure.chain_copy],
    }
    return [
        Table("_ma_data", data),
        Table("_ma_target_entity", {"entity_id": entities, "data_id": entities, "origin": ["."] * len(entities)}),
        Table("_ma_target_entity_instance", instances),
        Table.of_rows("_ma_model_list", [_model_list(len(entities) + 1)]),
    ]


def _model_list(data: int) -> dict[str, str]:
    return {
        "ordinal_id": "1",
        "model_id": "1",
        "model_group_id": "1",
        "model_name": "predicted model",
        "model_group_name": "all models",
        "data_id": str(data),
        "model_type": "Ab initio model",
    }


def _model(prediction: Prediction, provenance: Provenance) -> list[Table]:
    aligned = [f"{id} {depth}" for id, depth in sorted(provenance.msa_depth.items()) if depth > 1]
    steps = [("coevolution MSA", f"rows by chain: {', '.join(aligned)}")] if aligned else []
    steps += [("modeling", f"{provenance.settings_text}, seed {prediction.seed}, sample {prediction.sample}")]
    steps += [("model selection", "ranked by ranking_score, see the summary of confidences")]
    ordinals = [str(i) for i in range(1, len(steps) + 1)]
    columns = {
        "ordinal_id": ordinals,
        "protocol_id": ["1"] * len(steps),
        "step_id": ordinals,
        "method_type": [method for method, _ in steps],
        "details": [details for _, details in steps],
        "software_group_id": ["1"] * len(steps),
    }
    return [Table("_ma_protocol_step", columns)]


def _quality(structure: Structure, prediction: Prediction) -> list[Table]:
    """pLDDT of the whole and of every residue (mean over its atoms, 0-100); pTM and, between chains, ipTM."""
    summary = prediction.summary
    metrics = [("1", "pLDDT", "global"), ("2", "pLDDT", "local"), ("3", "pTM", "global"), ("4", "ipTM", "global")]
    values = {"1": summary.mean_plddt, "3": summary.ptm, "4": summary.iptm}
    known = {id: f"{value:.2f}" for id, value in values.items() if isfinite(value)}
    metrics = [metric for metric in metrics if metric[0] in known or metric[0] == "2"]
    columns = {
        "id": [id for id, *_ in metrics],
        "name": [name for _, name, _ in metrics],
        "type": [type for _, type, _ in metrics],
        "mode": [mode for *_, mode in metrics],
        "software_group_id": ["1"] * len(metrics),
    }
    whole = {
        "ordinal_id": [str(i) for i in range(1, len(known) + 1)],
        "model_id": ["1"] * len(known),
        "metric_id": list(known),
        "metric_value": list(known.values()),
    }
    return [
        Table("_ma_qa_metric", columns),
        Table("_ma_qa_metric_global", whole),
        Table("_ma_qa_metric_local", _local_quality(structure, prediction)),
    ]


def _local_quality(structure: Structure, prediction: Prediction) -> dict[str, Sequence[str]]:
    size = len(structure.residue_names)
    polymer = [structure.chain_kinds[c] is not Kind.LIGAND for c in structure.residue_chain]
    return {
        "ordinal_id": [str(i) for i in range(1, size + 1)],
        "model_id": ["1"] * size,
        "label_asym_id": [structure.chain_ids[c] for c in structure.residue_chain],
        "label_seq_id": [str(number) if chain else "." for number, chain in zip(structure.residue_numbers, polymer, strict=True)],
        "label_comp_id": structure.residue_names.tolist(),
        "metric_id": ["2"] * size,
        "metric_value": [f"{value:.2f}" for value in residue_plddt(structure, prediction.atom_plddt)],
    }
