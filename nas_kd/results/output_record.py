"""What a network returns, in words and for programs: what its card says of it. Imports no torch."""

from collections.abc import Mapping

from nas_kd.results.trial_record import Record


class OutputRecord(Record):
    """The output of the networks of a run.

    Attributes:
        name: of the exported file's output.
        kind: by which `predict.py` chooses how to read it: "logits" of classes, "labels", "values", "embedding" or
            "masks"; a program `predict_KIND.py` may be added to it.
        shape: of the output for one sample, a letter for a side that depends on the
            network; empty: a number for each name.
        strides: of boxes: sides of the cells of the grids of anchor points, pixels.
        probabilities: how they follow from the output, a formula; "": they do not.
        noun: what such a network is: "classifier of 10 classes".
        each: what the output holds: "one logit a class".
        items: what the names of its outputs are: "classes".
        example: a line of Python that reads the output of one sample, an array under its name, with `card` at hand.
        width: numbers a sample where they have no names; 0: a number each name.
        limit: a sentence on what such a network cannot do.
        hub_metric: the name of the task's own score on model hubs.
        hub_tasks: there, the name and title of what it does, by the number of axes of a sample.
    """

    name: str
    kind: str
    shape: tuple[int | str, ...] = ()
    strides: tuple[int, ...] = ()
    probabilities: str = ""
    noun: str
    each: str
    items: str
    example: str
    width: int = 0
    limit: str
    hub_metric: str
    hub_tasks: Mapping[int, tuple[str, str]] = {}
