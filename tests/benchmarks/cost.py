"""What captioning costs, and whether that tells how long a folder will take.

`python -m tests.benchmarks.cost` prints a line a run, then one JSON object: of a clip of 10 s at
360p the seconds of one core to read it (`read_s`), to look at its frames (`look_s`) and to say its
sentence (`say_s`); `clips_per_s`, of the command on all cores, and `start_s`, what it takes beyond
its clips, both by folders of 8 and 108 clips, medians of three; then for 50, 500 and 2,000 clips
the seconds predicted from these two, those measured, and `error_...`, by how much they differ.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from captioner import Captioner
from captioner.engines.programs import programs_for
from captioner.model_folder import ModelFolder
from captioner.video.reader import Reader

from .batch import write_folder
from .scale import caption_s, rate

SIZES = (50, 500, 2000)
CALIBRATIONS = 3


def steps(folder: Path) -> dict[str, float]:
    """Seconds of one core for each step of a clip, medians."""
    model = ModelFolder.open("default")
    programs = programs_for(model, model.decoding, "lite")
    captioner = Captioner.of(model, model.decoding, programs, num_threads=1)
    times = []
    with Reader() as reader:
        for path in [*folder.iterdir()] * 3:
            begin = time.perf_counter()
            [clip] = reader.read(captioner.request(path))
            read = time.perf_counter()
            [features] = captioner.extract_features([clip.frames])
            looked = time.perf_counter()
            captioner.describe(features)
            times.append((read - begin, looked - read, time.perf_counter() - looked))
    names = ("read_s", "look_s", "say_s")
    return {name: round(statistics.median(row), 4) for name, row in zip(names, zip(*times))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="default: %(default)s")
    parser.add_argument("--calibration", type=int, nargs=2, default=(8, 108), help="folders")
    args = parser.parse_args()
    few, many = args.calibration
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as place:
        folders = {count: Path(place, str(count)) for count in (few, many, *args.sizes)}
        whole = folders[max(folders)]
        whole.mkdir()
        write_folder(whole, max(folders))
        for count, folder in folders.items():
            folder.mkdir(exist_ok=True)
            for path in sorted(whole.iterdir())[: count if folder != whole else 0]:
                (folder / path.name).symlink_to(path)
        result = {"cores": len(cores), "load": round(os.getloadavg()[1], 1)} | steps(folders[few])
        rates = [rate(folders[few], folders[many], cores) for _ in range(CALIBRATIONS)]
        clips_per_s, start_s = map(statistics.median, zip(*rates))
        result |= {"clips_per_s": round(clips_per_s, 3), "start_s": round(start_s, 2)}
        for count in args.sizes:
            predicted, measured = start_s + count / clips_per_s, caption_s(folders[count], cores)
            result |= {f"predicted_{count}_s": round(predicted, 1)}
            result |= {f"measured_{count}_s": round(measured, 1)}
            result |= {f"error_{count}": round(predicted / measured - 1, 3)}
            print(
                f"{count} clips: predicted {predicted:.1f} s, measured {measured:.1f} s", flush=True
            )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
