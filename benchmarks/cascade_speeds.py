"""Where a cascade of moving digits loses the speeds that captions ask for: after each stage, from captions and given true clips.

    python -m benchmarks.cascade_speeds configs/video_cascade.yaml data/pictures/moving_digits_1500.npz [--count 150] [--seed 0]

Shares of held-out clips whose centre of light moves within half a pixel a frame, at full size, of what the caption says. No floor for what
is black: in small frames a digit's rim is dim. Few frames do not tell the speed of what bounces between them: a stage is measured where
true clips of its size are read right.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from structgen.judging import cut, drawn_by_stage, speed_errors
from structgen.metrics.motion import speeds
from structgen.pictures.files import read_set
from structgen.pictures.sets import to_bytes
from structgen.tasks.generator import reduced
from structgen.vision.cascade import Scale
from structgen.vision.draw import Drawing
from structgen.vision.unclip import Models
from workflows.cascades import load_models

READ = 0.95  # of true clips


def within_half(clips: Tensor, scale: Scale, captions: Sequence[str]) -> float:
    """The share of clips [n, 1, t, h, w], smaller by `scale`, with the speeds of their captions."""
    found = speeds(to_bytes(clips), floor=0) * scale.space / scale.time
    return float((speed_errors(found, captions) < 0.5).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cascade", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    models = load_models(options.cascade)
    _, frames, _, side = models.stages[-1].config.size
    asked = cut(read_set(options.clips).part(True), models.stages[-1], options.count)
    drawings = [Drawing(one.config.steps, one.config.guidance, seed=options.seed) for one in models.stages]
    made = drawn_by_stage(models, asked, drawings)
    print(f"{len(asked)} clips, seed {options.seed}\n")
    print("| stage | from captions | given true clips | true clips |\n| --- | --- | --- | --- |")
    for system, drawing, clips in zip(models.stages, drawings, made, strict=True):
        scale = Scale(side // system.config.size[-1], frames // system.config.size[1])
        truth = reduced(asked, scale).tensor()
        read = within_half(truth, scale, asked.captions)
        if read < READ:
            continue
        lower, given = system.config.lower, "-"
        if lower is not None:
            of_truth = drawn_by_stage(Models((system,)), asked, [drawing], low=lower.scale.lowered(truth))[-1]
            given = f"{within_half(of_truth, scale, asked.captions):.3f}"
        name = "{} frames of {} x {}".format(*system.config.size[1:])
        print(f"| {name} | {within_half(clips, scale, asked.captions):.3f} | {given} | {read:.3f} |", flush=True)


if __name__ == "__main__":
    main()
