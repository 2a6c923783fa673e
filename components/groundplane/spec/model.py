"""What the models of all files have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel

Port = Annotated[int, Field(ge=1, le=65535)]

SITE: dict[str, JsonValue] = {"where": "site"}
PLATFORM: dict[str, JsonValue] = {"where": "platform"}


class Model(BaseModel):
    """What all models share: no unknown keys, no change after the check."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    def __init__(self, **given: Any) -> None:
        """Raises SpecError with all that is wrong with the fields."""
        try:
            super().__init__(**given)
        except ValidationError as error:
            from groundplane.spec.validate import refused  # which is made for these models

            raise refused(type(self), error, given) from None

    # Without it, pydantic would come here for what stands inside of other data, too, and see only
    # the first error of it.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]
