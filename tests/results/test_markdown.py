"""Text from outside is shown literally, whatever it contains."""

from nas_kd.results.markdown import code_block, code_span, escape_markdown, paragraph


def test_markdown_escapes() -> None:
    assert escape_markdown("a|b\n<c> *d*") == r"a\|b \<c\> \*d\*"
    assert code_span("a `b` c") == "``a `b` c``"
    assert code_block("```\n") == "````\n```\n````"


def test_a_paragraph_is_no_list() -> None:
    assert paragraph("- a") == r"\- a"
    assert paragraph("10. a") == r"10\. a"
    assert paragraph("10 a - b") == "10 a - b"
    assert paragraph("# a") == r"\# a"
