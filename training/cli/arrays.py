"""The command that makes the models that ship: `python -m training.cli.arrays`, a verb a stage."""

import argparse
import sys
from dataclasses import asdict, fields
from pathlib import Path

from captioner.cnn import PRETRAINED
from captioner.errors import CaptionerError
from captioner.terminal import ALL_GOOD, WRONG_USAGE


def main() -> int:
    """Runs a stage; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.cli.arrays", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="STAGE")
    for add in (_add_pack, _add_features, _add_learn, _add_rerank, _add_rehearse):
        add(verbs)
    args = parser.parse_args()
    try:
        args.run(args)
    except CaptionerError as err:
        print(f"training: {err}", file=sys.stderr)
        return WRONG_USAGE
    return ALL_GOOD


def _add_pack(verbs):
    parser = verbs.add_parser("pack", help="labels -> pictures and token ids")
    parser.set_defaults(run=_pack)
    add = parser.add_argument
    add("packed", type=Path, help="folder to write")
    add(
        "sources",
        nargs="+",
        type=_source,
        metavar="STYLE=FILE",
        help="labels of pictures or of clips as frames, or a .txt with a sentence a line",
    )
    add("--min-count", type=int, default=5, help="leave out words that occur less often")
    add("--words", type=Path, metavar="FILE", help="a vocabulary.txt to take instead")


def _source(text):
    style, equals, path = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected STYLE=FILE, got {text}")
    return style, Path(path)


def _pack(args):
    from captioner.vocabulary import Vocabulary

    from ..arrays.pack import pack

    words = args.words and Vocabulary.load(args.words)
    pack(args.sources, args.packed, args.min_count, words)


def _add_features(verbs):
    from ..arrays.features import Views

    parser = verbs.add_parser("features", help="pictures -> features of many views of each")
    parser.set_defaults(run=_features)
    add = parser.add_argument
    add("packed", type=Path, help="what pack wrote")
    add("features", type=Path, help="folder to write")
    add("--cnn", metavar="NAME_OR_DIR", help="model whose bundled CNN extracts features too")
    add("--limit", type=int, help="items of each kind, to try it")
    add(
        "--dtype",
        default="float32",
        help="float16 on a GPU, bfloat16 on a CPU that has it: faster; default: %(default)s",
    )
    for name, count in asdict(Views()).items():
        add(f"--{name.replace('_', '-')}", type=int, default=count, help="default: %(default)s")


def _features(args):
    from ..arrays.features import Views, few, networks_of, write_features
    from ..arrays.pack import Items

    items = Items.load(args.packed)
    if args.limit:
        items = few(items, args.limit)
    args.features.mkdir(parents=True, exist_ok=True)
    views = Views(**{name: getattr(args, name) for name in asdict(Views())})
    write_features(items, views, networks_of(args.cnn, args.dtype), args.features)


def _add_learn(verbs):
    parser = verbs.add_parser("learn", help="features -> a model; needs the extra `model`")
    parser.set_defaults(run=_learn)
    add = parser.add_argument
    add("packed", type=Path, help="what pack wrote")
    add("features", type=Path, help="what features wrote")
    add("output", type=Path, help="model folder to write")
    add("--network", default=PRETRAINED, choices=(PRETRAINED, "small"), help="whose features")
    add("--base", metavar="NAME_OR_DIR", help="model to go on from")
    add(
        "--teachers",
        nargs="+",
        default=[],
        metavar="NAME_OR_DIR",
        help="models whose mean word probabilities are learned too",
    )
    add("--steps", type=int, default=2200, help="default: %(default)s")
    add(
        "--rounds",
        type=int,
        default=16,
        help="how often to measure; the model is the mean of the weights that together do best",
    )
    add("--last", action="store_true", help="keep the weights of the last round instead")
    add("--length-penalty", type=float, default=1.5, help="the model's; default: %(default)s")
    add("--seed", type=int, default=1)
    from ..arrays.recipe import Recipe

    for field in fields(Recipe):
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            add(flag, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            add(flag, type=type(field.default), default=field.default, help="default: %(default)s")


def _learn(args):
    from ..arrays.learn import learn_model
    from ..arrays.recipe import Recipe

    learn_model(
        args.packed,
        args.features,
        args.output,
        args.network,
        Recipe(**{field.name: getattr(args, field.name) for field in fields(Recipe)}),
        args.steps,
        args.rounds,
        args.base,
        args.teachers,
        args.last,
        args.length_penalty,
        args.seed,
    )


def _add_rerank(verbs):
    what = "features -> what a model's sentences are reranked by, in its folder"
    _add_to_model(verbs.add_parser("rerank", help=what), _rerank)


def _rerank(args):
    from captioner.errors import DatasetError
    from captioner.model_folder import ModelFolder

    from ..arrays.reranking import fit_reranker

    bank = _bank(args)
    expected = ModelFolder.open(args.model).vocabulary.tokens
    if bank.items.vocabulary.tokens != expected:
        raise DatasetError(f"{args.packed}: has other words than {args.model}; pack --words")
    fit_reranker(bank, args.network).save(args.model)


def _add_rehearse(verbs):
    what = "features -> clips that trainings which go on from a model rehearse, in its folder"
    _add_to_model(verbs.add_parser("rehearse", help=what), _rehearse)


def _rehearse(args):
    from captioner.model_folder import ModelFolder

    from ..arrays.rehearsing import build_rehearsal

    folder = ModelFolder.open(args.model)
    build_rehearsal(_bank(args), args.network).save(folder.path)


def _add_to_model(parser, run):
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("packed", type=Path, help="what pack wrote")
    add("features", type=Path, help="what features wrote")
    add("model", type=Path, help="model folder to write into")
    add("--network", default=PRETRAINED, choices=(PRETRAINED, "small"), help="whose features")


def _bank(args):
    from ..arrays.bank import Bank

    return Bank.load(args.packed, args.features, [args.network])


if __name__ == "__main__":
    sys.exit(main())
