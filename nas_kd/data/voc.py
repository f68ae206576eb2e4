"""Boxes in the XML of PASCAL VOC (Everingham et al. 2010): one file a picture."""

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from nas_kd.config.options import DataOptions
from nas_kd.data.box_pictures import BOX_OPTIONS, BoxPicture, FoundPictures, load_box_pictures
from nas_kd.data.box_rules import Box, BoxRules
from nas_kd.data.folder_listing import SUFFIXES
from nas_kd.data.source import RawData, error_summary
from nas_kd.data.split_names import split_named
from nas_kd.errors import InputError, few, printable

ANNOTATIONS, PICTURES, LISTS = "Annotations", ("JPEGImages", "images"), "ImageSets/Main"
MISSING, BROKEN = "picture or annotation that is not there", "annotation that cannot be read"
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Voc:
    """`path`: a folder with Annotations/*.xml and JPEGImages/, and optionally ImageSets/Main/train.txt, val, test.

    Boxes that are marked as difficult are left out, as VOC's own scores do.
    """

    name = "voc"
    summary = "pictures with boxes: PASCAL VOC's folders Annotations, JPEGImages and ImageSets/Main"
    uses = BOX_OPTIONS | {"path"}

    def load(self, options: DataOptions) -> RawData:
        """Read boxes and decode pictures; what is left out is counted and said.

        Args:
            options: `path`, and optionally `image_size`, `on_error`, `cache`, `cache_gb`.

        Raises:
            InputError: a folder is missing, or files, pictures or boxes are broken.
        """
        path = options.path
        if path is None or not (path / ANNOTATIONS).is_dir():
            raise InputError(
                f"source 'voc' needs data.path, a folder with {ANNOTATIONS}/ and {PICTURES[0]}/; got {path}"
            )
        folder = next((path / name for name in PICTURES if (path / name).is_dir()), path / ANNOTATIONS)
        files = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES}
        rules = BoxRules(skips=options.on_error == "skip")
        splits = {split: _pictures(path, files, stems, rules) for split, stems in _listed(path).items()}
        for split, pictures in splits.items():
            if not pictures:
                raise InputError(
                    f"{split} has no pictures with annotations: want {folder.name}/*.jpg of the same names"
                )
        classes = sorted({box.label for pictures in splits.values() for one in pictures for box in one.boxes})
        return load_box_pictures(FoundPictures(path.resolve().name or self.name, splits, classes, rules), options)


def _listed(path: Path) -> dict[str, list[str]]:
    """Names of pictures by split: of the lists, or all."""
    lists = {split: file for file in sorted(path.glob(f"{LISTS}/*.txt")) if (split := split_named(file.stem))}
    if not lists:
        return {"train": sorted(file.stem for file in (path / ANNOTATIONS).glob("*.xml"))}
    if "train" not in lists:
        raise InputError(f"{path / LISTS} has {few([file.name for file in lists.values()])} but no train.txt")
    return {split: file.read_text(encoding="utf-8", errors="replace").split() for split, file in lists.items()}


def _pictures(path: Path, files: dict[str, Path], stems: list[str], rules: BoxRules) -> list[BoxPicture]:
    found = []
    for stem in stems:
        annotation, file = path / ANNOTATIONS / f"{stem}.xml", files.get(stem)
        if file is None or not annotation.is_file():
            rules.refuse_or_skip(f"{stem}: there is no picture or no {annotation.name} of it", MISSING, stem)
            continue
        try:
            boxes, size = read_annotation(annotation.read_bytes())
        except (ValueError, OSError, expat.ExpatError, ElementTree.ParseError) as error:
            rules.refuse_or_skip(f"{annotation}: cannot be read ({error_summary(error)})", BROKEN, annotation.name)
            continue
        found.append(BoxPicture(file, printable(file.name), boxes, size=size))
    return found


def read_annotation(content: bytes) -> tuple[list[Box], tuple[int, int] | None]:
    """Read the boxes of one file, and height and width of its picture if they are stated.

    A document type, which could define entities that grow or lead to other files, is refused.

    Args:
        content: of the XML file.

    Raises:
        ValueError: it is none of VOC's; parsers' own errors pass.
    """
    _refuse_document_type(content)
    root = ElementTree.fromstring(content)
    boxes = []
    for thing in root.iter("object"):
        label, box = thing.findtext("name", "").strip(), thing.find("bndbox")
        if not label or box is None:
            raise ValueError("an object has no name or no bndbox")
        x1, y1, x2, y2 = (float(box.findtext(corner, "")) for corner in CORNERS)
        boxes.append(Box(label, x1, y1, x2, y2, thing.findtext("difficult", "0").strip() == "1"))
    width, height = (int(root.findtext(f"size/{side}", "0") or 0) for side in ("width", "height"))
    return boxes, ((height, width) if height and width else None)


def _refuse_document_type(content: bytes) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("it has a document type, which annotations do not need")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(content, True)


PLUGIN = Voc()
