"""Pictures of the lecture: each is made, some of their data are checked, and what is wrong is said."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from structgen.generative import Ddim, Heun, Linear, VarianceExploding, VariancePreserving
from structgen.generative.times import karras, uniform
from tests.conformance import clouds
from tests.tolerance import FLOAT64_IDENTITY, assert_close
from tests.workflows.conftest import REPOSITORY
from workflows.cli import app
from workflows.lecture import distilled, flows, gallery, learned, noising, sampling, scores, transport
from workflows.lecture.sets import Blobs, Effort, moons, ring, sliced_w2, spiral, three
from workflows.options import INPUT_ERROR

SMALL = Effort(points=50, lines=8, updates=3, steps=12)
F64 = torch.float64


@pytest.mark.parametrize("name", gallery.PICTURES)
def test_every_picture_is_made(name: str, tmp_path: Path):
    """With little effort; a PNG about 1,000 pixels wide, small enough to be kept in a repository."""
    gallery.draw(name, tmp_path / "made" / "picture.png", seed=1, effort=SMALL)
    with Image.open(tmp_path / "made" / "picture.png") as image:
        assert image.format == "PNG" and image.width == 1000 and 250 <= image.height <= 800
        assert len(image.convert("L").getcolors()) > 10
    assert (tmp_path / "made" / "picture.png").stat().st_size < 60_000


def test_every_picture_says_what_it_shows():
    """One line that ends with rows of the lecture's list."""
    for name in gallery.PICTURES:
        assert gallery.shows(name).endswith(").") and gallery.rows(name)
        assert len(f"{name} {gallery.shows(name)}") < 160


def test_the_same_seed_draws_the_same_picture(tmp_path: Path):
    """Byte for byte, as PNG and as SVG; another seed another one."""
    for form in ("png", "svg"):
        for file, seed in (("a", 1), ("b", 1), ("c", 2)):
            gallery.draw("couplings", tmp_path / f"{file}.{form}", seed, SMALL)
        a, b, c = ((tmp_path / f"{file}.{form}").read_bytes() for file in "abc")
        assert a == b != c


def test_the_command_lists_draws_and_refuses(tmp_path: Path):
    """Without a name every picture with its rows; a bad name or ending is one clear error with the list."""
    run = CliRunner()
    listed = run.invoke(app, ["lecture"])
    assert listed.exit_code == 0 and len(listed.output.splitlines()) == len(gallery.PICTURES)
    assert "(A14, C2)" in listed.output
    drawn = run.invoke(app, ["lecture", "densities", "--out", str(tmp_path / "d.svg")])
    assert drawn.exit_code == 0 and (tmp_path / "d.svg").read_text().startswith("<?xml")
    wrong = run.invoke(app, ["lecture", "ddmi"])
    assert wrong.exit_code == INPUT_ERROR and "no picture is called 'ddmi'" in wrong.output and "\nddim" in wrong.output
    ending = run.invoke(app, ["lecture", "densities", "--out", str(tmp_path / "d.doc")])
    assert ending.exit_code == INPUT_ERROR and ".png or .svg" in ending.output and list(tmp_path.iterdir()) == [tmp_path / "d.svg"]


def test_all_pictures_and_their_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`all` writes each picture and a page that shows each."""
    monkeypatch.setattr(gallery, "PICTURES", {name: gallery.PICTURES[name] for name in ("forward", "couplings")})
    made = list(gallery.draw_all(tmp_path, effort=SMALL))
    assert [path.name for path in made] == ["forward.png", "couplings.png", "README.md"]
    page = (tmp_path / "README.md").read_text()
    assert all(f"]({name}.png)" in page for name in ("forward", "couplings"))


def test_without_matplotlib_the_command_to_install_it_is_named():
    """One error, no trace."""
    code = "import sys; sys.modules['matplotlib'] = None; from workflows.cli import app; app(['lecture'])"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == INPUT_ERROR and "pip install -e '.[pictures]'" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("path", [Linear(), VariancePreserving(), VarianceExploding()], ids=repr)
def test_closed_forms_are_those_of_the_oracle(path, rng: torch.Generator):
    """Density and denoiser of the drawn sets equal those of the tests' mixtures."""
    for cloud in (ring(), spiral(), moons(), three()):
        oracle = clouds.Cloud(cloud.weights, cloud.means, cloud.stds)
        x, t = cloud.draw(20, rng), torch.full((20,), 0.4, dtype=F64)
        assert_close(cloud.log_prob(path, x, 0.4), oracle.log_prob(path, x, t), 1e-10)
        assert_close(cloud.denoise(path, x, t).data, oracle.denoise(path, x, t).data, 1e-10)


def test_owners_and_misfits(rng: torch.Generator):
    """Draws of one mode belong to it; states shifted by 0.1 are off by about 0.1."""
    cloud = ring()
    x = cloud.draw(4000, rng)
    assert cloud.misfit(x) < 0.03 and cloud.misfit(x + 0.1 / 2**0.5) == pytest.approx(0.1, abs=0.02)
    assert set(cloud.owner(cloud.part(3).draw(50, rng)).tolist()) == {3}


