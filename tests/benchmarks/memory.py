"""Peak memory of the command on short and long clips, on few and many.

`python -m tests.benchmarks.memory` prints a line a run, then one JSON object: `clip_10s_mb` and
`clip_1h_mb`, one clip at 360p captioned as a whole; `clip_10s_segments_mb` and
`clip_1h_segments_mb`, every 5 s of it; `files_20_mb` and `files_2000_mb`, a folder of clips of
4 s. What is measured is the resident memory of the command and of the processes that it starts,
together, pages that they share counted once (PSS), looked at every 50 ms. What a first caption
prepares is there before.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import av

from captioner import Captioner

from .batch import write_folder
from .frames import write_clip


def lengthen(source: Path, target: Path, times: int):
    """Writes a video that shows another one several times over, without encoding it again."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as container:
        video = whole.streams.video[0]
        stream = container.add_stream_from_template(video)
        length = video.duration
        for number in range(times):
            whole.seek(0)
            for packet in whole.demux(video):
                if packet.dts is not None:
                    packet.pts += number * length
                    packet.dts += number * length
                    packet.stream = stream
                    container.mux(packet)


def tree(pid: int) -> list[int]:
    """A process and all that it has started."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            pids += tree(int(child))
    return pids


def memory_mb(pid: int) -> float:
    """Of a process and all that it has started, MB."""
    total = 0
    for process in tree(pid):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def peak_mb(*arguments) -> float:
    """Runs `captioner caption`; the most memory it was seen to have, MB."""
    command = [sys.executable, "-m", "captioner.cli", "caption", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        with suppress(FileNotFoundError, ProcessLookupError):  # one has just ended
            peak = max(peak, memory_mb(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{command} has failed")
    print(f"{' '.join(map(str, arguments))}: {peak:.0f} MB", flush=True)
    return round(peak, 1)


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as place:
        short, long = Path(place, "10s.mp4"), Path(place, "1h.mp4")
        write_clip(short, 360, 60, 10)
        lengthen(short, long, 360)
        out = ("-o", Path(place, "out.jsonl"))
        Captioner.load(engine="lite")
        result = {}
        for key, path in (("clip_10s", short), ("clip_1h", long)):
            result[f"{key}_mb"] = peak_mb(path, *out)
            result[f"{key}_segments_mb"] = peak_mb(path, *out, "--segments", 5)
        for count in (20, 2000):
            folder = Path(place, str(count))
            folder.mkdir()
            write_folder(folder, count, 4)
            result[f"files_{count}_mb"] = peak_mb(folder, *out)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
