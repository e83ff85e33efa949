"""What MLflow runs for a registered model; it keeps a copy of this file. Imports nothing of this project but the
package that an export carries."""

from __future__ import annotations

import io
from typing import Any

import mlflow
import numpy as np
import pandas as pd

BATCH = 64


class DefectPyfunc(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Column ``image`` (the bytes of an image file) -> columns score, defect, threshold, one row per image."""

    def load_context(self, context: Any) -> None:
        from defect_model.model import DefectModel

        self.model = DefectModel.load(context.artifacts["export"])

    def predict(self, context: Any, model_input: pd.DataFrame,
                params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Raises ``ValueError`` that names the row for bytes that are no image."""
        files = list(model_input["image"])
        scores = [self.model.scores(self._pixels(files, start)) for start in range(0, len(files), BATCH)]
        score = np.concatenate([np.empty(0, np.float32), *scores])
        threshold = np.float32(self.model.threshold)
        return pd.DataFrame({"score": score, "defect": score >= threshold, "threshold": threshold})

    def _pixels(self, files: list[bytes], start: int) -> np.ndarray:
        from defect_model.pixels import read_image

        images = []
        for row, content in enumerate(files[start:start + BATCH], start):
            try:
                images.append(read_image(io.BytesIO(content), self.model.input_size))
            except Exception as error:  # pillow's decoders raise whatever their format's code does
                raise ValueError(f"row {row}: image cannot be decoded ({error})") from error
        return np.stack(images)


mlflow.models.set_model(DefectPyfunc())
