"""Write structgen/features/components.json: heavy atoms of the standard residues, from the wwPDB Chemical Component Dictionary.

    python -m pip install biotite==1.4.0 && python tools/make_components.py

The dictionary (CC0) travels inside biotite as components.bcif; its sha256 is written into the result. Atoms are kept in the
dictionary's order, which is the fixed order of SI 5.3 (checked by tests/features/test_chemistry.py). UNK loses CG, because an
unknown side chain is modelled up to CB only.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

AMINO_ACIDS = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL UNK".split()
NUCLEOTIDES = "A G C U N DA DG DC DT DN".split()
DROPPED = {("UNK", "CG")}
TARGET = Path(__file__).parents[1] / "structgen" / "features" / "components.json"


def main() -> None:
    """Read biotite's copy of the dictionary and write the table, one component a line."""
    import biotite
    import biotite.structure.info
    import biotite.structure.io.pdbx as pdbx

    source = Path(biotite.structure.info.__file__).with_name("components.bcif")
    block = pdbx.BinaryCIFFile.read(source).block["chem_comp_atom"]
    names = ("comp_id", "atom_id", "type_symbol", "charge", *(f"pdbx_model_Cartn_{axis}_ideal" for axis in "xyz"))
    columns = [block[name].as_array().tolist() for name in names]
    components: dict[str, list[list]] = {code: [] for code in AMINO_ACIDS + NUCLEOTIDES}
    for code, atom, element, charge, x, y, z in zip(*columns, strict=True):
        if code in components and element != "H" and (code, atom) not in DROPPED:
            components[code].append([atom, element, charge, x, y, z])
    header = {
        "source": "wwPDB Chemical Component Dictionary (CC0), ideal coordinates in angstrom, heavy atoms",
        "from": f"biotite {biotite.__version__} components.bcif, sha256 {hashlib.sha256(source.read_bytes()).hexdigest()}",
        "fields": "atom name, element, formal charge, x, y, z",
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in {**header, **components}.items()]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
