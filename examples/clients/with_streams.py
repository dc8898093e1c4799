"""Reads what a served model writes, token by token, with four clients.

Use: KEY=... python with_streams.py [http://127.0.0.1:8080/predictions/writer [PROMPT]]
"""

import json
import os
import sys

import httpx
import openai
import requests
from huggingface_hub import InferenceClient

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/predictions/writer"
prompt = sys.argv[2] if len(sys.argv) > 2 else "Once upon a time"
key = os.environ["KEY"]
headers = {"Authorization": f"Bearer {key}"}
asked = {"inputs": prompt, "parameters": {"do_sample": False}, "stream": True}


def token(line):
    """The text of an event's line; empty for the lines between them."""
    return json.loads(line[len("data:") :])["token"]["text"] if line.startswith("data:") else ""


def of_httpx():
    with httpx.stream("POST", url, json=asked, headers=headers, timeout=60) as response:
        response.raise_for_status()
        yield from map(token, response.iter_lines())


def of_requests():
    with requests.post(url, json=asked, headers=headers, stream=True, timeout=60) as response:
        response.raise_for_status()
        yield from map(token, response.iter_lines(decode_unicode=True))


def of_huggingface_hub():
    client = InferenceClient(model=url, headers=headers)
    yield from client.text_generation(prompt, stream=True, do_sample=False)


def of_openai():
    # With the model's version in the address. Temperature 0 takes the best token.
    client = openai.OpenAI(base_url=f"{url}/1.0", api_key=key)
    model = url.rpartition("/")[2]
    for piece in client.completions.create(model=model, prompt=prompt, temperature=0, stream=True):
        yield piece.choices[0].text


for read in (of_httpx, of_requests, of_huggingface_hub, of_openai):
    print(read.__name__, repr("".join(read())))
