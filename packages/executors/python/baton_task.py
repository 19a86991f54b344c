"""Baton's side of a task that is a Python program. One file, standard library only, Python 3.8 or newer.

    import baton_task

    def main(task):
        state = task.load() or {"epoch": 0}
        for epoch in range(state["epoch"], task.input["epochs"]):
            ...
            task.progress((epoch + 1) / task.input["epochs"], "loss 0.1")
            task.save({"epoch": epoch + 1})
        return {"epochs": task.input["epochs"]}

    if __name__ == "__main__":
        baton_task.run(main)

A worker puts this file's directory on PYTHONPATH, so that `import baton_task` is enough there; copy the file to have it elsewhere.
Started by hand, without a worker, the same program runs as well: its input is the JSON of its first argument, or null.

The protocol that it speaks is described in docs/reference/task-protocol.md.
"""

import base64
import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
import sys
import threading
import traceback

PROTOCOL = 1
_INLINE = 64 * 1024


class Stopped(Exception):
    """The attempt has to end: `reason` is cancel, timeout, hand-back or lost. Raised by `check`, and by waits that cannot be answered."""

    def __init__(self, reason, message=""):
        super().__init__(message or reason)
        self.reason = reason


class Refused(Exception):
    """The worker, or the master, did not take what was sent."""


class NonRetryable(Exception):
    """The task failed, and no further attempt makes sense."""


class RetryAfter(Exception):
    """The task failed; the next attempt comes after so many seconds."""

    def __init__(self, seconds, message="try again later"):
        super().__init__(message)
        self.seconds = seconds


class AttemptFailure(Exception):
    """The task failed in a way of its own: NETWORK_ERROR, GPU_ERROR (with the device's UUID), OUT_OF_MEMORY, UNKNOWN."""

    def __init__(self, failure_type, message, device=None):
        super().__init__(message)
        self.failure_type = failure_type
        self.device = device