def test_forward_paths_have_the_law_of_the_path(rng: torch.Generator):
    """Exact transitions: mean alpha x and variance sigma^2 at the end."""
    path, x = VariancePreserving(), torch.full((20_000, 1), 1.5, dtype=F64)
    end = noising.transitions(path, torch.linspace(0, 0.4, 9, dtype=F64), x, rng)[-1]
    alpha, sigma = path.alpha_sigma(torch.tensor([0.4], dtype=F64))
    assert end.mean().item() == pytest.approx(1.5 * alpha.item(), abs=0.03)
    assert end.std().item() == pytest.approx(sigma.item(), abs=0.02)


def test_churn_is_drawn_as_it_is_planned():
    """Levels rise by 1 + gamma where the next one is above the limit, and fall to the grid again."""
    grid = karras(6, 80.0, 0.002)
    levels = noising.churned_levels(grid, gamma=0.35, above=0.05)
    assert torch.equal(levels[::2], grid)
    raised = grid[1:] > 0.05
    assert_close(levels[1::2], torch.where(raised, 1.35 * grid[:-1], grid[:-1]), 1e-9)


def test_the_misprint_is_seen(rng: torch.Generator):
    """Ancestral sampling with alpha-bar in alpha's place ends far from the law of data, as drawn."""
    cloud = spiral()
    right, wrong = (sliced_w2(sampling.algorithm_2(cloud, 100, good, rng)[-1], cloud.draw(100, rng)) for good in (True, False))
    assert right < 0.4 < 0.8 < wrong


def test_reflow_straightens(rng: torch.Generator):
    """A short training: the ways of the second flow are at least five times straighter, and its one step is nearer to data."""
    cloud = three()
    first, second = learned.rectified_flows(cloud, 2, Effort(points=200, updates=150, steps=10), rng)
    assert second.straightness < 0.2 * first.straightness
    one, two = (sliced_w2(flow.one_step, cloud.draw(200, rng)) for flow in (first, second))
    assert two < 0.6 * one


def test_straightness_by_hand():
    """Straight ways are 0; a half circle walked evenly is (pi / 2)^2 - 1 = 1.47."""
    grid = torch.linspace(1, 0, 201, dtype=F64)
    line = grid[:, None, None] * torch.tensor([[1.0, 2.0]], dtype=F64)
    arc = torch.stack([(torch.pi * grid).cos(), (torch.pi * grid).sin()], 1)[:, None]
    assert learned.straightness(line, grid) < 1e-20
    assert learned.straightness(arc, grid) == pytest.approx((torch.pi / 2) ** 2 - 1, rel=1e-3)


def test_half_steps_put_the_ends_right():
    """The drawn laws on a grid: each half-step starts exactly in one end, and after twelve the other is right too."""
    reference, one, *_, last = itertools.islice(transport.table_laws(points=31, steps=6), 13)
    assert torch.equal(last.start, reference.start) and not torch.equal(one.start, reference.start)
    off = [(law.marginals()[-1] - one.start).abs().sum() / 2 for law in (reference, last)]
    assert off[0] > 0.2 and off[1] < 1e-3


def test_students_halve_their_steps(rng: torch.Generator):
    """Grids of 4, 2 and 1 steps, one student each."""
    made = distilled.students(three(), Linear(), uniform(8, 1.0, 0.0), Effort(updates=2), rng)
    assert [len(grid) - 1 for grid, _ in made] == [4, 2, 1]


def test_drawn_figures_say_what_the_rows_say(rng: torch.Generator):
    """The corrector repairs a wrong score; Heun inverts better than DDIM; the bound closes; guidance at weight 1 is the class alone."""
    cloud = ring()
    for factor in (0.9, 1.1):
        alone, corrected = (cloud.misfit(scores.from_wrong_score(cloud, factor, c, 1000, rng)) for c in (False, True))
        assert corrected < 0.6 * alone
    data = cloud.draw(60, rng)
    ddim, heun = ((sampling.inverted(cloud, data, 40, one, rng)[1] - data).norm(dim=1).median() for one in (Ddim(), Heun()))
    assert heun < 0.1 * ddim
    assert noising.bound_gap(cloud, 25, 500, rng) > noising.bound_gap(cloud, 100, 500, rng) > 0
    path, x = VariancePreserving(), three().draw(10, rng)
    t = torch.full((10,), 0.3, dtype=F64)
    assert_close(sampling.guided(three(), path, 1.0)(x, t, t).data, three().part(0).denoise(path, x, t).data, 1e-10)


def test_losses_of_flow_matching_differ_by_a_constant(rng: torch.Generator):
    """Conditional less marginal, drawn over fields theta u: the same within 3 %; the marginal loss is 0 at theta = 1."""
    shares = torch.tensor([0.0, 1.0, 2.0], dtype=F64)
    whole, joint = flows.losses(three(), Linear(), shares, 20_000, rng)
    apart = joint - whole
    assert whole[1] == 0 and (apart / apart.mean() - 1).abs().max() < 0.03


def test_one_point_is_its_own_flow():
    """A mixture of one narrow mode sends every state to it."""
    point = Blobs(torch.ones(1, dtype=F64), torch.tensor([[1.0, -1.0]], dtype=F64), torch.full((1,), 1e-6, dtype=F64))
    x = torch.tensor([[0.5, 2.0]], dtype=F64)
    assert_close(flows.velocity(point, Linear(), x, 0.5) * 0.5 + x, point.means, 1e-9)
    assert_close(point.shares(Linear(), x, torch.tensor([0.5], dtype=F64)), torch.ones(1, 1, dtype=F64), FLOAT64_IDENTITY)
