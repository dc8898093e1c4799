"""Clients of TorchServe's gRPC services, made from examples/grpc as docs/clients.md says."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from tests.integration.conftest import Site
from torchscript_bundle.server import ROOT

PROTOS = ("inference.proto", "open_inference_grpc.proto", "google/rpc/status.proto")
#: Seconds for an answer that surely comes.
PATIENCE = 120


def make(folder: Path) -> Path:
    """Copies examples/grpc and makes the modules beside the definitions."""
    made = shutil.copytree(ROOT / "examples" / "grpc", folder / "grpc")
    command = ["-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=."]
    subprocess.run([sys.executable, *command, *PROTOS], cwd=made, check=True)
    return made


class Stubs:
    """Both services of a running server."""

    def __init__(self, made: Path, site: Site) -> None:
        sys.path.insert(0, str(made))
        try:
            self.native, native_services, self.oip, oip_services = map(
                importlib.import_module,
                (
                    "inference_pb2",
                    "inference_pb2_grpc",
                    "open_inference_grpc_pb2",
                    "open_inference_grpc_pb2_grpc",
                ),
            )
        finally:
            sys.path.remove(str(made))
        self.site = site
        self.channel = grpc.insecure_channel(f"127.0.0.1:{site.port('grpc_inference')}")
        self.key = (("authorization", f"Bearer {site.server.token('inference')}"),)
        self.inference: Any = native_services.InferenceAPIsServiceStub(self.channel)
        self.open_inference: Any = oip_services.GRPCInferenceServiceStub(self.channel)

    def request(self, model: str = "under_test", **entries: bytes) -> Any:
        """A message for Predictions."""
        return self.native.PredictionsRequest(model_name=model, input=entries)

    def predict(self, **entries: bytes) -> bytes:
        """What Predictions answers to an input map."""
        reply = self.inference.Predictions(
            self.request(**entries), metadata=self.key, timeout=PATIENCE
        )
        return bytes(reply.prediction)

    def tensor(self, *texts: bytes, name: str = "text", **changes: Any) -> Any:
        """An input of ModelInfer."""
        facts = {
            "name": name,
            "shape": [len(texts)],
            "datatype": "BYTES",
            "contents": self.oip.InferTensorContents(bytes_contents=texts),
        }
        return self.oip.ModelInferRequest.InferInputTensor(**{**facts, **changes})

    def infer(self, tensors: Sequence[Any], timeout: float = PATIENCE, **changes: Any) -> Any:
        """What ModelInfer answers."""
        request = self.oip.ModelInferRequest(
            **{"model_name": "under_test", "id": "7", "inputs": tensors, **changes}
        )
        return self.open_inference.ModelInfer(request, metadata=self.key, timeout=timeout)