class Task:
    """One attempt. Its methods may be called by any thread."""

    def __init__(self, link, start):
        self._link = link
        self.id = start["task_id"]
        self.kind = start["kind"]
        #: 1 for the first attempt.
        self.attempt = start["attempt"]
        self.max_attempts = start["max_attempts"]
        #: Rises with each lease of the task: a fencing token for writes elsewhere.
        self.epoch = start["epoch"]
        self.run_id = start.get("run_id")
        self.node_id = start.get("node_id")
        #: For files of one's own; it goes with the attempt.
        self.directory = start["directory"]
        self.input_file = start["input_file"]
        #: UUIDs of the devices that the task has.
        self.devices = start.get("devices", [])
        #: Number of the newest checkpoint; 0: none.
        self.checkpoint = start.get("checkpoint", 0)
        #: Files that the task is handed: their paths by name, for reading.
        self.artifacts = {name: each["file"] for name, each in start.get("artifacts", {}).items()}
        #: A directory with all of them.
        self.artifacts_in = start.get("artifacts_in")
        #: A directory: what lies there when the task succeeds is kept, under the names of the files.
        self.artifacts_out = start.get("artifacts_out")
        self._start = start
        self._input = None
        self._has_input = False
        self._files = itertools.count(1)

    @property
    def input(self):
        """The input: what its JSON says, or bytes."""
        if not self._has_input:
            if "input" in self._start:
                self._input = self._start["input"]
            else:
                with open(self.input_file, "rb") as file:
                    data = file.read()
                self._input = json.loads(data or b"null") if self._start["encoding"] == "json" else data
            self._has_input = True
        return self._input

    # ---- what it tells

    def progress(self, fraction=None, message=None):
        """How far it is, from 0 to 1, and what it does. Each call is a sign of life."""
        self._link.send({"type": "progress", "fraction": fraction, "message": message})

    def log(self, *words):
        self._link.send({"type": "log", "text": " ".join(str(word) for word in words)})

    def metric(self, name, value, step=None):
        self._link.send({"type": "metric", "name": name, "value": float(value), "step": step})

    def output(self, data):
        """Adds text or bytes to what the task streams. Returns when there is room for more."""
        if isinstance(data, str):
            self._link.call({"type": "output", "text": data})
        else:
            self._link.call({"type": "output", "base64": base64.b64encode(data).decode()})

    # ---- checkpoints

    def save(self, value, score=None, metadata=None):
        """Saves where the task stands: bytes, or anything that JSON can say. Returns its number when it is durable, and never before."""
        message = {"type": "save_checkpoint", "score": score, "metadata": metadata}
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._save_file(message, bytes(value), "bytes")
        text = json.dumps(value)
        if len(text) > _INLINE:
            return self._save_file(message, text.encode(), "json")
        return self._saved(dict(message, value=value))

    def save_file(self, path, score=None, metadata=None):
        """Saves the bytes of a file, of 100 MiB at most."""
        message = {"type": "save_checkpoint", "score": score, "metadata": metadata, "encoding": "bytes"}
        real = os.path.realpath(path)
        if real.startswith(os.path.realpath(self.directory) + os.sep):
            return self._saved(dict(message, file=os.path.relpath(real, os.path.realpath(self.directory))))
        with open(path, "rb") as file:
            return self._save_file(message, file.read(), "bytes")

    def load(self, number=None):
        """The newest checkpoint, or one by its number: bytes, or what its JSON says; None where there is none."""
        answer = self._load(number)
        if answer is None:
            return None
        if "value" in answer:
            return answer["value"]
        try:
            with open(answer["file"], "rb") as file:
                data = file.read()
        finally:
            _remove(answer["file"])
        return json.loads(data) if answer["encoding"] == "json" else data

    def load_file(self, number=None):
        """As `load`, as the path of a file that is the task's own; None where there is no checkpoint."""
        answer = self._load(number)
        return answer and answer["file"]

    @property
    def checkpoint_wanted(self):
        """Whether the worker, which is about to go, has asked for a checkpoint that was not saved yet."""
        return self._link.checkpoint_wanted

    def skip_checkpoint(self):
        """Answers the worker that there is nothing to save: the newest checkpoint will do."""
        self._link.checkpoint_wanted = False
        self._link.send({"type": "checkpoint_skipped"})

    # ---- artifacts

    def put(self, name, source):
        """Leaves a file to others under this name: the one at a path, as it is now, or these bytes. It is there once the task has succeeded,
        and never without that; of two of one name the later counts. What it gives names the file: to be a part of the result, where others
        are to be handed it."""
        if self.artifacts_out is None:
            raise Refused("this worker knows no artifacts of programs")
        if isinstance(source, (bytes, bytearray, memoryview)):
            file = self._write(bytes(source))
        else:
            file = self._bring(source)
        try:
            return self._link.call({"type": "put_artifact", "name": name, "file": file})["artifact"]
        finally:
            _remove(os.path.join(self.directory, file))

    # ---- its end

    @property
    def stopping(self):
        """Whether the attempt has to end: soon it is ended."""
        return self._link.stopped is not None

    @property
    def stop_reason(self):
        return self._link.stopped and self._link.stopped["reason"]

    def check(self):
        """Raises `Stopped` when the attempt has to end."""
        stopped = self._link.stopped
        if stopped is not None:
            raise Stopped(stopped["reason"], stopped.get("message", ""))

    def wait_for_stop(self, seconds=None):
        """Sleeps, but no longer than until the attempt has to end; returns whether it has to."""
        return self._link.stop_event.wait(seconds)

    def result(self, value=None):
        """Ends the task with this output: bytes, or anything that JSON can say."""
        if isinstance(value, (bytes, bytearray, memoryview)):
            self._link.send({"type": "result", "file": self._write(bytes(value)), "encoding": "bytes"})
            return
        text = json.dumps(value)
        if len(text) > _INLINE:
            self._link.send({"type": "result", "file": self._write(text.encode()), "encoding": "json"})
        else:
            self._link.send({"type": "result", "value": value})

    def result_file(self, path, encoding="bytes"):
        """Ends the task with the bytes of a file."""
        with open(path, "rb") as file:
            self._link.send({"type": "result", "file": self._write(file.read()), "encoding": encoding})

    def fail(self, error):
        """Ends the attempt with this exception."""
        stack = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self._link.send(
            {
                "type": "failure",
                "message": str(error) or type(error).__name__,
                "exception_type": _name_of(type(error)),
                "stack": stack,
                "non_retryable": True if isinstance(error, NonRetryable) or getattr(error, "non_retryable", False) else None,
                "retry_after_ms": round(error.seconds * 1000) if isinstance(error, RetryAfter) else None,
                "failure_type": getattr(error, "failure_type", None),
                "device": getattr(error, "device", None),
            }
        )

    def _load(self, number):
        message = {"type": "load_checkpoint"}
        if number is not None:
            message["number"] = number
        answer = self._link.call(message)
        return answer if answer.get("found") else None

    def _saved(self, message):
        number = self._link.call(message)["number"]
        self.checkpoint = max(self.checkpoint, number)
        self._link.checkpoint_wanted = False
        return number

    def _save_file(self, message, data, encoding):
        name = self._write(data)
        try:
            return self._saved(dict(message, file=name, encoding=encoding))
        finally:
            _remove(os.path.join(self.directory, name))

    def _bring(self, path):
        """A second name of a file in the task's directory, or a copy."""
        name = self._new_name()
        real = os.path.realpath(path)
        if not os.path.isfile(real):
            raise FileNotFoundError("%s is no file; of a directory put the files one by one, or pack it" % path)
        try:
            os.link(real, os.path.join(self.directory, name))
        except OSError:
            shutil.copyfile(real, os.path.join(self.directory, name))
        return name

    def _new_name(self):
        return "file-%d-%d" % (os.getpid(), next(self._files))

    def _write(self, data):
        name = self._new_name()
        with open(os.path.join(self.directory, name), "wb") as file:
            file.write(data)
        return name


