"""A cold process that captions one clip, against one that imports TensorFlow and does nothing.

`python -m tests.benchmarks.start` prints a line a run, then one JSON object of medians over
interleaved runs: `ratio`, the wall time of `captioner caption` on a clip of 10 s at 360p over
that of `python -c "import tensorflow"`, both in seconds, and `peak_mb`, the captioner's peak
memory. The model's programs are written before, as by anybody's first caption, which takes
`first_caption_seconds` where nothing is prepared, once. Files are in the page cache, as they are
for whoever has just used them.
"""

import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

# Nothing big is imported here: a child's peak memory counts what its parent held when it forked.
DRAW_CLIP = "from tests.clips import write_photograph_clip; write_photograph_clip({!r}, seconds=10)"


def run(*arguments):
    """Runs Python; returns seconds and peak memory, MB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments}: exit status {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, usage.ru_maxrss * unit / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="pairs of runs")
    runs = parser.parse_args().runs
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with tempfile.TemporaryDirectory() as folder:
        clip = os.path.join(folder, "clip.mp4")
        caption = ("-m", "captioner.cli", "caption", clip)
        tensorflow = ("-c", "import tensorflow")
        run("-c", DRAW_CLIP.format(clip))
        os.environ["XDG_CACHE_HOME"] = folder  # without any programs
        first_caption_s, _ = run(*caption)
        run(*caption, "--engine", "lite")
        while glob.glob(os.path.join(folder, "captioner", "programs", ".partial-*")):
            time.sleep(1)  # until the process is done that the first caption has started
        run(*tensorflow)
        results = []
        for _ in range(runs):
            results.append((*run(*caption), *run(*tensorflow)))
            caption_s, peak_mb, tensorflow_s, _ = results[-1]
            print(
                f"captioner {caption_s:.2f} s, {peak_mb:.0f} MB; TensorFlow {tensorflow_s:.2f} s",
                flush=True,
            )
    caption_s, peak_mb, tensorflow_s, _ = map(statistics.median, zip(*results))
    figures = {
        "ratio": round(caption_s / tensorflow_s, 3),
        "peak_mb": round(peak_mb),
        "first_caption_seconds": round(first_caption_s, 2),
        "caption_s": round(caption_s, 3),
        "tensorflow_s": round(tensorflow_s, 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
