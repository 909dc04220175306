"""`bench`: how fast the chain is on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gixi_bluesky.cli.console import output, print_json, say
from gixi_bluesky.cli.images import first_image
from gixi_bluesky.cli.options import JsonLines, configured_for_files
from gixi_bluesky.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gixi_bluesky.bench import ChainTimes, StageSummary
    from gixi_bluesky.config import Config

__all__ = ["bench"]

_EXPOSURES = 4  # simulated frames, used in turns


def bench(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="A configuration; default: a simulated beamline."
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="With --config: instead of simulated frames.")
    ] = None,
    incidence_angle: Annotated[
        float | None,
        typer.Option(metavar="DEG", min=0, max=90, help="Instead of the configured one."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Number of frames analysed one by one.")] = 30,
    batch: Annotated[int, typer.Option(min=1, help="Number of frames in each batch.")] = 8,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights", metavar="NAME", help="Name or file of the weights; repeat to compare."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:1, …; default: as configured.")
    ] = None,
    engines: Annotated[
        list[str] | None,
        typer.Option(
            "--engine", help="auto, torch, onnx, openvino; repeat to compare. Default: configured."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of networks (default: 1) and OpenCV (default: all)."),
    ] = None,
    json: JsonLines = False,
) -> None:
    """Time the chain, stage by stage, from the frame in memory to its phases.

    Prints milliseconds a frame of wall time (median and 90 % quantile) and of CPU time of all
    threads (median), and frames a second one by one and in batches. Several --weights take turns
    frame by frame; their ratios are medians over pairs, so that they hold on a busy machine.
    Without --config a film on a 4-megapixel panel is simulated, with the default grid and all
    shipped structures.
    """
    if image is not None and config is None:
        raise typer.BadParameter("--image needs a --config with its geometry")
    import cv2
    import torch

    from gixi_bluesky.bench import beamline, machine, time_chains
    from gixi_bluesky.processing import Pipeline
    from gixi_bluesky.processing.detector.engines import installed_engines

    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    settings = beamline() if config is None else configured_for_files(config, (), incidence_angle)
    names = weights or [settings.detector.weights]
    pipelines = [
        Pipeline(_with(settings, name, device, engine))
        for name in names
        for engine in engines or [settings.detector.engine]
    ]
    if "openvino" not in installed_engines():
        say("pip install openvino: it runs light networks faster on the CPU")
    label, stack = _frames(settings, image)
    say(f"{counted(frames, 'frame')} of {label} one by one, then in batches of {batch}")
    chains = time_chains(pipelines, stack, frames, batch)
    about = {
        "machine": machine(),
        "image": label,
        "shape": list(stack.shape[1:]),
        "dtype": str(stack.dtype),
        "grid": list(settings.grid.shape),
        "frames": frames,
        "batch": batch,
    }
    if json:
        print_json(about | {"chains": [chain.as_json() for chain in chains]})
    else:
        _show(about, chains)


def _with(config: Config, weights: str, device: str | None, engine: str) -> Config:
    update = {"weights": weights, "device": device or config.detector.device, "engine": engine}
    return config.model_copy(update={"detector": config.detector.model_copy(update=update)})


def _frames(config: Config, image: str | None) -> tuple[str, NDArray[Any]]:
    from gixi_bluesky.bench import require_free_size, simulated_frames

    if image is not None:
        label, frame = first_image(config, image)
        return label, frame[None]
    require_free_size(config)
    return "a simulated film", simulated_frames(config, _EXPOSURES)


def _show(about: dict[str, Any], chains: Sequence[ChainTimes]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    ran_on = about["machine"]
    rows, columns = about["shape"]
    load = "" if ran_on["load"] is None else f", load {ran_on['load']:.1f}"
    output.print(
        f"{ran_on['processor']}, {ran_on['cpus']} CPUs{load}, {ran_on['threads']} thread(s), "
        f"torch {ran_on['torch']}, {ran_on['gpu'] or 'no GPU'}",
        f"{about['image']}: {rows} x {columns} {about['dtype']}, grid {about['grid']}",
        sep="\n",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    compared = len(chains) > 1
    heads = ("ms a frame", "median", "90 %", "CPU", *(("ratio", "CPU ratio") if compared else ()))
    for chain in chains:
        title = (
            f"{chain.weights} on {chain.device} ({chain.engine}), {counted(chain.peaks, 'peak')}"
        )
        table = Table(*heads, box=SIMPLE_HEAD, title=title)
        for stage, summary in chain.stages.items():
            table.add_row(stage, *_cells(summary, compared))
        output.print(table)
        rate = chain.frames_per_second
        output.print(
            f"{rate.one_by_one:.1f} frames/s one by one, {rate.in_batches:.1f} in batches of "
            f"{about['batch']}; maps built once in {chain.maps_ms:.0f} ms",
            highlight=False,
        )


def _cells(summary: StageSummary, compared: bool) -> Iterator[str]:
    for milliseconds in (summary.median_ms, summary.p90_ms, summary.cpu_ms):
        yield f"{milliseconds:.1f}"
    if compared:
        yield f"{summary.ratio:.2f}"
        yield f"{summary.cpu_ratio:.2f}"
