"""Many DEALERs that follow one job see the same, each as fast as it grants credit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import zmq

from remoterun.testing import running_node
from tests.hostile.harness import SCRIPTS, descriptors, eventually, sized
from tests.integration.zeromq_sockets import endpoint

CREDIT = 8


def test_followers_see_the_same(place: Path, show: Callable[[str], None]) -> None:
    followers, gate = sized(200), place / "gate"
    with running_node(SCRIPTS, data=place / "data", workers=2) as node, node.connect() as client:
        idle = descriptors(node.pid)
        job = client.submit("floods", gate=str(gate), lines=100, pause=0.005)
        with zmq.Context() as context:
            context.max_sockets = 2 * followers + 10
            poller = zmq.Poller()
            digests = {}
            for number in range(followers):
                dealer = context.socket(zmq.DEALER)
                dealer.linger = 0
                dealer.connect(endpoint(node))
                dealer.send_json({"op": "events", "id": number, "job": job.id, "credit": CREDIT, "token": node.token})
                poller.register(dealer, zmq.POLLIN)
                digests[dealer] = (0, hashlib.sha256())
            ended: list[tuple[int, str]] = []
            while len(ended) < followers:
                ready = poller.poll(60_000)
                assert ready, f"{followers - len(ended)} followers wait in vain"
                for dealer, _ in ready:
                    message = json.loads(dealer.recv())
                    count, digest = digests[dealer]
                    if message.get("end"):
                        ended.append((count, digest.hexdigest()))
                        poller.unregister(dealer)
                        dealer.close()
                        continue
                    count += 1
                    assert message["event"]["n"] == count, message
                    digest.update(json.dumps(message["event"]).encode())
                    digests[dealer] = count, digest
                    dealer.send_json({"op": "credit", "id": message["id"], "n": 1})
                    if all(seen for seen, _ in digests.values()):
                        gate.touch()
        assert len(set(ended)) == 1
        eventually(lambda: descriptors(node.pid) <= idle + 8, "their connections are closed")
    show(f"{followers} DEALERs saw the same {ended[0][0]} events")