class _Link:
    """The lines of JSON that go to the worker and come from it."""

    def __init__(self, receive, send):
        self._receive = receive
        self._send = send
        self._sending = threading.Lock()
        self._waiting = {}
        self._waiting_lock = threading.Lock()
        self._ids = itertools.count(1)
        self._starts = []
        self._has_start = threading.Condition()
        self._ended = False
        self.on_checkpoint = None
        self.new_task()
        threading.Thread(target=self._read, name="baton", daemon=True).start()

    def new_task(self):
        self.stopped = None
        self.stop_event = threading.Event()
        self.checkpoint_wanted = False

    def send(self, message):
        line = json.dumps({key: value for key, value in message.items() if value is not None or key == "value"})
        with self._sending:
            try:
                self._send(line.encode() + b"\n")
            except OSError:
                # The worker has gone; the reader ends this program.
                pass

    def call(self, message):
        number = next(self._ids)
        waiter = {"event": threading.Event(), "answer": None}
        with self._waiting_lock:
            self._waiting[number] = waiter
        self.send(dict(message, id=number))
        waiter["event"].wait()
        answer = waiter["answer"]
        if answer["type"] == "refused":
            if self.stopped is not None:
                raise Stopped(self.stopped["reason"], answer["message"])
            raise Refused(answer["message"])
        return answer

    def next_start(self):
        with self._has_start:
            while not self._starts and not self._ended:
                self._has_start.wait()
            return self._starts.pop(0) if self._starts else None

    def _read(self):
        rest = b""
        while True:
            try:
                data = self._receive(65536)
            except OSError:
                data = b""
            if not data:
                break
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            for line in lines:
                if line:
                    self._take(json.loads(line))
        self._end()

    def _take(self, message):
        kind = message["type"]
        if kind == "start":
            with self._has_start:
                self._starts.append(message)
                self._has_start.notify_all()
        elif kind == "stop":
            self.stopped = message
            self.stop_event.set()
        elif kind == "checkpoint_now":
            self.checkpoint_wanted = True
            if self.on_checkpoint is not None:
                self.on_checkpoint()
        elif "id" in message:
            with self._waiting_lock:
                waiter = self._waiting.pop(message["id"], None)
            if waiter is not None:
                waiter["answer"] = message
                waiter["event"].set()
        elif kind == "refused":
            sys.stderr.write("baton: %s\n" % message["message"])

    def _end(self):
        """The worker has gone, and with it the lease: somebody else may have the task. Nothing of this program may live on."""
        with self._has_start:
            self._ended = True
            self._has_start.notify_all()
        if os.environ.get("BATON_TASK_FD_IN") and hasattr(os, "killpg") and os.getpgrp() == os.getsid(0):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(70)


