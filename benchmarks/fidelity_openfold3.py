"""What OpenFold3 answers, part by part, compared with structgen; one line of JSON a part.

Run by `benchmarks.fidelity` in an environment that has both; with a path it writes the record that tests read. Its knobs for parity:
kernels of torch, no more rows of the alignment than it keeps, our random numbers in place of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.fidelity_job import CYCLES, LEVELS, MOST_STEPS, SAMPLES, SLOTS, Draws, Given, job, small
from benchmarks.fidelity_parts import Parts, ours
from benchmarks.fidelity_rows import converted, record, report
from benchmarks.protenix_peer import weights
from structgen.alphafold3 import openfold3
from structgen.alphafold3.config import Config, Sampling
from structgen.alphafold3.recognise import recognise
from structgen.features.batch import Batch

MODELS = {"v0.5.0, small": 2, "v0.5.0, small, no template": 0}  # number of templates
REPEATED = "sample_diffusion.diffusion_module."


def main() -> None:
    """With and without templates, or with a path the record."""
    config = small(openfold3.v0_5())
    for name, templates in MODELS.items():
        batch = job(templates=templates)
        sampling = replace(config.sampling, cycles=CYCLES, samples=SAMPLES, steps=MOST_STEPS)
        given, model = Given.draw(config, batch), build(config, sampling)
        answers = theirs(model, batch, given, sampling, config)
        if sys.argv[1:]:
            return record(answers, Path(sys.argv[1]))
        found = recognise(model.state_dict())
        report(name, ours(converted(found.tensors, config, found.table), batch, given, sampling), answers)


def build(config: Config, sampling: Sampling) -> Any:
    """The model with the widths, depths and sampling given, without its slow first weights."""
    import openfold3.core.model.primitives.initialization as first_weights

    for name in dir(first_weights):
        if name.endswith("_init_"):
            setattr(first_weights, name, lambda *args, **kwargs: None)
    for name in ("trunc_normal_", "xavier_uniform_", "kaiming_normal_", "kaiming_uniform_"):
        setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    from openfold3.projects.of3_all_atom.model import OpenFold3

    model = OpenFold3(_sizes(config, sampling)).eval()
    state = model.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items() if name != "version_tensor" and not name.startswith(REPEATED)}
    made = weights(shapes)
    repeated = {name: made[name.removeprefix("sample_diffusion.")] for name in state if name.startswith(REPEATED)}
    model.load_state_dict(made | repeated | {"version_tensor": state["version_tensor"]})
    return model


def _sizes(config: Config, sampling: Sampling) -> Any:
    """Its configuration with every size of ours in its place."""
    from openfold3.projects.of3_all_atom.config import model_config as given

    atoms, diffusion = config.atoms, config.diffusion
    given.c_s.set(config.c_s)
    given.c_z.set(config.c_z)
    given.c_m.set(config.msa.c_m)
    given.c_atom.set(atoms.c_atom)
    given.c_atom_pair.set(atoms.c_pair)
    given.c_token_embedder.set(config.inputs.c_s_inputs_atom)
    given.c_token_diffusion.set(diffusion.c_token)
    made = given.model_config.copy_and_resolve_references()
    made.settings.memory.eval.use_triton_triangle_kernels = False
    tree = made.architecture
    tree.pairformer.no_blocks, tree.pairformer.c_hidden_pair_bias = config.pairformer.blocks, config.c_s // config.pairformer.heads
    head = tree.heads.pairformer_embedding.pairformer
    head.no_blocks, head.c_hidden_pair_bias = config.confidence.blocks, config.c_s // config.pairformer.heads
    tree.msa.msa_module.no_blocks = config.msa.blocks
    tree.input_embedder.atom_attn_enc.c_hidden = atoms.c_atom // atoms.heads
    module = tree.diffusion_module
    for part in (module.atom_attn_enc, module.atom_attn_dec):
        part.c_hidden, part.no_blocks = diffusion.atoms.c_atom // diffusion.atoms.heads, diffusion.atoms.blocks
    token = module.diffusion_transformer
    token.no_blocks, token.no_heads, token.c_hidden = diffusion.blocks, diffusion.heads, diffusion.c_token // diffusion.heads
    tree.shared.num_recycles = sampling.cycles - 1
    tree.shared.diffusion.no_full_rollout_steps, tree.shared.diffusion.no_full_rollout_samples = sampling.steps, sampling.samples
    return made


@torch.no_grad()
def theirs(model: Any, batch: Batch, given: Given, sampling: Sampling, config: Config) -> Parts:
    """The parts of `fidelity_parts.ours`."""
    made = features(batch)
    return {
        **_trunk_parts(model, made, given),
        **_diffusion_parts(model, made, given, config),
        **_wholes(model, made, given),
        **_prediction(model, made, batch, sampling, config),
    }


def features(batch: Batch) -> dict[str, Tensor]:
    """What OpenFold3 calls its input features, for the one example of `batch`; templates by its own code."""
    counts = torch.zeros_like(batch.token_index).scatter_add(1, batch.atom_to_token, torch.ones_like(batch.atom_to_token))
    same = ["token_index", "residue_index", "asym_id", "entity_id", "sym_id", "profile", "deletion_mean", "token_bonds", "ref_pos"]
    same += ["ref_charge", "ref_space_uid", "has_deletion", "deletion_value"]
    zeros, ones = torch.zeros_like(batch.token_index), torch.ones_like(batch.token_index)
    return {
        **{name: getattr(batch, name) for name in same},
        "restype": F.one_hot(batch.restype, 32).float(),
        "token_mask": ones.float(), "atom_mask": batch.atom_mask.float(), "ref_mask": batch.ref_mask.float(),
        "is_protein": ones, "is_rna": zeros, "is_dna": zeros, "is_ligand": zeros, "is_atomized": zeros,
        "atom_to_token_index": batch.atom_to_token, "num_atoms_per_token": counts, "start_atom_index": counts.cumsum(1) - counts,
        "ref_element": F.one_hot(batch.ref_element - 1, 119).float(),
        "ref_atom_name_chars": F.one_hot(batch.ref_atom_name_chars, 64).float(),
        "msa": F.one_hot(batch.msa, 32).float(), "msa_mask": batch.msa_mask.float(), "num_paired_seqs": torch.tensor([1]),
        **{name: value[None] for name, value in _template_features(batch).items()},
    }  # fmt: skip


def _template_features(batch: Batch) -> dict[str, Tensor]:
    """Four slots; what a slot does not hold is a gap without coordinates."""
    from openfold3.core.data.primitives.featurization import template as made

    count, tokens = batch.template_restype.shape[1:]
    residue = torch.full((SLOTS, tokens), 31)
    beta, frame = numpy.full((SLOTS, tokens, 3), numpy.nan), numpy.full((SLOTS, tokens, 3, 3), numpy.nan)
    for t in range(count):
        known, side = batch.template_frame_mask[0, t].numpy(), batch.template_pseudo_beta_mask[0, t].numpy()
        residue[t] = torch.where(batch.template_frame_mask[0, t], batch.template_restype[0, t], 31)
        frame[t, known], beta[t, side] = batch.template_frame[0, t].numpy()[known], batch.template_pseudo_beta[0, t].numpy()[side]
    same = (batch.asym_id[0, :, None] == batch.asym_id[0])[None, :, :, None]
    beta_mask = torch.from_numpy(~numpy.isnan(beta).any(-1)).float()
    frame_mask = torch.from_numpy(~numpy.isnan(frame).any((-2, -1))).float()
    return {
        "template_restype": F.one_hot(residue, 32),
        "template_pseudo_beta_mask": beta_mask,
        "template_backbone_frame_mask": frame_mask,
        "template_distogram": made.create_template_distogram(beta, beta_mask, same).float(),
        "template_unit_vector": made.create_template_unit_vector(frame, frame_mask, same).float(),
    }


def _trunk_parts(model: Any, made: dict[str, Tensor], given: Given) -> Parts:
    z, s, m, mask = given.z[None], given.s[None], given.m[None], made["token_mask"]
    pairs = mask[:, :, None] * mask[:, None]
    block, first = model.msa_module.blocks[0], model.pairformer_stack.blocks[0]
    track = first.pair_stack
    rows, row_mask = model.msa_module_embedder(batch=made, s_input=given.s_inputs[None])
    out_s, out_z = model.pairformer_stack(s=s.clone(), z=z.clone(), single_mask=mask, pair_mask=pairs)
    parts = {
        "2 input features": model.input_embedder(batch=made)[0],
        "3 relative positions": model.input_embedder.linear_relpos(_relative(made)),
        "8 MSA module": model.msa_module(rows, z.clone(), msa_mask=row_mask, pair_mask=pairs),
        "9 outer product mean": block.outer_product_mean(m, mask=torch.ones(m.shape[:3])),
        "10 averages weighted by pairs": block.msa_att_row(m, z=z, mask=pairs),
        "11 transition": track.pair_transition(z, mask=pairs),
        "12 triangle multiplication, outgoing": track.tri_mul_out(z, mask=pairs),
        "13 triangle multiplication, incoming": track.tri_mul_in(z, mask=pairs),
        "14 triangle attention, starting": track.tri_att_start(z, mask=pairs),
        "15 triangle attention, ending": track.tri_att_end(z.transpose(1, 2), mask=pairs, transpose_bias=True).transpose(1, 2),
        "16 templates": model.template_embedder(batch=made, z=z, pair_mask=pairs),
        "17 pairformer, single": out_s,
        "17 pairformer, pair": out_z,
        "24 attention with pair bias, trunk": first.attn_pair_bias(a=s, z=z, mask=mask),
    }
    return {name: value[0] for name, value in parts.items()}


def _relative(made: dict[str, Tensor]) -> Tensor:
    from openfold3.core.utils.relpos import relpos_complex

    return relpos_complex(made, 32, 2).float()


def _diffusion_parts(model: Any, made: dict[str, Tensor], given: Given, config: Config) -> Parts:
    module = model.diffusion_module
    wide = {name: value[:, None] for name, value in made.items() if name != "num_paired_seqs"}  # a dimension for the samples
    z, a, s, level = given.z[None, None], given.a[None], given.single[None], torch.tensor([LEVELS])
    trunk = {"si_trunk": given.s[None, None], "zij_trunk": z}
    tokens, q, c, p = module.atom_attn_enc(batch=wide, rl=given.positions[None] / 16, **trunk)
    single, pair = module.diffusion_conditioning(batch=wide, t=level, si_input=given.s_inputs[None, None], use_conditioning=True, **trunk)
    transformer, mask = module.diffusion_transformer, wide["token_mask"]
    attention, transition = transformer.blocks[0].attention_pair_bias, transformer.blocks[0].conditioned_transition
    fourier = module.diffusion_conditioning.fourier_emb((level / config.diffusion.sigma_data).log()[..., None] / 4)
    parts = {
        "5 atoms to tokens, tokens": tokens,
        "5 atoms to tokens, atoms": q,
        "6 tokens to atoms": module.atom_attn_dec(batch=wide, ai=a, ql=q, cl=c, plm=p),
        "21 conditioning, pair": pair[0],
        "21 conditioning, single": single,
        "22 Fourier embedding": fourier,
        "23 diffusion transformer": transformer(a=a, s=s, z=z, mask=mask),
        "24 attention with pair bias, diffusion": attention(a=a, z=transformer.layer_norm_z(z), s=s, mask=mask),
        "25 conditioned transition": transition(a=a, s=s, mask=mask),
        "26 adaptive layer norm": attention.layer_norm_a(a, s),
    }
    return {name: value[0] for name, value in parts.items()}


def _wholes(model: Any, made: dict[str, Tensor], given: Given) -> Parts:
    _, s, z = model.run_trunk(batch=made, num_cycles=CYCLES)
    wide = {name: value[:, None] for name, value in made.items() if name != "num_paired_seqs"}
    seen = {"si_trunk": given.s[None, None], "zij_trunk": given.z[None, None]}
    denoised = model.diffusion_module(
        batch=wide, xl_noisy=given.positions[None], token_mask=wide["token_mask"], atom_mask=wide["atom_mask"], t=torch.tensor([LEVELS]),
        si_input=given.s_inputs[None, None], use_conditioning=True, **seen,
    )  # fmt: skip
    output = {**seen, "atom_positions_predicted": given.positions[None, :1]}
    heads = model.aux_heads(batch=wide, si_input=given.s_inputs[None, None], output=output, use_zij_trunk_embedding=True)
    return {
        "1 trunk, two cycles: single": s[0],
        "1 trunk, two cycles: pair": z[0],
        "1 distogram": heads["distogram_logits"][0, 0],
        "20 denoiser call at two levels": denoised[0],
        "31 pLDDT": heads["plddt_logits"][0, 0],
        "31 PAE": heads["pae_logits"][0, 0],
        "31 PDE": heads["pde_logits"][0, 0],
        "31 resolved": heads["experimentally_resolved_logits"][0, 0],
    }


def _prediction(model: Any, made: dict[str, Tensor], batch: Batch, sampling: Sampling, config: Config) -> Parts:
    """OpenFold3's whole forward pass."""
    with injected(Draws(sampling, config.diffusion.sigma_data, batch.atoms)):
        _, said = model(dict(made))
    return {
        "a prediction: coordinates": said["atom_positions_predicted"][0],
        "a prediction: pLDDT": said["plddt_logits"][0],
        "a prediction: PAE": said["pae_logits"][0],
    }


@contextmanager
def injected(draws: Draws) -> Iterator[None]:
    """`torch.randn` and `torch.randn_like` give what `draws` says."""
    randn, like = torch.randn, torch.randn_like

    def numbers(*size: Any, **kwargs: Any) -> Tensor:
        if kwargs.get("generator") is not None:
            return randn(*size, **kwargs)
        shape = size[0] if isinstance(size[0], tuple | torch.Size) else size
        last = tuple(shape)[-1:] if tuple(shape)[-2:] != draws.shape[1:] else "coordinates"
        values = {(4,): draws.quaternions, (3,): draws.translations, "coordinates": draws.coordinates}
        return values[last]().reshape(shape)

    torch.randn, torch.randn_like = cast(Any, numbers), cast(Any, lambda x, **kwargs: draws.coordinates().reshape(x.shape))
    try:
        yield
    finally:
        torch.randn, torch.randn_like = randn, like


if __name__ == "__main__":
    main()
