"""Servers with the APIs of PowerDNS and of OnApp, as far as their documentation goes, in a thread.

https://doc.powerdns.com/authoritative/http-api/zone.html,
https://docs.onapp.com/apim/latest/dns-zones (records of a zone).
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ZONE = "example.com"
Answered = tuple[int, Any]
_TOO_LONG = re.compile(r'"[^"]{256,}"')


class API:
    """What the fakes share: ``respond`` is the service, ``fail`` an answer in place of the next."""

    token = "s3cret-token"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []  # methods and paths
        self.fail: list[tuple[str, int, dict[str, str], str]] = []
        self.lose: list[str] = []  # methods whose next answer does not come, though it is done
        self.url = ""
        self.lock = threading.Lock()

    def respond(self, method: str, path: str, headers: Any, body: Any) -> Answered:
        raise NotImplementedError

    def values(self, name: str) -> list[str]:
        raise NotImplementedError

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                text = self.rfile.read(length).decode()
                path = self.path.partition("?")[0]
                with api.lock:
                    api.asked.append((self.command, path))
                    if api.fail and api.fail[0][0] == self.command:
                        _, status, headers, said = api.fail.pop(0)
                        self.answer(status, said, headers)
                        return
                    body = json.loads(text) if text else None
                    status, found = api.respond(self.command, path, self.headers, body)
                    if self.command in api.lose:
                        api.lose.remove(self.command)
                        self.close_connection = True
                        return
                self.answer(status, "" if found is None else json.dumps(found), {})

            def answer(self, status: int, text: str, headers: dict[str, str]) -> None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class PowerDNS(API):
    """Whole record sets; names end in a dot, TXT is quoted, and each string has 255 bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sets: dict[str, dict[str, Any]] = {}

    def values(self, name: str) -> list[str]:
        records = self.sets.get(f"{name}.", {}).get("records", [])
        return [record["content"][1:-1] for record in records]

    def respond(self, method: str, path: str, headers: Any, body: Any) -> Answered:
        if headers.get("X-API-Key") != self.token:
            return 401, {"error": "Unauthorized"}
        zone = f"/api/v1/servers/localhost/zones/{ZONE}."
        if method == "GET" and path == zone:
            return 200, {"name": f"{ZONE}.", "kind": "Master", "rrsets": list(self.sets.values())}
        if method == "PUT" and path in (f"{zone}/notify", f"{zone[:-1]}/notify"):
            return 200, {"result": "Notification queued"}
        if method == "PATCH" and path == zone:
            return self._change(body["rrsets"])
        return 404, {"error": "Not Found"}

    def _change(self, sets: list[dict[str, Any]]) -> Answered:
        for one in sets:
            name, records = one["name"], one["records"]
            texts = [record["content"] for record in records]
            if not name.endswith(f"{ZONE}.") or one["type"] != "TXT":
                return 422, {"error": f"RRset {name} IN {one['type']}: Name is out of zone"}
            for text in texts:
                if not re.fullmatch(r'"[^"]+"( "[^"]+")*', text) or _TOO_LONG.search(text):
                    return 422, {"error": f"Record {name}/TXT '{text}': Not in expected format"}
            if len(set(texts)) != len(texts):
                return 422, {"error": f"Duplicate record in RRset {name} IN TXT"}
            self.sets.pop(name, None)
            if one["changetype"] == "REPLACE" and records:
                kept = {"name": name, "type": "TXT", "ttl": one["ttl"], "comments": []}
                self.sets[name] = {**kept, "records": records}
        return 204, None


class OnApp(API):
    """Single records with numbers; the same may be added twice, and then is there twice."""

    user = "admin@example.net"

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[int, dict[str, Any]] = {}
        self.last = 0

    def values(self, name: str) -> list[str]:
        label = name.removesuffix(f".{ZONE}")
        return [record["txt"] for record in self.records.values() if record["name"] == label]

    def respond(self, method: str, path: str, headers: Any, body: Any) -> Answered:
        wanted = base64.b64encode(f"{self.user}:{self.token}".encode()).decode()
        if headers.get("Authorization") != f"Basic {wanted}":
            return 401, {"errors": ["You are not authorized to access this page."]}
        if (method, path) == ("GET", "/dns_zones.json"):
            return 200, [{"dns_zone": {"id": 7, "name": ZONE}}]
        if (method, path) == ("GET", "/dns_zones/7/records.json"):
            types = defaultdict(list)
            for record in self.records.values():
                types["TXT"].append({"dns_record": record})
            return 200, {"dns_zone": {"id": 7, "name": ZONE, "records": types}}
        if (method, path) == ("POST", "/dns_zones/7/records.json"):
            record = body["dns_record"]
            if record["type"] != "TXT" or len(record["txt"]) > 255 or int(record["ttl"]) < 1:
                return 422, {"errors": {"txt": ["is invalid"]}}
            self.last += 1
            self.records[self.last] = {"id": self.last, **record}
            return 201, {"dns_record": self.records[self.last]}
        found = re.fullmatch(r"/dns_zones/7/records/(\d+)\.json", path)
        if method == "DELETE" and found and self.records.pop(int(found[1]), None):
            return 204, None
        return 404, {"errors": ["DnsZone not found"]}