class _Alone:
    """For a program that no worker started: what it tells goes to standard error, and its checkpoints nowhere."""

    stopped = None
    checkpoint_wanted = False
    on_checkpoint = None

    def __init__(self):
        self.stop_event = threading.Event()

    def new_task(self):
        pass

    def send(self, message):
        if message["type"] == "result" and "value" in message:
            print(json.dumps(message["value"]))
        elif message["type"] != "failure":
            sys.stderr.write(json.dumps({key: value for key, value in message.items() if value is not None}) + "\n")

    def call(self, message):
        self.send(message)
        answer = {"type": "alone", "found": False, "number": 0}
        if message["type"] == "put_artifact":
            answer["artifact"] = self._artifact(message["name"], os.path.join(self._directory, message["file"]))
        return answer

    def _artifact(self, name, path):
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            for data in iter(lambda: file.read(1 << 20), b""):
                digest.update(data)
        return {"__baton": "artifact", "name": name, "sha256": digest.hexdigest(), "sizeBytes": os.path.getsize(path)}

    def next_start(self):
        import tempfile

        directory = self._directory = tempfile.mkdtemp(prefix="baton-task-")
        for name in ("in", "out"):
            os.mkdir(os.path.join(directory, name))
        given = json.loads(sys.argv[1]) if len(sys.argv) > 1 else None
        return {
            "task_id": "0",
            "kind": os.path.basename(sys.argv[0]),
            "attempt": 1,
            "max_attempts": 1,
            "epoch": 0,
            "directory": directory,
            "input_file": os.path.join(directory, "input"),
            "artifacts_in": os.path.join(directory, "in"),
            "artifacts_out": os.path.join(directory, "out"),
            "input": given,
            "encoding": "json",
        }


_link = None


def connect(saves=False, stops=True, reusable=False):
    """The task that this program was started for. `saves`: it looks at `checkpoint_wanted`; `stops`: it looks at `stopping`."""
    global _link
    if _link is None:
        reads, writes = os.environ.get("BATON_TASK_FD_IN"), os.environ.get("BATON_TASK_FD_OUT")
        path = os.environ.get("BATON_TASK_SOCKET")
        if reads and writes:
            os.set_inheritable(int(reads), False)
            os.set_inheritable(int(writes), False)
            _link = _Link(lambda size: os.read(int(reads), size), lambda data: _write_all(int(writes), data))
        elif path:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(path)
            _link = _Link(connection.recv, connection.sendall)
        else:
            _link = _Alone()
        _link.send({"type": "hello", "protocol": PROTOCOL, "stops": stops, "saves": saves, "reusable": reusable})
    start = _link.next_start()
    return start and Task(_link, start)


def run(main, saves=True, reusable=False):
    """Runs `main(task)` and ends the task with what it returns, or with what it raises; then ends the program.

    `saves`: `main` looks at `task.checkpoint_wanted` and saves when it is set (or calls `task.skip_checkpoint()`).
    `reusable`: `main` may be called again, for the next task of the same command (see keep_warm).
    """
    while True:
        task = connect(saves=saves, reusable=reusable)
        if task is None:
            sys.exit(0)
        failed = False
        try:
            result = main(task)
            _flush()
            task.result(result)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: B902
            failed = True
            if not isinstance(error, Stopped):
                traceback.print_exc()
            _flush()
            task.fail(error)
        if not reusable or isinstance(_link, _Alone):
            sys.exit(1 if failed else 0)
        _link.new_task()


def _write_all(descriptor, data):
    while data:
        data = data[os.write(descriptor, data) :]


def _flush():
    sys.stdout.flush()
    sys.stderr.flush()


def _name_of(kind):
    return kind.__name__ if kind.__module__ in ("builtins", "__main__") else "%s.%s" % (kind.__module__, kind.__name__)


def _remove(path):
    try:
        os.remove(path)
    except OSError:
        pass
