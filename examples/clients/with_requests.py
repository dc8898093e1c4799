"""Asks a served classifier with requests.

Use: KEY=... python with_requests.py [http://127.0.0.1:8080/predictions/reviews]
"""

import os
import sys

import requests

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/predictions/reviews"
session = requests.Session()
session.headers["Authorization"] = f"Bearer {os.environ['KEY']}"

print(session.post(url, json={"text": "Not bad at all."}, timeout=60).json())
print(session.post(url, json=["It works.", "Never again."], timeout=60).json())

# A wrong request gets a status of 400 or more, and a sentence that says what to send.
answer = session.post(url, json={"text": 5}, timeout=60)
print(answer.status_code, answer.json()["error"])
