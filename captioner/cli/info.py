"""The verb `info` of the `captioner` command."""

from ..model_folder import DEFAULT_MODEL, ModelFolder, find_folder, task_of
from ..moments.folder import TASK as LABEL
from ..moments.folder import LabelFolder
from ..terminal import ALL_GOOD


def add_info(commands):
    """Adds `captioner info`."""
    parser = commands.add_parser(
        "info",
        help="describe a model",
        description="Prints what a model is: its parts and sizes, how it samples and searches.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        default=DEFAULT_MODEL,
        metavar="NAME_OR_DIR",
        help="a model that ships, or a model folder; default: %(default)s",
    )
    parser.set_defaults(run=_info)


def _info(args) -> int:
    is_label = task_of(find_folder(args.model)) == LABEL
    folder = (LabelFolder if is_label else ModelFolder).open(args.model)
    files = sorted(path for path in folder.path.iterdir() if path.is_file())
    rows = {
        "model": folder.name,
        "folder": folder.path.resolve(),
        "size": f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB in {len(files)} files",
        "backbone": folder.backbone,
        "features": f"{folder.model.num_regions} regions a frame, {folder.model.feature_dim} each",
        "units": folder.model.units,
    }
    if is_label:
        at_once = "several" if folder.model.multi_label else "one"
        sees = "both ways" if folder.model.bidirectional else "back"
        rows |= {
            "encoder": f"{folder.model.encoder}, looking {sees}",
            "labels": f"{', '.join(folder.labels)}; {at_once} at a time",
            "labelling": folder.labelling,
        }
    else:
        rows |= {
            "frames": f"up to {folder.sampling.num_frames} a clip",
            "words": f"{len(folder.vocabulary)} tokens",
            "styles": ", ".join(folder.model.styles) or "one",
            "decoding": folder.decoding,
        }
    rows["card"] = next((path for path in files if path.name == "README.md"), "none")
    for name, value in rows.items():
        print(f"{name + ':':11}{value}")
    return ALL_GOOD
