"""Clients that others wrote, and the examples, on a live server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import requests
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from open_inference.openapi import InferenceRequest, InferenceResponse, RequestInput, TensorData
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError

from tests.integration.conftest import ModeSite, Site
from tests.integration.grpc_stubs import make
from tests.integration.helpers import close
from tests.serving.helpers import ask
from tests.wrong.by_mode import SAMPLES
from torchscript_bundle.export.archive import VERSION
from torchscript_bundle.server import ROOT

TEXTS = ["We waited an hour for cold soup.", "It works: été."]
EXAMPLES = ROOT / "examples" / "clients"
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
#: Programs of the page and the model that each asks; those that need other packages are left out.
PROGRAMS = [
    (program, re.findall(r"/predictions/(\w+)/", program)[0])
    for program in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    if "langchain" not in program and "llama_index" not in program
]
MODES = {"embeddings": "feature_extraction", "reranker": "reranking"}


def served(*modes: str) -> pytest.MarkDecorator:
    """A test with the servers of some modes, which other files use as well."""
    samples = [sample for sample in SAMPLES if sample.mode in modes]
    assert len(samples) == len(modes)
    return pytest.mark.parametrize("sample", samples, ids=modes)


@pytest.fixture(scope="module")
def headers(tiny_site: Site) -> dict[str, str]:
    return {"Authorization": f"Bearer {tiny_site.server.token('inference')}"}


@pytest.fixture(scope="module")
def expected(tiny_site: Site, headers: dict[str, str]) -> list[Any]:
    """All labels of both texts, in the native form."""
    body = {"inputs": TEXTS, "top_k": None}
    answers: list[Any] = requests.post(
        tiny_site.server.address, json=body, headers=headers, timeout=60
    ).json()
    assert [len(answer) for answer in answers] == [2, 2]
    return answers


def origin(site: Site) -> str:
    return f"http://127.0.0.1:{site.port('inference')}"


def test_kserve_v1_by_requests(
    tiny_site: Site, headers: dict[str, str], expected: list[Any]
) -> None:
    url = origin(tiny_site) + "/v1/models/under_test:predict"
    answer = requests.post(url, json={"instances": TEXTS}, headers=headers, timeout=60)
    assert answer.status_code == 200
    assert close(answer.json()["predictions"], [best for best, _ in expected])


def test_open_inference_by_its_own_client(
    tiny_site: Site, headers: dict[str, str], expected: list[Any]
) -> None:
    with httpx.Client(headers=headers, timeout=60, trust_env=False) as http:
        client = OpenInferenceClient(base_url=origin(tiny_site), httpx_client=http)
        client.check_server_liveness()
        client.check_server_readiness()
        answer = client.model_infer("under_test", request=infer(*TEXTS))
        assert (answer.id, answer.model_name, answer.model_version) == ("7", "under_test", VERSION)
        assert close(elements(answer), [best for best, _ in expected])
        with pytest.raises(ApiError) as caught:
            client.model_infer("under_test", request=infer(" "))
    assert caught.value.status_code == 422
    assert "the text is empty" in caught.value.body["error"]


def infer(*texts: str) -> InferenceRequest:
    tensor = RequestInput(
        name="text", shape=[len(texts)], datatype="BYTES", data=TensorData(__root__=[*texts])
    )
    return InferenceRequest(id="7", inputs=[tensor])


def elements(answer: InferenceResponse) -> list[Any]:
    [output] = answer.outputs
    return [json.loads(str(each)) for each in output.data.__root__]


def test_inference_client_gets_all_labels_of_a_text(
    tiny_site: Site, headers: dict[str, str], expected: list[Any]
) -> None:
    client = InferenceClient(model=tiny_site.server.address, headers=headers)
    for text, wanted in zip(TEXTS, expected, strict=True):
        assert close([dict(each) for each in client.text_classification(text)], wanted)
    assert len(client.text_classification(TEXTS[0], top_k=1)) == 1


def test_inference_client_raises_our_sentence(tiny_site: Site, headers: dict[str, str]) -> None:
    client = InferenceClient(model=tiny_site.server.address, headers=headers)
    with pytest.raises(HfHubHTTPError, match="top_k must be a whole number") as caught:
        client.text_classification("a", top_k=0)
    assert caught.value.response.status_code == 422
    with pytest.raises(HfHubHTTPError, match="a key that is not known"):
        client.text_classification("a", function_to_apply="none")


def test_the_same_body_from_another_client_keeps_its_answer(
    tiny_site: Site, headers: dict[str, str], expected: list[Any]
) -> None:
    body = {"inputs": TEXTS[0], "parameters": {}}
    answer = requests.post(tiny_site.server.address, json=body, headers=headers, timeout=60)
    assert close([answer.json()], [expected[0][0]])


def test_binary_tensors(tiny_site: Site, headers: dict[str, str], expected: list[Any]) -> None:
    """As tritonclient and kserve send them."""
    texts = [text.encode() for text in TEXTS]
    tail = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    head = (
        '{"model_name":"under_test","inputs":[{"name":"text","shape":[2],"datatype":"BYTES",'
        f'"parameters":{{"binary_data_size":{len(tail)}}}}}],'
        '"parameters":{"binary_data_output":true}}'
    ).encode()
    size = {"Inference-Header-Content-Length": str(len(head))}
    url = origin(tiny_site) + "/v2/models/under_test/infer"
    answer = requests.post(url, data=head + tail, headers={**headers, **size}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert close(
        [json.loads(each) for each in answer.json()["outputs"][0]["data"]],
        [best for best, _ in expected],
    )
    cut = requests.post(url, data=head + tail[:-1], headers={**headers, **size}, timeout=60)
    assert cut.status_code == 400
    assert "binary_data_size" in cut.json()["error"]


def run(example: Path, site: Site, *arguments: str) -> list[str]:
    """Lines that an example prints."""
    environment = {**os.environ, "KEY": site.server.token("inference"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, str(example), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_example_with_requests(tiny_site: Site) -> None:
    one, two, wrong = run(EXAMPLES / "with_requests.py", tiny_site, tiny_site.server.address)
    assert one.startswith("{'label':")
    assert two.count("'label'") == 2
    assert wrong == "422 the text is a number; send a string"


def test_example_with_huggingface_hub(tiny_site: Site) -> None:
    lines = run(EXAMPLES / "with_huggingface_hub.py", tiny_site, tiny_site.server.address)
    assert {line.split()[0] for line in lines[:2]} == {"NEGATIVE", "POSITIVE"}
    assert lines[2].startswith("422 the text is empty")


def test_example_with_grpc(tiny_site: Site, tmp_path: Path) -> None:
    make(tmp_path)
    example = tmp_path / "clients" / "with_grpc.py"
    example.parent.mkdir()
    example.write_bytes((EXAMPLES / "with_grpc.py").read_bytes())
    address = f"127.0.0.1:{tiny_site.port('grpc_inference')}"
    lines = run(example, tiny_site, address, "under_test")
    words = [line.split()[0] for line in lines]
    assert words == ["answered:", "answered:", "refused:", "answers"]
    assert lines[1].count("'label'") == 4
    assert lines[3].count("'label'") == 2


def base(site: ModeSite) -> str:
    """The address to which other people's clients add their own."""
    return f"{site.server.address}/{VERSION}"


