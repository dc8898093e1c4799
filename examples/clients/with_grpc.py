"""Asks a served classifier over gRPC: TorchServe's own service, then its Open Inference one.

Use: KEY=... python with_grpc.py [127.0.0.1:7070 [reviews]]

The modules that it imports are made from the files in examples/grpc:

    cd examples/grpc
    python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. \
        inference.proto open_inference_grpc.proto google/rpc/status.proto
"""

import json
import os
import sys
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parents[1] / "grpc"))
import inference_pb2 as native
import open_inference_grpc_pb2 as oip
from inference_pb2_grpc import InferenceAPIsServiceStub
from open_inference_grpc_pb2_grpc import GRPCInferenceServiceStub

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7070"
model = sys.argv[2] if len(sys.argv) > 2 else "reviews"
key = [("authorization", f"Bearer {os.environ['KEY']}")]
channel = grpc.insecure_channel(address)

# TorchServe's own service: a text, or any JSON that REST takes, under "data".
stub = InferenceAPIsServiceStub(channel)
for data in (b"Not bad at all.", b'{"inputs": ["It works.", "Never again."], "top_k": 2}', b"[5]"):
    request = native.PredictionsRequest(model_name=model, input={"data": data})
    answer = json.loads(stub.Predictions(request, metadata=key).prediction)
    wrong = isinstance(answer, dict) and "error" in answer
    print("refused:" if wrong else "answered:", answer)

# The Open Inference Protocol: texts in a tensor; in another, answers as JSON (or what was wrong,
# if its name is "error").
texts = oip.InferTensorContents(bytes_contents=[b"It works.", b"Never again."])
tensor = oip.ModelInferRequest.InferInputTensor(
    name="text", shape=[2], datatype="BYTES", contents=texts
)
request = oip.ModelInferRequest(model_name=model, id="7", inputs=[tensor])
[output] = GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=key).outputs
print(output.name, [json.loads(element) for element in output.contents.bytes_contents])
