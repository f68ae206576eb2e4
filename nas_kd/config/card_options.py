"""The options of the cards that go with an exported file."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from nas_kd.config.section import Options


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class CardOptions(Options):
    """What the cards of exported files say beyond what was measured; may be changed after the run."""

    license: str | None = Field(None, description='of the exported file, as Hugging Face names it: "apache-2.0", "mit"')
    author: str | None = Field(None, description="who publishes the file")
    description: str | None = Field(None, description="what the network is for, and what it is not for")
    dataset_license: str | None = Field(None, description="of the training data")
    tags: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field((), description="more tags of the model card")
