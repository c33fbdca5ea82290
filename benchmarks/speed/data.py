"""How fast images are read, augmented and packed, beside the training they feed.

    python -m benchmarks.speed.data [--quick] [--json]

Reading and augmentation run in one thread and count seconds of the processor, so that the rates are
those of one core even where others work on the machine; all works are timed in turn, round after
round, and medians are shown. Packs are in the system's page cache, as in every epoch but the first
where memory suffices. Packing runs in a process of its own on all cores and counts the clock.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.speed import show
from maskbench.contract import make_job
from maskbench.data import augment
from maskbench.data.feed import Feed
from maskbench.data.folder import open_folder
from maskbench.data.source import Split
from maskbench.job import Job
from maskbench.machine import peak_memory
from maskbench.shape import PRESETS

SIDES = {32: 32, 224: 256}
"""Side of the model's input: side of a stored image."""
BATCHES = (64, 256)
JPEGS = {"32x32": (32, 32), "500x375": (500, 375)}

Work = Callable[[int], int]
"""Takes the number of the round, gives the images it did."""


def stored(folder: Path, side: int, images: int) -> Split:
    """Noise, packed as any data set is: one raw file, mapped into memory."""
    shape, path = (images, side, side, 3), folder / f"{side}.u8"
    rng = np.random.default_rng(0)
    rng.integers(0, 256, shape, np.uint8).tofile(path)
    return Split(np.memmap(path, np.uint8, "r", shape=shape), None, list(map(str, range(images))))


def shuffled(images: int, epoch: int) -> Tensor:
    """An epoch's order."""
    return torch.randperm(images, generator=torch.Generator().manual_seed(epoch))


def works(split: Split, side: int, size: int, device: torch.device) -> dict[str, Work]:
    """Reading, augmentation, and both as training does them; one batch each."""
    images = len(split)
    feed = Feed(split, size, seed=0, side=side, device=device)
    pixels = torch.from_numpy(np.array(split.images[:size])).to(device)
    zeros = torch.zeros(size, dtype=torch.long, device=device)

    def read(n: int) -> int:
        found = split.images[shuffled(images, n)[:size].numpy()]
        return len(np.ascontiguousarray(found))

    def augmented(n: int) -> int:
        positions = zeros + torch.arange(size, device=device)
        crops = augment.draw_crops(0, zeros + n, positions, split.side, images)
        return len(augment.normalise(augment.crop_resize(pixels, crops, side)))

    def both(n: int) -> int:
        return len(feed.batch(n, partial(shuffled, images)).images)

    return {"reading": read, "augmentation": augmented, "reading + augmentation": both}


def training(job: Job, size: int) -> Work:
    """Steps of plain training on images that are there already; no part of it is data."""
    batch = job.batch(0)

    def step(n: int) -> int:
        with torch.no_grad():
            mask = job.mask(batch, job.context(0))
        job.model(batch.images, mask).loss.backward()
        job.optimizer.step()
        job.optimizer.zero_grad()
        return size

    return step


def rates(given: Mapping[str, Work], rounds: int, least: float) -> dict[str, list[float]]:
    """Images per second of the processor, for every work and round; the first round warms up.

    Args:
        given: The works by name.
        rounds: How often each is timed.
        least: Seconds each takes per round, at least.
    """
    seen: dict[str, list[float]] = {name: [] for name in given}
    turn = 0
    for number in range(rounds + 1):
        for name, work in given.items():
            done, used, begun = 0, 0.0, time.process_time()
            while used < least:
                done, turn = done + work(turn), turn + 1
                used = time.process_time() - begun
            if number:
                seen[name].append(done / used)
    return seen


