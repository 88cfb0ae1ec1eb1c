"""The whole command `remoterun run`, beside ssh."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from loads import command_time
from measure import Figure, MeasureError, Row, Target, absent
from place import FLOORS, Place, output_of, remoterun, tool, wait_for_port

_BY_HAND = [sys.executable, str(FLOORS / "hello.py"), "Ada"]


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    node = place.node()
    ours = [remoterun(), "run", "hello", "name=Ada"]
    by_hand = Figure("python hello.py", "ms", lambda: command_time(_BY_HAND))
    kept, new = _ssh(place)
    figure = Figure("remoterun run hello", "ms", lambda: command_time(ours, env={"REMOTERUN_DATA": str(node.data)}))
    return [Row("command: remoterun run hello name=Ada", figure, [by_hand, kept, new], [Target("≤", 0.5, kept)])]


def _ssh(place: Place) -> tuple[Figure, Figure]:
    names = ("ssh, kept connection", "ssh, new connection")
    try:
        connection, configuration = _start_sshd(place)
    except MeasureError as error:
        return absent(names[0], "ms", str(error)), absent(names[1], "ms", str(error))
    ssh = ["ssh", "-F", str(configuration)]
    return (
        Figure(names[0], "ms", lambda: command_time([*ssh, "-S", str(connection), "bench", *_BY_HAND])),
        Figure(names[1], "ms", lambda: command_time([*ssh, "-S", "none", "bench", *_BY_HAND], count=3)),
    )


def _start_sshd(place: Place) -> tuple[Path, Path]:
    """Start an sshd of our own, with its own keys and configuration, and a connection that stays.

    Raises:
        MeasureError: sshd is missing, or does not start so.
    """
    sshd, keygen, ssh = tool("sshd"), tool("ssh-keygen"), tool("ssh")
    folder = place.folder / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        output_of([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)])
    port = place.free_port()
    (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nStrictModes no\nPasswordAuthentication no\nUsePAM no\nPermitRootLogin prohibit-password\n"
    )
    configuration, connection = folder / "ssh_config", folder / "connection"
    user = pwd.getpwuid(os.getuid()).pw_name
    configuration.write_text(
        f"Host bench\nHostName 127.0.0.1\nPort {port}\nUser {user}\nIdentityFile {folder}/user\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {folder}/known\nStrictHostKeyChecking no\nLogLevel ERROR\nBatchMode yes\n"
    )
    place.start([*_private_run(), sshd, "-D", "-f", str(folder / "sshd_config")])
    wait_for_port(port)
    # A master in the foreground: it is ended by its own id, like all that is started here.
    place.start([ssh, "-F", str(configuration), "-M", "-N", "-S", str(connection), "bench"])
    place.wait_for(connection)
    return connection, configuration


def _private_run() -> list[str]:
    """Give what starts a root's sshd with a /run of its own: it wants a folder there that only a service makes."""
    if os.getuid() != 0 or Path("/run/sshd").is_dir():
        return []
    return [tool("unshare"), "--mount", "sh", "-c", 'mount -t tmpfs none /run && mkdir /run/sshd && exec "$@"', "sh"]
