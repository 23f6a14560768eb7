"""Numbers with the bounds of :mod:`teddy.config.schema`, for the fields of methods and pool strategies (checked by pydantic)."""

from typing import Annotated

from pydantic import Field

from teddy.config.schema import EPOCHS, MOST

Count = Annotated[int, Field(ge=1, le=MOST)]
Number = Annotated[int, Field(ge=0, le=MOST)]
Epoch = Annotated[int, Field(ge=1, le=EPOCHS)]
Positive = Annotated[float, Field(gt=0, le=MOST)]
Weight = Annotated[float, Field(ge=0, le=MOST)]
Area = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Shift = Annotated[int, Field(ge=0, le=4096)]
Beta = Annotated[float, Field(ge=0, lt=1)]