def per_core(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Rows of reading, augmentation and training, one thread each."""
    given: dict[str, Work] = {}
    for side, side_stored in SIDES.items():
        size = 256 if side == 32 else 32
        split = stored(folder, side_stored, (4000 if side == 32 else 200) * (1 if quick else 5))
        made = works(split, side, size, torch.device("cpu"))
        given |= {f"{name}, {side} px": work for name, work in made.items()}
    shape = PRESETS["micro"].shape
    for size in BATCHES:
        job = make_job(shape=shape, batch=size, images=size, hidden=shape.patches * 3 // 4)
        given[f"training micro, batch {size}"] = training(job, size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seen = rates(given, *((1, 0.1) if quick else (7, 1.0)))
    finally:
        torch.set_num_threads(threads)
    return [
        {
            "what": name,
            "per_s": round(statistics.median(found), 1),
            "of": "core",
            "range": [round(min(found), 1), round(max(found), 1)],
        }
        for name, found in seen.items()
    ]


def jpegs(folder: Path, size: tuple[int, int], files: int) -> Path:
    """A flat folder of JPEGs with as much detail as photographs: noise over all scales."""
    folder.mkdir()
    rng, (width, height) = np.random.default_rng(0), size
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    f[0, 0] = np.inf
    made = []
    for n in range(min(files, 20)):
        noise = rng.normal(size=(3, *f.shape)) + 1j * rng.normal(size=(3, *f.shape))
        plane = np.fft.irfft2(noise / f, (height, width))
        pixels = (128 + 50 * plane / plane.std()).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{n:06}.jpg", quality=90)
        made.append((folder / f"{n:06}.jpg").read_bytes())
    for n in range(len(made), files):
        (folder / f"{n:06}.jpg").write_bytes(made[n % len(made)])
    return folder


def pack(folder: Path, side: int, cache: Path) -> dict[str, Any]:
    """Pack a folder; for a process of its own, whose memory is measured."""
    Image.init()
    before = peak_memory("cpu")["host"]
    begun, used = time.perf_counter(), time.process_time()
    images = open_folder(folder, side, cache)
    took, used = time.perf_counter() - begun, time.process_time() - used
    return {
        "files": len(images.train),
        "clock_s": round(took, 2),
        "processor_s": round(used, 2),
        "peak_before_bytes": before,
        "peak_bytes": peak_memory("cpu")["host"],
    }


def packing(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Rows of packing: small files and those of a camera."""
    rows = []
    for name, size in JPEGS.items():
        side = 32 if max(size) == 32 else 224
        files = (2000 if side == 32 else 50) * (1 if quick else 10)
        made = jpegs(folder / name, size, files)
        with get_context("spawn").Pool(1) as pool:
            found = pool.apply(pack, (made, side, folder / "cache"))
        rate = round(files / found["clock_s"], 1)
        rows.append({"what": f"packing {name} JPEGs", "per_s": rate, "of": "machine", **found})
    return rows


def on_a_gpu(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """The same at 224 px with augmentation on a GPU, by the clock; no rows without one."""
    if not torch.cuda.is_available():
        return []
    split = stored(folder, SIDES[224], 500 if quick else 5000)
    rows = []
    for name, work in works(split, 224, 256, torch.device("cuda")).items():
        work(0)
        torch.cuda.synchronize()
        begun, done, turns = time.perf_counter(), 0, 3 if quick else 50
        for n in range(turns):
            done += work(n)
        torch.cuda.synchronize()
        rate = round(done / (time.perf_counter() - begun), 1)
        rows.append({"what": f"{name}, 224 px, GPU", "per_s": rate, "of": "one process"})
    return rows


def measure(quick: bool) -> dict[str, Any]:
    """Everything above.

    Args:
        quick: Seconds instead of minutes; shows that it runs, not how fast.

    Returns:
        ``rows``: what, images per second, of what; and ratios of data to training at micro.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [*per_core(folder, quick), *packing(folder, quick), *on_a_gpu(folder, quick)]
    data, trained = "reading + augmentation, 32 px", "training micro, batch"
    rate = {row["what"]: row["per_s"] for row in rows}
    for size in BATCHES:
        ratio = round(rate[data] / rate[f"{trained} {size}"], 1)
        rows.append({"what": f"{data}, to {trained} {size}", "ratio": ratio})
    return {"rows": rows}


if __name__ == "__main__":
    show.main("data", measure)
