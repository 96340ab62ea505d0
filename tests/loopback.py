"""A hub on this machine: as much of the Hugging Face hub's interface as its own client calls, over HTTP on loopback.

Repositories are dictionaries. `HUB.lies` makes the hub lie, `HUB.asked` tells what it was asked for.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "x" * 34


@dataclass
class Repository:
    """Commits by their hash, branches by their name."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    messages: list[str] = field(default_factory=list)

    def commit(self, files, branch="main", message=""):
        """The next commit of a branch: its files, with some others or None in the place of some."""
        now = {**self.commits[self.branches[branch]], **files}
        now = {name: content for name, content in now.items() if content is not None}
        sha = hashlib.sha1(repr((self.branches[branch], sorted(now.items()))).encode()).hexdigest()
        self.commits[sha] = now
        self.branches[branch] = sha
        self.messages.append(message)
        return sha


class Hub:
    """Repositories by OWNER/NAME, and what clients asked for: method and path, in their order."""

    def __init__(self):
        self.repositories = {}
        self.asked = []
        self.lies = {}  # path -> (size that is told, bytes that are sent); "sha", "info", "status" of answers
        self.held = {}  # path -> event, for which its second half waits
        self.reached = threading.Event()  # something waits
        self.objects = {}

    def downloads(self):
        """Names of the files that were asked for."""
        found = (re.fullmatch(r"GET /[^/]+/[^/]+/resolve/[^/]+/(.+)", line) for line in self.asked)
        return [match[1] for match in found if match]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    hub: Hub

    def log_message(self, *_):
        pass

    def answer(self, status=200, body=b"", headers=(), told=None):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        if told != "chunked":
            self.send_header("Content-Length", str(len(content) if told is None else told))
        self.end_headers()
        if self.command != "HEAD":
            half = len(content) // 2
            self.wfile.write(content[:half])
            if (held := self.hub.held.get(self.path.rpartition("/")[2])) is not None:
                self.wfile.flush()
                self.hub.reached.set()
                held.wait(60)
            self.wfile.write(content[half:])

    def refuse(self, status, code, message=""):
        self.answer(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message or code})

    def handle_any(self):
        with suppress(ConnectionError):  # a client that was killed
            self.handle_one()

    def handle_one(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        self.signed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if "status" in self.hub.lies:
            return self.answer(self.hub.lies["status"])
        for pattern, method in ROUTES:
            if (found := re.fullmatch(pattern, f"{self.command} {path}")) is not None:
                return method(self, body, **found.groupdict())
        return self.answer(404, {"error": path})

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def found(self, name, revision="main", write=False):
        """Repository and commit; None after an answer that tells why there are none."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self.signed):
            self.refuse(404 if self.signed else 401, "RepoNotFound")
        elif write and not self.signed:
            self.refuse(401, "", "Invalid credentials in Authorization header")
        else:
            commit = repository.branches.get(revision, revision)
            if commit in repository.commits:
                return repository, commit
            self.refuse(404, "RevisionNotFound")
        return None

    # --- reading ---

    def info(self, _, name, revision="main"):
        if (found := self.found(name, revision or "main")) is not None:
            repository, commit = found
            siblings = [{"rfilename": path} for path in repository.commits[commit]]
            private = {"private": repository.private, "gated": "manual" if repository.gated else False}
            sha = self.hub.lies.get("sha", commit)
            if "info" in self.hub.lies:
                return self.answer(body=self.hub.lies["info"])
            self.answer(body={"id": name, "sha": sha, "siblings": siblings, "tags": [], **private})
        return None

    def resolve(self, _, name, revision, path):
        if (found := self.found(name, revision)) is None:
            return
        repository, commit = found
        content = repository.commits[commit].get(path)
        marks = {"X-Repo-Commit": commit}
        if repository.gated and not self.signed:
            self.refuse(403, "GatedRepo")
        elif content is None:
            self.answer(404, b"", {**marks, "X-Error-Code": "EntryNotFound"})
        else:
            told, sent = self.hub.lies.get(path, (len(content), content))
            whole = self.command == "HEAD"
            marks |= {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "Connection": "close"}
            self.answer(200, sent, marks, told if whole else "chunked")

    # --- writing ---

    def create(self, body):
        if not self.signed:
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            return self.answer(409, {"url": name, "error": "You already created this model repo"})
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private=bool(private))
        return self.answer(body={"url": f"http://{self.headers['Host']}/{name}"})

    def yaml(self, body):
        self.answer(body={"errors": [], "warnings": []})

    def branch(self, body, name, branch):
        if (found := self.found(name, write=True)) is not None:
            repository, commit = found
            if branch in repository.branches:
                return self.answer(409, {"error": "Reference already exists"})
            repository.branches[branch] = commit
            self.answer()
        return None

    def preupload(self, body, name, revision):
        if self.found(name, revision, write=True) is not None:
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = ["lfs" if path.endswith(".safetensors") else "regular" for path in paths]
            files = [
                {"path": path, "uploadMode": mode, "shouldIgnore": False}
                for path, mode in zip(paths, modes, strict=True)
            ]
            self.answer(body={"files": files})

    def batch(self, body, name):
        host = f"http://{self.headers['Host']}"
        objects = [
            {**o, "actions": {"upload": {"href": f"{host}/objects/{o['oid']}"}}} for o in json.loads(body)["objects"]
        ]
        self.answer(body={"transfer": "basic", "objects": objects})

    def put(self, body, oid):
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.objects[oid] = body
        self.answer()

    def commit(self, body, name, revision):
        if (found := self.found(name, revision, write=True)) is not None:
            files, message = {}, ""
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "header":
                    message = value["summary"]
                elif entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    files[value["path"]] = self.hub.objects[value["oid"]]
            sha = found[0].commit(files, revision, message)
            self.answer(body={"commitUrl": f"http://{self.headers['Host']}/{name}/commit/{sha}", "commitOid": sha})


_NAME = r"(?P<name>[^/]+/[^/]+)"
ROUTES = [
    (rf"GET /api/models/{_NAME}(?:/revision/(?P<revision>.+))?", Handler.info),
    (rf"(?:GET|HEAD) /{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.resolve),
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.yaml),
    (rf"POST /api/models/{_NAME}/branch/(?P<branch>.+)", Handler.branch),
    (rf"POST /api/models/{_NAME}/preupload/(?P<revision>.+)", Handler.preupload),
    (rf"POST /api/models/{_NAME}/commit/(?P<revision>.+)", Handler.commit),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /objects/(?P<oid>[0-9a-f]{64})", Handler.put),
]


@contextmanager
def loopback():
    """A hub, and the address that `HF_ENDPOINT` takes."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
