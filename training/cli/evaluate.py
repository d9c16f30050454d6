"""The verb `evaluate` of the `captioner` command."""

import json
from pathlib import Path

from captioner.config import overridden
from captioner.engines.programs import programs_for
from captioner.errors import DatasetError
from captioner.model_folder import ModelFolder
from captioner.terminal import ALL_GOOD, SOME_FAILED, muted_stderr, positive

from ..data.manifest import read_labels


def add_evaluate(commands):
    """Adds `captioner evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a model on labelled clips",
        description="Scores a model's captions: BLEU, ROUGE-L, CIDEr and, with Java and "
        "pycocoevalcap, METEOR, with 95 % intervals; beside them those of the same model shown "
        "other clips (shuffled), and of the most common sentence of the split train "
        "(most_common).",
    )
    parser.add_argument(
        "model", metavar="NAME_OR_DIR", help="a model that ships, or a model folder"
    )
    parser.add_argument("labels", type=Path, help="labels of any format, or a folder of clips")
    add = parser.add_argument
    add("--split", default="test", help="which clips to score; default: %(default)s")
    add(
        "--beam-size",
        type=positive(int),
        metavar="N",
        help="width of the beam search, 1: greedy search; default: the model's own",
    )
    add(
        "--length-penalty",
        type=float,
        metavar="ALPHA",
        help="of the search, above 1 for longer sentences; default: the model's own",
    )
    add("--output", type=Path, metavar="FILE", help="write scores and captions clip by clip, too")
    parser.set_defaults(run=_evaluate)


def _evaluate(args) -> int:
    labelled = read_labels(args.labels)
    clips = [clip for clip in labelled if clip.split == args.split]
    if not clips:
        raise DatasetError(f"{args.labels}: has no row of the split {args.split}")
    folder = ModelFolder.open(args.model)
    decoding = overridden(folder.decoding, vars(args))
    programs = programs_for(folder, decoding)
    with muted_stderr():
        from captioner.pipeline import Captioner

        from ..evaluate import evaluate

        captioner = Captioner.of(folder, decoding, programs)
    learned = [clip for clip in labelled if clip.split == "train"]
    result = evaluate(captioner, clips, learned)
    summary = {name: value for name, value in result.items() if name != "clips"}
    print(json.dumps(summary, indent=2, ensure_ascii=False), flush=True)
    if args.output:
        try:
            args.output.write_text(
                json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8"
            )
        except OSError as err:
            raise DatasetError(f"{args.output}: cannot be written: {err.strerror}") from err
    return SOME_FAILED if result["unreadable"] else ALL_GOOD
