"""Names of files that `predict.py` writes: pictures of one name in two folders do not replace each other."""

from pathlib import Path

from nas_kd.deployment.predict import unused


def test_a_name_that_was_written_gets_a_number() -> None:
    written = set[Path]()
    found = [unused(Path("out/a.png"), written) for _ in range(3)] + [unused(Path("out/b.png"), written)]
    assert found == [Path("out/a.png"), Path("out/a_2.png"), Path("out/a_3.png"), Path("out/b.png")]
    assert written == set(found)
