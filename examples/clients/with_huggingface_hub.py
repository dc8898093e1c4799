"""Asks a served classifier with the InferenceClient of huggingface_hub.

Use: KEY=... python with_huggingface_hub.py [http://127.0.0.1:8080/predictions/reviews]
"""

import os
import sys

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/predictions/reviews"
client = InferenceClient(model=url, token=os.environ["KEY"])

for element in client.text_classification("Not bad at all."):
    print(element.label, element.score)

try:
    client.text_classification(" ")
except HfHubHTTPError as error:
    print(error.response.status_code, error.response.json()["error"])
