"""What a report says of teachers that were fine-tuned, and of networks that did not start at random."""

from typing import Any

from nas_kd.report.number_format import NBSP
from nas_kd.report.training_facts import training_facts
from nas_kd.results.fine_tuning_record import FineTuningRecord
from tests.records import run, teacher


def text_of(**fields: Any) -> str:
    common = {"batch_size": 32, "learning_rate": 1e-3, "trunk_learning_rate": 1e-4, "augment": "standard"}
    record = FineTuningRecord.model_validate({"layers": "all", "val_score": 0.95, "seconds": 61.0} | common | fields)
    given = teacher().model_copy(update={"fine_tuning": record})
    return dict(training_facts(run(teacher=given)))["Fine-tuning of the teacher"].replace(NBSP, " ")


def test_a_new_head_then_all_layers() -> None:
    text = text_of(published_classes=1000, head_epochs=12, val_head=0.9, epochs=3, trained_epochs=7, most_epochs=20)
    assert text.startswith(
        "A new head for 10 classes took the place of the one for 1,000. Its head was trained alone, "
    )
    assert "(12 epochs): 90.0 %. Then all layers were trained for 7 of at most 20 epochs with AdamW" in text
    assert "peak learning rates of 0.001 for the head and 0.0001 for the others: the best epoch, number 3" in text
    assert text.endswith("It took 1 min 01 s.")


def test_all_layers_that_were_no_better() -> None:
    text = text_of(val_before=0.8, head_epochs=2, val_head=0.95, epochs=0, trained_epochs=4, most_epochs=8)
    assert text.startswith("As it was given, its accuracy on validation was 80.0 %.")
    assert "none was better, so that this is not in use" in text


def test_the_head_alone() -> None:
    text = text_of(layers="head", head_epochs=2, val_head=0.95)
    assert "all layers" not in text


def test_a_pretrained_start() -> None:
    config = {"space": {"name": "resnet", "weights": "/data/large.safetensors"}}
    text = dict(training_facts(run(config=config)))["Pretrained start"]
    assert "Networks of space 'resnet' did not start at random but from the weights in large.safetensors" in text
