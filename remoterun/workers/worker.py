"""One worker process as the node holds it: its sockets and pipes.

Whose output is it? A warm worker begins further calls by itself, and nothing that it writes says which call wrote it:
the script may write with `os.write`, from C, from a process of its own. It is known all the same, by two rules.

- *The worker begins no call while anything stands unread in its pipes.* It looks once a call has ended, and all
  that the call started has. What it finds it tells with the reply (OUTPUT), and waits for the node's word. So what
  stands in the pipes is of one call.
- *The node reads a pipe once for each time that it has seen bytes in it, and has taken every reply that was there
  afterwards.* The bytes that it saw stay until it reads them, so the call that wrote them is under way, or has
  replied with OUTPUT; every call before has replied. A reply with OUTPUT is followed by a read of all pipes to
  their end, and only then by the word to go on: after it, what was seen before counts as seen no more.

Hence the first call without a reply is the one whose bytes are read.
"""

from __future__ import annotations

import array
import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable

from remoterun.workers import frames
from remoterun.workers.calls import CallQueue
from remoterun.workers.pipes import Pipes, has_news
from remoterun.workers.readers import Readers
from remoterun.workers.run import Run

logger = logging.getLogger(__name__)

_REPLY = 8192  # bytes: larger than most replies, and small enough to be had without a look at the heap
_LARGE = 2**18  # bytes of a large reply read at once
_READS_OF_REPLIES = 64  # more than what a socket holds
_LARGEST_ERROR = 2**20  # bytes of a reply that tells of an error: its texts are bounded where they are made


