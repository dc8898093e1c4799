"""`python lit_program.py CHECKPOINT PORT`: serves the checkpoint by LitServe.

As its documentation has it: https://lightning.ai/docs/litserve
"""

from __future__ import annotations

import sys
from typing import Any

import litserve
import torch
import transformers

BATCH = 8
BATCH_SECONDS = 0.005
MAX_LENGTH = 150


class Classify(litserve.LitAPI):  # type: ignore[misc]
    """The model as `from_pretrained` gives it; a batch is padded to its longest text."""

    def setup(self, device: str) -> None:
        """Loads model and tokenizer."""
        folder = sys.argv[1]
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        self.model = model.to(device).eval()

    def decode_request(self, request: dict[str, str]) -> str:
        """The text."""
        return request["text"]

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """The best label of each."""
        inputs = self.tokenizer(
            texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
        )
        with torch.inference_mode():
            scores = self.model(**inputs).logits.softmax(-1)
        best = scores.max(-1)
        names = self.model.config.id2label
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [{"label": names[label], "score": score} for label, score in pairs]

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """As it is."""
        return output


if __name__ == "__main__":
    api = Classify(max_batch_size=BATCH, batch_timeout=BATCH_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run("127.0.0.1", int(sys.argv[2]), generate_client_file=False, log_level="warning")