def key(site: Site) -> dict[str, str]:
    return {"Authorization": f"Bearer {site.server.token('inference')}"}


@served("feature_extraction")
def test_embeddings_of_openai(mode_site: ModeSite) -> None:
    """In base64, which the package asks for by itself, and as numbers."""
    native = ask(mode_site.service, TEXTS)[1]
    name = mode_site.server.model
    with openai.OpenAI(
        base_url=base(mode_site), api_key=mode_site.server.token("inference"), max_retries=0
    ) as client:
        packed = client.embeddings.create(model=name, input=TEXTS)
        assert close([each.embedding for each in packed.data], native)
        assert ([each.index for each in packed.data], packed.model) == ([0, 1], name)
        assert packed.usage.prompt_tokens == packed.usage.total_tokens > len(TEXTS)
        short = client.embeddings.create(
            model=name, input=TEXTS[0], dimensions=8, encoding_format="float"
        )
        shortened = ask(mode_site.service, {"text": TEXTS[0], "dimensions": 8})[1]
        assert close(short.data[0].embedding, shortened)
        with pytest.raises(openai.BadRequestError, match="input holds token ids") as wrong:
            client.embeddings.create(model=name, input=[[1, 2], [3]])
        assert wrong.value.type == "invalid_request_error"
        with pytest.raises(openai.NotFoundError, match=f"this address serves {name}") as other:
            client.embeddings.create(model="text-embedding-3-small", input="a")
        assert other.value.code == "model_not_found"