class Worker:
    """A worker process: its sockets and pipes.

    Parameters:
        pid, folder: as the fork server said.
        fds: its control socket, stdout, stderr and progress pipe, in this order; none of them blocks.
        readers: tells when there is something to read.
        on_reply: called with each reply's flags and the name of the folder that holds what the call left.
        on_broken: called when what it sends is no reply: nothing of it can be understood any more.
    """

    __slots__ = (
        "_calls",
        "_control",
        "_frames",
        "_is_shared",
        "_is_writer",
        "_loop",
        "_readers",
        "_seen",
        "_unsent",
        "ahead",
        "folder",
        "idle_since",
        "is_warm",
        "leaving",
        "on_broken",
        "on_reply",
        "pid",
        "pipes",
        "run",
    )

    def __init__(self, pid: int, folder: str, fds: list[int], readers: Readers) -> None:
        self.pid = pid
        self.folder = folder
        self.pipes = Pipes(fds[1:], readers, self._may_read)
        self.run: Run | None = None
        self.ahead: deque[Run] = deque()  # calls that it begins by itself, one after the other
        self.is_warm = False
        self.idle_since = 0.0
        self.on_reply: Callable[[Worker, int, str], None] | None = None
        self.leaving: asyncio.Task[None] | None = None  # what a call left is being taken from the folder
        self.on_broken: Callable[[Worker], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._readers = readers
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fds[0])
        self._calls: CallQueue | None = None
        self._is_shared = False  # whether the worker has its end of the queue
        self._frames = frames.Frames()
        self._seen = 0  # how often what was seen in the pipes has become void
        self._unsent = b""
        self._is_writer = False  # the loop tells when there is room for more

    def begin(self, run: Run, message: bytes) -> None:
        """Give the worker its first job."""
        self._frames.largest = run.assignment.program.result + _LARGEST_ERROR
        if self.is_warm:
            self._calls = CallQueue()
        self.began(run)
        self._post(message)
        self._readers.add(self._control.fileno(), self._read_control)
        self.pipes.watch_progress()

    def call(self, run: Run, message: bytes) -> None:
        """Give an idle warm worker a call."""
        self.began(run)
        assert self._calls is not None
        if not self._calls.put(message):
            self._calls.put(frames.LARGE)
            self._post(message)

    def call_ahead(self, run: Run, message: bytes) -> bool:
        """Give a busy warm worker a call for after those that it has; False where it cannot take it."""
        assert self._calls is not None
        if not self._calls.put(message):
            return False
        self.ahead.append(run)
        return True

    def take_back(self) -> tuple[list[Run], bool]:
        """Take back the calls that it was given ahead and has not begun.

        Returns the calls, and whether the present one had not begun either: it is left to the worker, if that lives.
        """
        if self._calls is None:
            return [], False
        messages = {_job_of(message): message for message in self._calls.take_back()}
        own = None
        if self.run is not None:
            own = messages.pop(frames.LARGE, None) or messages.pop(self.run.assignment.job_id.encode(), None)
            if own is not None:
                self._calls.put(own)
        returned = [run for run in self.ahead if run.assignment.job_id.encode() in messages]
        self.ahead = deque(run for run in self.ahead if run.assignment.job_id.encode() not in messages)
        return returned, own is not None

    def began(self, run: Run) -> None:
        """Take it that the worker runs this call now."""
        self.run = run
        run.worker = self
        run.began = self._loop.time()
        self.pipes.begin(run)

    def ended(self) -> None:
        """Take it that the worker runs no call."""
        self.run = self.pipes.run = None

    def _post(self, body: bytes) -> None:
        self._unsent += frames.frame(body)
        self._send()

    def _send_some(self) -> int:
        if self._is_shared or self._calls is None:
            return self._control.send(self._unsent)
        with_it = array.array("i", [self._calls.theirs.fileno()])
        sent = self._control.sendmsg([self._unsent], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, with_it)])
        self._is_shared = True
        return sent

    def _send(self) -> None:
        fd = self._control.fileno()
        if fd < 0:
            return
        try:
            sent = self._send_some()
        except BlockingIOError:
            sent = 0
        except OSError:  # it is dead: the fork server will say how
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.add_writer(fd, self._send)
        elif self._is_writer:
            self._loop.remove_writer(fd)
        self._is_writer = bool(self._unsent)

    def _read_control(self) -> bool:
        """Read once; False when nothing more comes."""
        try:
            data = self._control.recv(
                _REPLY if not self._frames.missing else min(self._frames.missing + _REPLY, _LARGE)
            )
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._readers.remove(self._control.fileno())
            return False
        try:
            for body in self._frames.feed(data):
                self._take_reply(body)
        except ValueError as error:
            self._break(str(error))
            return False
        return True

    def _break(self, reason: str) -> None:
        """Take it that the worker sends what is no reply."""
        logger.warning("worker %d sends what is no reply: %s", self.pid, reason)
        self._readers.remove(self._control.fileno())
        if self.run is not None and self.run.reply is None:
            self.run.reply = (0, b"")
        if self.on_broken is not None:
            self.on_broken(self)

    def read_replies(self) -> bool:
        """Take every reply that the worker has sent by now; False where it sends on and on."""
        reads = 0
        while self._control.fileno() >= 0 and self._read_control():
            reads += 1
            if reads == _READS_OF_REPLIES:  # a process that the job left may go on writing
                return False
        return True

    def _take_reply(self, body: bytes) -> None:
        run = self.run
        if run is None or len(body) < 2 or run.reply is not None:
            return
        flags = body[1]
        payload = body[2:]
        left = ""
        if flags & frames.FILES:
            name, _, payload = payload.partition(b"\n")
            left = name.decode(errors="replace")
        run.reply = (body[0], payload)
        if not self.is_warm or self.on_reply is None:
            return
        if flags & frames.OUTPUT:
            self.pipes.take_unread()
            self._seen += 1
            if run.stopped is None and not flags & frames.UNCLEAN:
                self._post(b"")
        self.pipes.run = None
        self.on_reply(self, flags, left)

    def _may_read(self, fd: int) -> bool:
        """Tell whether what stands in a pipe is of the present call, so that it may be read once."""
        if not self.ahead:
            return True  # there is no call after the present one
        if not has_news(fd):
            return False  # it was read since the loop was told of it
        seen = self._seen
        return self.read_replies() and self._seen == seen

    def close(self) -> None:
        """Close every descriptor; its process is gone, or ends when it notices."""
        fd = self._control.fileno()
        if fd < 0:
            return
        if self._is_writer:
            self._loop.remove_writer(fd)
        self._readers.forget(fd)
        self._control.close()
        if self._calls is not None:
            self._calls.close()
        self.pipes.close()


def _job_of(message: bytes) -> bytes:
    """Give the id of the job of a queued call, which stands first in it."""
    return message if message == frames.LARGE else message.split(b'"', 4)[3]
