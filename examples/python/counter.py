"""A durable counter. Needs `tidegate serve`; docs/json.md of Tidegate has all that an action may answer.

    pip install -r requirements.txt
    python counter.py
    curl localhost:9001/api/v1/system/demo/actors/counter/invoke -H 'content-type: application/json' -d '{"action": "increment"}'
"""
import json, os, urllib.request
from flask import Flask, request

PORT, PROXY = os.environ.get("USER_FUNCTION_PORT", "8090"), os.environ.get("PROXY_HTTP_PORT", "9001")
app = Flask(__name__)

@app.post("/api/v1/actors/actions")
def act():
    call = request.get_json()
    by = (call["payload"] or {}).get("by", 1)
    if by < 1:
        return {"reason": "it only counts up"}, 422  # the state stays; the caller gets this
    count = {"count": (call["state"] or {"count": 0})["count"] + by}
    return {"self": call["self"], "state": count, "payload": count}

def register():
    actors = [{"name": "counter", "actions": ["increment"]}]
    headers = {"content-type": "application/json", "tidegate-host": f"http://127.0.0.1:{PORT}"}
    body = json.dumps({"system": "demo", "actors": actors}).encode()
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{PROXY}/api/v1/system", body, headers))

if __name__ == "__main__":
    register()
    app.run(port=int(PORT), threaded=True)