@served("feature_extraction")
def test_embed_of_text_embeddings_inference(mode_site: ModeSite) -> None:
    """By huggingface_hub, at that address and at the model's own."""
    native = ask(mode_site.service, TEXTS)[1]
    for address in (f"{base(mode_site)}/embed", mode_site.server.address):
        client = InferenceClient(model=address, headers=key(mode_site))
        found = client.feature_extraction(TEXTS, normalize=True, truncation_direction="right")
        assert np.allclose(found, native, atol=1e-5)
        short = client.feature_extraction(TEXTS, dimensions=8, truncate=True)
        assert short.shape == (2, 8)
    with pytest.raises(HfHubHTTPError, match="dimensions must be") as caught:
        client.feature_extraction(TEXTS, dimensions=99)
    assert caught.value.response.status_code == 422
    info = requests.get(f"{base(mode_site)}/info", headers=key(mode_site), timeout=60)
    assert (info.status_code, info.json()["max_input_length"]) == (200, 64)


@served("reranking")
def test_rerank_of_cohere(mode_site: ModeSite) -> None:
    cohere = pytest.importorskip("cohere")
    name, token = mode_site.server.model, mode_site.server.token("inference")
    native = ask(mode_site.service, {"query": "soup", "passages": TEXTS})[1]
    body = {"model": name, "query": "soup", "documents": TEXTS}
    for make_client, more in (
        (cohere.ClientV2, {}),
        (cohere.Client, {"return_documents": True, "rank_fields": ["text"]}),
    ):
        with make_client(token, base_url=base(mode_site)) as client:
            results = client.rerank(**body, top_n=2, **more).results
            assert [each.index for each in results] == [each["index"] for each in native]
            scores = [each["score"] for each in native]
            assert close([each.relevance_score for each in results], scores)
            texts = [each.document.text for each in results if more]
            assert texts == [TEXTS[each.index] for each in results if more]
            with pytest.raises(cohere.UnprocessableEntityError, match="top_n must be a whole"):
                client.rerank(**body, top_n=0)
            with pytest.raises(cohere.NotFoundError, match=f"this address serves {name}"):
                client.rerank(**{**body, "model": "rerank-v3.5"})


@served("reranking")
def test_rerank_of_text_embeddings_inference(mode_site: ModeSite) -> None:
    body = {"query": "soup", "texts": TEXTS, "raw_scores": False, "return_text": True}
    answer = requests.post(
        f"{base(mode_site)}/rerank", json=body, headers=key(mode_site), timeout=60
    )
    native = {"query": "soup", "passages": TEXTS, "return_documents": True}
    assert close(answer.json(), ask(mode_site.service, native)[1])
    wrong = requests.post(f"{base(mode_site)}/embed", json={}, headers=key(mode_site), timeout=60)
    assert wrong.status_code == 424
    assert wrong.json()["error_type"] == "Backend"


@served("sequence_classification")
def test_predict_and_tokenize_of_text_embeddings_inference(mode_site: ModeSite) -> None:
    def post(address: str, value: object) -> Any:
        url = f"{base(mode_site)}/{address}"
        answer = requests.post(url, json=value, headers=key(mode_site), timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    native = ask(mode_site.service, {"inputs": TEXTS, "top_k": None})[1]
    assert close(post("predict", {"inputs": [[text] for text in TEXTS]}), native)
    tokens = post("tokenize", {"inputs": TEXTS, "add_special_tokens": False})
    assert "".join(each["text"] for each in tokens[0]) == TEXTS[0].replace(" ", "")


@pytest.mark.parametrize(
    ("sample", "program"),
    [
        pytest.param(sample, program, id=program.split("import ")[-1].split()[0])
        for program, name in PROGRAMS
        for sample in SAMPLES
        if sample.mode == MODES[name]
    ],
)
def test_programs_of_the_document(mode_site: ModeSite, program: str, tmp_path: Path) -> None:
    if "import cohere" in program:
        pytest.importorskip("cohere")
    [name] = set(re.findall(r"/predictions/(\w+)/", program))
    program = program.replace(
        f"http://127.0.0.1:8080/predictions/{name}/{VERSION}", base(mode_site)
    )
    path = tmp_path / "program.py"
    path.write_text(program.replace(f'"{name}"', f'"{mode_site.server.model}"'))
    assert run(path, mode_site)
