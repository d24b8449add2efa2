# SPDX-License-Identifier: Apache-2.0
"""Numbers and switches as manifests have them: taken as they are written, never converted."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Number = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Switch = Annotated[bool, Field(strict=True)]
Wait = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
"""Seconds; 0: not at all."""
