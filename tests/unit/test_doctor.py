"""What doctor says of what it finds: each look, at what is right and at what is not."""

from __future__ import annotations

import datetime
import fcntl
import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from remoterun.access import Tokens
from remoterun.cli.doctor import clock, confinement, disk, keeping, machine, scripts, wires
from remoterun.cli.doctor.redaction import Redaction
from remoterun.store.migrate import HEAD


def test_the_data_folder_is_ours_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert disk.check_data(data).verdict == "ok"
    data.mkdir(mode=0o700)
    assert disk.check_data(data).verdict == "ok"
    data.chmod(0o755)
    assert disk.check_data(data).message.endswith(f"chmod 700 {data}")


def test_scripts_that_others_may_write(tmp_path: Path) -> None:
    folder = tmp_path / "scripts"
    assert scripts.check_scripts(folder).verdict == "warn"
    folder.mkdir(mode=0o755)
    (folder / "a.py").touch()
    assert scripts.check_scripts(folder).message.startswith("1 in ")
    (folder / "a.py").chmod(0o666)
    found = scripts.check_scripts(folder)
    assert found.verdict == "fail"
    assert found.message.endswith(f"chmod o-w {folder}/a.py")
    assert "a.py" not in (found.public or "a.py")


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / /srv rw shared:2 - nfs4 server:/export rw
24 23 0:6 / /srv/fast rw - xfs /dev/vdb rw
25 24 0:7 / /srv/fast rw - tmpfs tmpfs rw
26 22 0:8 / /with\\040space rw - fuse.sshfs x rw
"""


@pytest.mark.parametrize(
    ("folder", "kind", "verdict"),
    [
        ("/var/lib/data", "ext4", "ok"),
        ("/srv/data", "nfs4", "warn"),
        ("/srv/fast/data", "tmpfs", "warn"),
        ("/srvs", "ext4", "ok"),
        ("/with space/data", "fuse.sshfs", "warn"),
    ],
)
def test_the_kind_of_file_system(tmp_path: Path, folder: str, kind: str, verdict: str) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert disk.kind_of(Path(folder), tmp_path / "mounts") == kind
    assert disk.check_kind(kind).verdict == verdict


@pytest.mark.parametrize(
    ("free", "inodes", "total", "verdict"),
    [
        (10 * 2**30, 10**6, 10**7, "ok"),
        (2**29, 10**6, 10**7, "warn"),
        (10 * 2**30, 100, 10**7, "warn"),
        (10 * 2**30, 0, 0, "ok"),
        (2**20, 10**6, 10**7, "fail"),
    ],
)
def test_the_room_that_is_left(free: int, inodes: int, total: int, verdict: str) -> None:
    room = SimpleNamespace(f_bavail=free // 4096, f_frsize=4096, f_favail=inodes, f_files=total)
    assert disk.check_room(cast(os.statvfs_result, room)).verdict == verdict


def times(*moments: float) -> Callable[[], float]:
    return iter(moments).__next__


def test_a_clock_that_jumps_or_is_wrong() -> None:
    now = 1_800_000_000.0
    even = clock.Clock(times(now, now + 1, now + 1), times(5, 6)).look()
    assert "jumped" not in even.message
    jumped = clock.Clock(times(now, now - 3599, now - 3599), times(5, 6)).look()
    assert (jumped.verdict, "jumped by -3600.00 s" in jumped.message) == ("warn", True)
    assert clock.Clock(times(0, 1, 1), times(5, 6)).look().verdict == "fail"


def test_the_kernel_says_whether_the_clock_is_kept_right() -> None:
    assert clock.is_synchronised() in (True, False)


@pytest.mark.parametrize(
    ("version", "has_bug"), [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False)]
)
def test_the_bug_of_sqlite_is_named(version: tuple[int, ...], has_bug: bool) -> None:
    assert ("WAL" in machine.sqlite(version).message) is has_bug


def database(folder: Path, revision: str | None) -> Path:
    file = folder / "remoterun.sqlite3"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        if revision is not None:
            connection.execute("CREATE TABLE alembic_version (version_num)")
            connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    connection.close()
    return file


@pytest.mark.parametrize(
    ("revision", "verdict", "says"),
    [(HEAD, "ok", "this version's"), (None, "ok", "nothing yet"), ("9999", "fail", "upgrade"), ("0000", "ok", "back")],
)
def test_the_revision_of_a_database(tmp_path: Path, revision: str | None, verdict: str, says: str) -> None:
    file = database(tmp_path, revision)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    found = keeping.check_database(file, None)
    assert (found.verdict, says in found.message) == (verdict, True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before, "it is looked at, not touched"


def test_a_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "remoterun.sqlite3").write_bytes(b"no database" * 1000)
    assert keeping.check_database(tmp_path / "remoterun.sqlite3", None).verdict == "fail"
    assert keeping.check_database(tmp_path / "absent", None).verdict == "ok"
    assert "process 7" in keeping.check_database(tmp_path / "remoterun.sqlite3", 7).message


def test_who_holds_a_data_folder(tmp_path: Path) -> None:
    assert keeping.holder_of(tmp_path) is None
    lock = tmp_path / "lock"
    lock.write_text(str(os.getpid()))
    assert keeping.holder_of(tmp_path) is None, "a node that ended has left its number"
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert keeping.holder_of(tmp_path) == os.getpid()


def test_tokens_that_have_expired(tmp_path: Path) -> None:
    assert keeping.check_tokens(tmp_path / "absent").verdict == "ok"
    Tokens(tmp_path).new("for-ever", ["read"])
    assert keeping.check_tokens(tmp_path).message == "1 of them, 1 without an end"
    Tokens(tmp_path).new("short", ["read"], 60)
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    found = keeping.check_tokens(tmp_path, later)
    assert found == ("tokens", "warn", "2 of them, 1 expired: remoterun token revoke short", "2 of them, 1 expired")


def certificate(file: Path, days: int) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    with file.open("ab") as out:
        out.write(made.public_bytes(serialization.Encoding.PEM))
    return file


def test_certificates_that_end(tmp_path: Path) -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def verdict(file: Path, day: int) -> str:
        return wires.check_certificate("http.cert", file, now + datetime.timedelta(days=day)).verdict

    file = certificate(tmp_path / "cert.pem", 100)
    assert [verdict(file, day) for day in (0, 69, 70, 99, 100, 200)] == ["ok", "ok", "warn", "warn", "fail", "fail"]
    certificate(file, 40)  # the first to end of a chain counts
    assert verdict(file, 15) == "warn"
    (tmp_path / "key.pem").write_text("no certificate")
    assert [verdict(tmp_path / name, 0) for name in ("key.pem", "absent")] == ["fail", "fail"]


def test_addresses_and_brokers_of_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (found,) = wires.check_address("http", f"127.0.0.1:{port}")
        assert (found.verdict, "in use" in found.message) == ("fail", True)
        assert wires.check_broker("rabbitmq", f"amqp://me:canary@127.0.0.1:{port}").verdict == "ok"
    (found,) = wires.check_address("http", f"127.0.0.1:{port}")
    assert found.verdict == "ok"
    gone = wires.check_broker("rabbitmq", f"amqp://me:canary@127.0.0.1:{port}")
    assert gone.verdict == "warn"
    assert "canary" not in f"{gone}"
    assert [*wires.check_address("http", "fd:http"), *wires.check_address("http", "127.0.0.1:0")] == []


def groups(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_max", ".max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_lowest_bound_on_the_way_up_counts(tmp_path: Path) -> None:
    root = groups(tmp_path, a__memory_max="1073741824\n", a__b__memory_max="max\n", a__b__pids_max="100\n")
    assert confinement._bounds("0::/a/b\n", root) == {"memory": "1,024 MiB", "processes": "100"}
    assert confinement._bounds("0::/c\n", root) == {"memory": "", "processes": ""}
    (root / "memory" / "x").mkdir(parents=True)
    (root / "memory" / "x" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert confinement._bounds("4:memory:/x\n", root)["memory"] == "", "v1's way to say that there is none"


def test_who_keeps_a_process() -> None:
    assert list(confinement._units("0::/system.slice/remoterun.service\n")) == ["the systemd unit remoterun.service"]
    assert list(confinement._units("0::/user.slice\n")) == []
    assert list(confinement._containers({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})) == ["a pod of Kubernetes"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("ann cannot", "<user> cannot"),
        ("Ann@web-1.example: x", "<user>@<host>.example: x"),
        ("/srv/ann/data/lock is held", "<data>/lock is held"),
        ("/home/other/x.py:3: no", "<path>:3: no"),
        ("/proc/self/status and /usr/bin/python3", "/proc/self/status and /usr/bin/python3"),
        ("amqp://me:pass%2F@broker:5672/%2F", "amqp://<credentials>@broker:5672/%2F"),
        ("10.1.2.3:80, 127.0.0.1:81, fe80:1:2:3::1", "<address>:80, 127.0.0.1:81, <address>"),
        ("[2001:db8::7]:443 ::1 ::", "[<address>]:443 ::1 ::"),
        ("rr_0123456789abcdef", "<token>"),
        ("5.1 MiB, 12:30:45, 3.40.1", "5.1 MiB, 12:30:45, 3.40.1"),
    ],
)
def test_what_is_taken_out(text: str, left: str) -> None:
    redacted = Redaction({"ann": "user", "web-1": "host", "/srv/ann/data": "data"})
    assert redacted(text) == left


def test_nothing_known_takes_nothing_out() -> None:
    anything: Any = Redaction({})
    assert anything("ann cannot") == "ann cannot"
